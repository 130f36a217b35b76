package accounts_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
)

// TestSameWork counts what is done for a sign-in that fails: whatever the reason, it is the
// same, so that neither the answer nor the time tells who has an account.
func TestSameWork(t *testing.T) {
	t.Parallel()
	u := wang()
	w := newIdentityWorld(t, u)
	if _, err := w.Verify(t.Context(), w.provider.SignIn(t, oidctest.Audience, u).Access); err != nil {
		t.Fatal(err)
	}
	create := func(name, password string) (*accounts.Account, string) {
		a, oneTime, err := w.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{
			Username: name, Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602"}, Password: password,
		})
		if err != nil {
			t.Fatal(err)
		}
		return a, oneTime
	}
	create("right", password)
	gone, _ := create("gone", password)
	if _, err := w.Disable(t.Context(), accounts.By{Account: "root"}, gone.ID); err != nil {
		t.Fatal(err)
	}
	_, late := create("late", "")
	_, unused := create("unused", "")
	w.ahead.Store(int64(8 * 24 * time.Hour))
	var hashes []accounts.Hash
	w.OnHash(false, func(_ string, h accounts.Hash) { hashes = append(hashes, h) })
	type work struct {
		reads, hashes, failures int
		hash                    accounts.Hash
	}
	var want work
	for i, test := range []struct{ name, username, password string }{
		{"an unknown username", "nobody", password},
		{"a username that none can be", "no body!", password},
		{"a wrong password", "right", "wrong"},
		{"a disabled account", "gone", password},
		{"a wrong password of a disabled account", "gone", "wrong"},
		{"an expired one-time password", "late", late},
		{"a wrong one-time password", "unused", unused + "x"},
		{"an account of the identity provider", "wang.fang", password},
	} {
		hashes = nil
		before, reads := w.Remembered(test.username), w.store.read.Load()
		_, _, err := w.Login(t.Context(), accounts.SignIn{Username: test.username, Password: test.password, Address: fmt.Sprintf("10.0.%d.1", i)})
		if !errors.Is(err, accounts.ErrSignIn) || err.Error() != accounts.ErrSignIn.Error() {
			t.Errorf("%s: got %v, want %v", test.name, err, accounts.ErrSignIn)
		}
		got := work{reads: int(w.store.read.Load() - reads), hashes: len(hashes), failures: w.Remembered(test.username) - before}
		if len(hashes) > 0 {
			got.hash = hashes[0]
		}
		if i == 0 {
			want = got
			if want.reads != 1 || want.hashes != 1 || want.failures != 1 {
				t.Errorf("%s: got %+v, want one of each", test.name, got)
			}
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v as for an unknown username", test.name, got, want)
		}
	}
}

// TestChangePasswordWaitsForNoStranger ensures that strangers' failures do not keep those
// who are signed in from changing their passwords, and that a token that was stolen gives
// five tries.
func TestChangePasswordWaitsForNoStranger(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	c, err := w.Verify(t.Context(), w.login(t, of("root", "10.0.0.1")).Access)
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		_, _, _ = w.Login(t.Context(), accounts.SignIn{Username: "root", Password: "wrong", Address: "10.0.0.1"})
	}
	tokens, err := w.ChangePassword(t.Context(), c, of("root", "").Password, "another horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if c, err = w.Verify(t.Context(), tokens.Access); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		want := accounts.ErrSignIn
		if i == 5 {
			want = accounts.ErrThrottled
		}
		_, err := w.ChangePassword(t.Context(), c, "wrong", "a third horse battery")
		wantError(t, fmt.Sprint("wrong ", i), err, want)
	}
}
