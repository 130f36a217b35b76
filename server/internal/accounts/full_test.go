package accounts_test

import (
	"errors"
	"testing"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
)

func (s *store) fill() {
	s.Memory.Fill(true)
	s.MemorySecrets.Fill(true)
}

// TestFullStore holds which deeds may use the reserve of a store that is full.
func TestFullStore(t *testing.T) {
	for name, deed := range map[string]func(t *testing.T, w *world) error{
		"sign in": func(t *testing.T, w *world) error {
			_, _, err := w.Login(t.Context(), right())
			return err
		},
		"sign in with a one-time password": func(t *testing.T, w *world) error {
			in := right()
			var err error
			if in.Password, err = w.ResetPassword(t.Context(), accounts.By{Account: "root"}, w.officer.ID); err != nil {
				return err
			}
			in.NewPassword = "another horse battery"
			_, _, err = w.Login(t.Context(), in)
			return err
		},
		"refresh, and use a token twice": func(t *testing.T, w *world) error {
			tokens := w.login(t, right())
			if _, _, err := w.Refresh(t.Context(), tokens.Refresh, ""); err != nil {
				return err
			}
			_, _, err := w.Refresh(t.Context(), tokens.Refresh, "")
			if errors.Is(err, ledger.ErrFull) {
				return err
			}
			wantError(t, "a spent token", err, accounts.ErrToken)
			return nil
		},
		"sign out": func(t *testing.T, w *world) error {
			c, err := w.Verify(t.Context(), w.login(t, right()).Access)
			if err != nil {
				return err
			}
			return w.Logout(t.Context(), c)
		},
		"change the password": func(t *testing.T, w *world) error {
			c, err := w.Verify(t.Context(), w.login(t, right()).Access)
			if err != nil {
				return err
			}
			_, err = w.ChangePassword(t.Context(), c, password, "another horse battery")
			return err
		},
		"disable": func(t *testing.T, w *world) error {
			_, err := w.Disable(t.Context(), accounts.By{Account: "root"}, w.officer.ID)
			return err
		},
		"look at something": func(t *testing.T, w *world) error {
			return w.Accessed(t.Context(), "root", accounts.Access{Method: "m", Division: "511600"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.store.fill()
			if err := deed(t, w); err != nil {
				t.Errorf("got %v, want it to go on", err)
			}
		})
	}
	w := newWorld(t)
	w.store.fill()
	_, _, err := w.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{Username: "chen.jie", Role: accounts.Officer, Divisions: []sites.DivisionCode{"511602"}, Password: password})
	wantError(t, "another account", err, ledger.ErrFull)
	other := "X"
	_, err = w.Update(t.Context(), accounts.By{Account: "root"}, w.officer.ID, accounts.Change{DisplayName: &other})
	wantError(t, "another name", err, ledger.ErrFull)
}

// A caller with an identity provider's token, which is how these sign in, gets an account
// also where the store is full.
func TestFullStoreIdentity(t *testing.T) {
	t.Parallel()
	u := wang()
	w := newIdentityWorld(t, u)
	w.store.fill()
	if _, err := w.Verify(t.Context(), w.provider.SignIn(t, oidctest.Audience, u).Access); err != nil {
		t.Error(err)
	}
}
