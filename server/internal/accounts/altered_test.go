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
	_, _, err := s.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{Username: "x.y", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: password})
	wantError(t, "a new account", err, ledger.ErrAltered)
}

// openAltered alters the newest entry of the accounts, and opens them.
func (w *world) openAltered(t testing.TB) *accounts.Service {
	t.Helper()
	ledgertest.Alter(w.store.Memory, ledger.Accounts, func(entries []ledger.Entry) []ledger.Entry {
		last := entries[len(entries)-1]
		last.Record[len(last.Record)-10] ^= 1
		return entries
	})
	return w.open(t)
}

// root signs the administrator in.
func root() accounts.SignIn {
	return accounts.SignIn{Username: "root", Password: password + " root", Address: "10.0.0.2"}
}

// What stood before the fault is served.
func TestAlteredAccountsServeWhatStoodBefore(t *testing.T) {
	w := newWorld(t)
	s := w.openAltered(t)
	if got := names(s, ""); got != "root" {
		t.Errorf("got the accounts %q, want root", got)
	}
	if _, _, err := s.Login(t.Context(), root()); err != nil {
		t.Errorf("root cannot sign in: %v", err)
	}
}

// A phone that was lost is signed out also while that cannot be put on record, and
// somebody is told what is not.
func TestSignedOutWhileAltered(t *testing.T) {
	for _, reason := range []string{"logout", "reuse"} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t)
			s := w.openAltered(t)
			_, tokens, err := s.Login(t.Context(), root())
			if err != nil {
				t.Fatal(err)
			}
			other := w.open(t)
			c, err := other.Verify(t.Context(), tokens.Access)
			if err != nil {
				t.Fatal(err)
			}
			if reason == "logout" {
				wantError(t, "signing out", s.Logout(t.Context(), c), nil)
			} else {
				spent := tokens.Refresh
				if _, tokens, err = s.Refresh(t.Context(), spent, ""); err != nil {
					t.Fatal(err)
				}
				_, _, err = s.Refresh(t.Context(), spent, "")
				wantError(t, "a spent token", err, accounts.ErrToken)
			}
			for _, s := range []*accounts.Service{s, other} {
				_, _, err = s.Refresh(t.Context(), tokens.Refresh, "")
				wantError(t, "the refresh token", err, accounts.ErrToken)
				_, err = s.Verify(t.Context(), tokens.Access)
				wantError(t, "the access token", err, accounts.ErrToken)
			}
			if want := "root " + c.Device + " " + reason; len(w.unrecorded) != 1 || w.unrecorded[0] != want {
				t.Errorf("told %q, want %q", w.unrecorded, want)
			}
		})
	}
}

// A password stays as it is while its change cannot be put on record: whoever changes it
// is told that nothing was done.
func TestPasswordsWhileAltered(t *testing.T) {
	w := newWorld(t)
	s := w.openAltered(t)
	_, tokens, err := s.Login(t.Context(), root())
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Verify(t.Context(), tokens.Access)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.ChangePassword(t.Context(), c, root().Password, "another horse battery")
	wantError(t, "a new password", err, ledger.ErrAltered)
	_, err = s.ResetPassword(t.Context(), accounts.By{Account: "root"}, c.Account.ID)
	wantError(t, "a one-time password", err, ledger.ErrAltered)
	if _, _, err := s.Login(t.Context(), root()); err != nil {
		t.Errorf("the old password: %v", err)
	}
}

// Signing out that has failed or whose reply was lost is on record once it is repeated,
// and the device is signed out.
func TestSignOutAgain(t *testing.T) {
	for _, reason := range []string{"logout", "reuse"} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t)
			tokens := w.login(t, right())
			c, err := w.Verify(t.Context(), tokens.Access)
			if err != nil {
				t.Fatal(err)
			}
			spent := tokens.Refresh
			if _, tokens, err = w.Refresh(t.Context(), spent, ""); err != nil {
				t.Fatal(err)
			}
			out := func() error {
				if reason == "logout" {
					return w.Logout(t.Context(), c)
				}
				_, _, err := w.Refresh(t.Context(), spent, "")
				return err
			}
			w.store.OnWrite(func(ledger.Draft) ledgertest.Fault { return ledgertest.Failed })
			wantError(t, "while the store is away", out(), ledger.ErrUnavailable)
			w.store.OnWrite(nil)
			if err := out(); reason == "logout" && err != nil {
				t.Errorf("once more: %v", err)
			}
			_, _, err = w.Refresh(t.Context(), tokens.Refresh, "")
			wantError(t, "the refresh token", err, accounts.ErrToken)
			_, err = w.Verify(t.Context(), tokens.Access)
			wantError(t, "the access token", err, accounts.ErrToken)
			newest, err := w.store.Newest(t.Context(), ledger.Accounts, 0, 1)
			if err != nil || newest[0].Kind != accounts.KindDeviceRevoked {
				t.Errorf("the newest entry is %s, %v", newest[0].Kind, err)
			}
			if len(w.unrecorded) != 0 {
				t.Errorf("told %q of what is on record", w.unrecorded)
			}
		})
	}
}
