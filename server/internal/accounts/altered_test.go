package accounts_test

import (
	"testing"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// Where the very first account's entry does not verify, nothing is known of any account.
// A server that took that for having none let everybody in.
func TestAlteredAccountsLetNobodyIn(t *testing.T) {
	w := newWorld(t)
	ledgertest.Alter(w.store.Memory, ledger.Accounts, func(entries []ledger.Entry) []ledger.Entry {
		entries[0].Record[len(entries[0].Record)-10] ^= 1
		return entries
	})
	s := w.open(t)
	if !s.Any() {
		t.Error("a server whose accounts were altered asks nobody who they are")
	}
	_, _, err := s.Create(t.Context(), "local", accounts.NewAccount{Username: "x.y", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: password})
	wantError(t, "a new account", err, ledger.ErrAltered)
}

// What stood before the fault is served.
func TestAlteredAccountsServeWhatStoodBefore(t *testing.T) {
	w := newWorld(t)
	ledgertest.Alter(w.store.Memory, ledger.Accounts, func(entries []ledger.Entry) []ledger.Entry {
		last := entries[len(entries)-1]
		last.Record[len(last.Record)-10] ^= 1
		return entries
	})
	s := w.open(t)
	if got := names(s, ""); got != "root" {
		t.Errorf("got the accounts %q, want root", got)
	}
	in := right()
	in.Username, in.Password = "root", password+" root"
	if _, _, err := s.Login(t.Context(), in); err != nil {
		t.Errorf("root cannot sign in: %v", err)
	}
}
