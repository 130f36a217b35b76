package mongostore

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"xuncha/inspections/photos/photostest"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/server/internal/mongostore/mongotest"
	"xuncha/sites/sitestest"
)

// server is what all tests share that do not kill theirs.
var server *mongotest.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = mongotest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}), goleak.IgnoreCurrent())
}

// openAt opens the database at the address and closes it when the test ends.
func openAt(tb testing.TB, uri string) *Store {
	tb.Helper()
	s, err := Open(context.Background(), uri, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func TestContracts(t *testing.T) {
	addresses := map[*Store]string{}
	open := func(tb testing.TB) *Store {
		uri := server.Database(tb)
		s := openAt(tb, uri)
		addresses[s] = uri
		return s
	}
	reopen := func(tb testing.TB, old *Store) *Store {
		if err := old.Close(); err != nil {
			tb.Fatal(err)
		}
		s := openAt(tb, addresses[old])
		addresses[s] = addresses[old]
		return s
	}
	t.Run("Accounts", func(t *testing.T) { accountstest.Run(t, open, reopen) })
	t.Run("Sites", func(t *testing.T) { sitestest.Run(t, open, reopen) })
	t.Run("Photos", func(t *testing.T) { photostest.Run(t, open, reopen) })
	t.Run("Ledger", func(t *testing.T) { ledgertest.Run(t, ledgertest.Harness[*Store]{Open: open, Reopen: reopen}) })
}
