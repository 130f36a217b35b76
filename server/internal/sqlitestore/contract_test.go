package sqlitestore

import (
	"testing"

	"go.uber.org/goleak"

	"xuncha/inspections/photos/photostest"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/sites/sitestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContracts(t *testing.T) {
	folders := map[*Store]string{}
	open := func(tb testing.TB) *Store {
		dir := tb.TempDir()
		s := openIn(tb, dir)
		folders[s] = dir
		return s
	}
	reopen := func(tb testing.TB, old *Store) *Store {
		if err := old.Close(); err != nil {
			tb.Fatal(err)
		}
		s := openIn(tb, folders[old])
		folders[s] = folders[old]
		return s
	}
	t.Run("Accounts", func(t *testing.T) { accountstest.Run(t, open, reopen) })
	t.Run("Sites", func(t *testing.T) { sitestest.Run(t, open, reopen) })
	t.Run("Photos", func(t *testing.T) { photostest.Run(t, open, reopen) })
	t.Run("Ledger", func(t *testing.T) { ledgertest.Run(t, ledgertest.Harness[*Store]{Open: open, Reopen: reopen}) })
}
