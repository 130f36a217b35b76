package accounts_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// ofAdmins are the rights of administrators over the codes of their own divisions.
func ofAdmins(by *accounts.Account, code sites.DivisionCode) bool {
	return by.Role == accounts.Admin && by.Disabled.IsZero() && slices.Contains(by.Divisions, code)
}

// onFirst is random, and calls do before it gives anything for the first time.
type onFirst struct{ do func() }

func (r *onFirst) Read(b []byte) (int, error) {
	if do := r.do; do != nil {
		r.do = nil
		do()
	}
	return rand.Read(b)
}

// TestMayNotAnyMore ensures that an administrator who loses the rights between the call and
// its decision, also on another server, changes no account.
func TestMayNotAnyMore(t *testing.T) {
	head, other := accounts.Head, []sites.DivisionCode{"511603"}
	for _, loss := range []struct {
		name   string
		reason error // of a change of the officer
		lose   func(t *testing.T, w *world, boss, officer *accounts.Account) error
	}{
		{"disabled", accounts.ErrUnknown, func(t *testing.T, w *world, boss, _ *accounts.Account) error {
			_, err := w.Disable(t.Context(), accounts.By{Account: "root"}, boss.ID)
			return err
		}},
		{"no administrator", accounts.ErrUnknown, func(t *testing.T, w *world, boss, _ *accounts.Account) error {
			_, err := w.Update(t.Context(), accounts.By{Account: "root"}, boss.ID, accounts.Change{Role: &head})
			return err
		}},
		{"moved", accounts.ErrUnknown, func(t *testing.T, w *world, boss, _ *accounts.Account) error {
			_, err := w.Update(t.Context(), accounts.By{Account: "root"}, boss.ID, accounts.Change{Divisions: other})
			return err
		}},
	} {
		for name, change := range map[string]func(t *testing.T, s *accounts.Service, by accounts.By, officer *accounts.Account) error{
			"Create": func(t *testing.T, s *accounts.Service, by accounts.By, _ *accounts.Account) error {
				_, _, err := s.Create(t.Context(), by, accounts.NewAccount{Username: "mole", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511602"}})
				return err
			},
			"Update": func(t *testing.T, s *accounts.Service, by accounts.By, officer *accounts.Account) error {
				_, err := s.Update(t.Context(), by, officer.ID, accounts.Change{Role: &head})
				return err
			},
			"Disable": func(t *testing.T, s *accounts.Service, by accounts.By, officer *accounts.Account) error {
				_, err := s.Disable(t.Context(), by, officer.ID)
				return err
			},
			"ResetPassword": func(t *testing.T, s *accounts.Service, by accounts.By, officer *accounts.Account) error {
				_, err := s.ResetPassword(t.Context(), by, officer.ID)
				return err
			},
		} {
			t.Run(loss.name+" "+name, func(t *testing.T) {
				w := newWorld(t)
				create := func(name string, role accounts.Role) *accounts.Account {
					a, _, err := w.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{Username: name, Role: role, Divisions: []sites.DivisionCode{"511602"}, Password: password})
					if err != nil {
						t.Fatal(err)
					}
					return a
				}
				boss, officer := create("boss", accounts.Admin), create("officer", accounts.Officer)
				// The loss is stored by another server, as the call has begun.
				here := &onFirst{}
				s, err := accounts.Open(t.Context(), accounts.Config{Ledger: w.store, Secrets: w.store, Now: w.clock, NewID: uuid.NewString, Random: here})
				if err != nil {
					t.Fatal(err)
				}
				lose := func() {
					if err := loss.lose(t, w, boss, officer); err != nil {
						t.Error(err)
					}
					if name == "ResetPassword" {
						if err := s.Reread(t.Context()); err != nil {
							t.Error(err)
						}
					}
				}
				if name == "Create" || name == "ResetPassword" {
					here.do = lose
				} else {
					lose()
				}
				err = change(t, s, accounts.By{Account: "boss", May: ofAdmins}, officer)
				want := loss.reason
				if name == "Create" {
					want = sites.ErrDivisionUnknown
				}
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				newest, err := w.store.Newest(t.Context(), ledger.Accounts, 0, 1)
				if err != nil || newest[0].Account == "boss" {
					t.Errorf("it is stored: %v, %v", newest, err)
				}
				// Nobody is locked out by what was refused.
				if _, _, err := w.Login(t.Context(), accounts.SignIn{Username: "officer", Password: password}); err != nil {
					t.Errorf("the officer signs in: %v", err)
				}
			})
		}
	}
}
