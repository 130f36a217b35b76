// Package enginetest runs every contract that an engine has to keep. An engine joins
// with one line in a test of its own:
//
//	enginetest.Run(t, newAddress, openAt)
package enginetest

import (
	"sync"
	"testing"

	"xuncha/inspections/photos/photostest"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/server/internal/clock"
	"xuncha/server/internal/clock/clocktest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// An Engine is where a deployment keeps what it knows.
type Engine interface {
	comparable
	ledger.Store
	sites.Rows
	accounts.Secrets
	clock.Notes
	photostest.Engine
	Close() error
}

// Run tests an engine. NewAddress returns an address at which there is nothing yet,
// and open opens the store there, which it leaves to the test's Cleanup to close.
// Both end the test where they fail.
func Run[E Engine](t *testing.T, newAddress func(testing.TB) string, open func(testing.TB, string) E) {
	var mu sync.Mutex
	addresses := map[E]string{}
	at := func(tb testing.TB, address string) E {
		tb.Helper()
		e := open(tb, address)
		mu.Lock()
		defer mu.Unlock()
		addresses[e] = address
		return e
	}
	empty := func(tb testing.TB) E {
		tb.Helper()
		return at(tb, newAddress(tb))
	}
	again := func(tb testing.TB, old E) E {
		tb.Helper()
		if err := old.Close(); err != nil {
			tb.Fatal(err)
		}
		mu.Lock()
		address := addresses[old]
		mu.Unlock()
		return at(tb, address)
	}
	for name, contract := range map[string]func(*testing.T){
		"Accounts": func(t *testing.T) { accountstest.Run(t, empty, again) },
		"Notes":    func(t *testing.T) { clocktest.Run(t, empty, again) },
		"Sites":    func(t *testing.T) { sitestest.Run(t, empty, again) },
		"Photos":   func(t *testing.T) { photostest.Run(t, empty, again) },
		"Ledger":   func(t *testing.T) { ledgertest.Run(t, ledgertest.Harness[E]{Open: empty, Reopen: again}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract(t)
		})
	}
}
