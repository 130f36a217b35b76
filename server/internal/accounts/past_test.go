package accounts_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
)

// at says what the account could do at t.
func at(a *accounts.Account, t time.Time) string {
	role, divisions := a.At(t)
	return fmt.Sprint(role, " ", divisions)
}

// TestPast ensures that an account tells what it could do at any time: from the moment of
// each change on, and before the first as it was created, also after a restart.
func TestPast(t *testing.T) {
	w := newWorld(t)
	created := w.clock()
	change := func(c accounts.Change) {
		t.Helper()
		w.advance(time.Hour)
		if _, err := w.Update(t.Context(), accounts.By{Account: "root"}, w.officer.ID, c); err != nil {
			t.Fatal(err)
		}
	}
	name, head := "李伟 (广安)", accounts.Head
	change(accounts.Change{Divisions: []sites.DivisionCode{"511603", "511621"}})
	change(accounts.Change{DisplayName: &name})
	change(accounts.Change{Role: &head})
	if _, err := w.ResetPassword(t.Context(), accounts.By{Account: "root"}, w.officer.ID); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*accounts.Service{w.Service, w.open(t)} {
		a, err := s.Get(w.officer.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			t    time.Time
			want string
		}{
			{time.Time{}, "officer [511602]"},
			{created, "officer [511602]"},
			{created.Add(time.Hour - 1), "officer [511602]"},
			{created.Add(time.Hour), "officer [511603 511621]"},
			{created.Add(3*time.Hour - 1), "officer [511603 511621]"},
			{created.Add(3 * time.Hour), "head [511603 511621]"},
			{created.Add(999 * time.Hour), "head [511603 511621]"},
		} {
			if got := at(a, c.t); got != c.want {
				t.Errorf("at %s: got %s, want %s", c.t, got, c.want)
			}
		}
		if !a.Had([]accounts.Role{accounts.Officer}) || !a.Had([]accounts.Role{accounts.Head}) || a.Had([]accounts.Role{accounts.Admin, accounts.Auditor}) {
			t.Error("want an account that was an officer's and is a head's, and no other")
		}
	}
}

// TestPastOfIdentity ensures that what a token of the identity provider says holds from
// when the token was given, also where the first call with it comes later, and that it is
// known what held for this server meanwhile.
func TestPastOfIdentity(t *testing.T) {
	t.Parallel()
	u := wang()
	w := newIdentityWorld(t, u)
	tokens := w.provider.SignIn(t, oidctest.Audience, u)
	if _, err := w.Verify(t.Context(), tokens.ID); err != nil {
		t.Fatal(err)
	}
	u.Claims = map[string]any{"xuncha_role": "officer", "xuncha_divisions": "511623"}
	w.provider.SetUsers(t, u)
	next := w.refreshed(t, tokens)
	given := w.now()
	w.ahead.Store(int64(20 * time.Second))
	c, err := w.Verify(t.Context(), next.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, got := c.Account.At(given.Add(time.Second)); !slices.Equal(got, []sites.DivisionCode{"511623"}) {
		t.Errorf("just after the token was given: got %v, want 511623", got)
	}
	if _, got := c.Account.KnownAt(given.Add(time.Second)); len(got) != 2 {
		t.Errorf("just after the token was given, as known then: got %v, want the two divisions of before", got)
	}
	if _, got := c.Account.KnownAt(w.now()); !slices.Equal(got, []sites.DivisionCode{"511623"}) {
		t.Errorf("known now: got %v, want 511623", got)
	}
	if _, got := c.Account.At(given.Add(-time.Minute)); len(got) != 2 {
		t.Errorf("before it was given: got %v, want the two divisions of before", got)
	}
}

// TestStill ensures that a call that lasts is known to be nobody's any more as soon as a
// new one would be refused.
func TestStill(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(t *testing.T, w *world, c accounts.Caller) error
		good bool
	}{
		"nothing": {func(*testing.T, *world, accounts.Caller) error { return nil }, true},
		"expired": {func(_ *testing.T, w *world, _ accounts.Caller) error { w.advance(accounts.AccessLifetime); return nil }, false},
		"disabled": {func(t *testing.T, w *world, c accounts.Caller) error {
			_, err := w.Disable(t.Context(), accounts.By{Account: "root"}, c.Account.ID)
			return err
		}, false},
		"signed out": {func(t *testing.T, w *world, c accounts.Caller) error { return w.Logout(t.Context(), c) }, false},
		"password": {func(t *testing.T, w *world, c accounts.Caller) error {
			_, err := w.ResetPassword(t.Context(), accounts.By{Account: "root"}, c.Account.ID)
			return err
		}, false},
		"keys":    {func(t *testing.T, w *world, _ accounts.Caller) error { return w.ReplaceKeys(t.Context()) }, false},
		"rotated": {func(t *testing.T, w *world, _ accounts.Caller) error { return w.RotateKeys(t.Context()) }, true},
		"moved": {func(t *testing.T, w *world, c accounts.Caller) error {
			_, err := w.Update(t.Context(), accounts.By{Account: "root"}, c.Account.ID, accounts.Change{Divisions: []sites.DivisionCode{"511603"}})
			return err
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			token := w.login(t, right()).Access
			caller, err := w.Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.end(t, w, caller); err != nil {
				t.Fatal(err)
			}
			now, err := w.Still(t.Context(), caller, token)
			if !c.good {
				wantError(t, name, err, accounts.ErrToken)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want, _ := w.Get(caller.Account.ID); now.Account != want {
				t.Error("got the account as it was, want it as it is")
			}
		})
	}
}
