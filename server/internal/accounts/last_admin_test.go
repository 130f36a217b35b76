package accounts_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
)

// ofAdminsAbove are the rights of administrators over their own divisions and those below,
// whose codes begin alike.
func ofAdminsAbove(by *accounts.Account, code sites.DivisionCode) bool {
	return by.Role == accounts.Admin && by.Disabled.IsZero() && slices.ContainsFunc(by.Divisions, func(own sites.DivisionCode) bool {
		return strings.HasPrefix(string(code), strings.TrimRight(string(own), "0"))
	})
}

// by returns who changes accounts, with the rights of an administrator.
func by(name string) accounts.By { return accounts.By{Account: name, May: ofAdminsAbove} }

// administrator creates one, who has signed in unless the password is empty.
func (w *world) administrator(t *testing.T, name, password string, codes ...sites.DivisionCode) (a *accounts.Account, oneTime string) {
	t.Helper()
	a, oneTime, err := w.Create(t.Context(), by("root"), accounts.NewAccount{Username: name, Role: accounts.Admin, Divisions: codes, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return a, oneTime
}

// TestLastAdministrator ensures that nobody takes the last administrator away who could
// appoint another one, unless by force, and that all others can go.
func TestLastAdministrator(t *testing.T) {
	t.Parallel()
	head := accounts.Head
	changes := map[string]func(w *world, by accounts.By, id string) error{
		"disabled": func(w *world, by accounts.By, id string) error {
			_, err := w.Disable(context.Background(), by, id)
			return err
		},
		"another role": func(w *world, by accounts.By, id string) error {
			_, err := w.Update(context.Background(), by, id, accounts.Change{Role: &head})
			return err
		},
		"other divisions": func(w *world, by accounts.By, id string) error {
			_, err := w.Update(context.Background(), by, id, accounts.Change{Divisions: []sites.DivisionCode{"511602"}})
			return err
		},
	}
	for _, test := range []struct {
		name  string
		other func(t *testing.T, w *world)
		last  bool
	}{
		{"alone", func(*testing.T, *world) {}, true},
		{"with a county's", func(t *testing.T, w *world) { w.administrator(t, "county", password, "511602") }, true},
		{"with another", func(t *testing.T, w *world) { w.administrator(t, "second", password, "511600") }, false},
		{"with one of two counties", func(t *testing.T, w *world) { w.administrator(t, "second", password, "511602", "511603") }, true},
		{"with a new one", func(t *testing.T, w *world) { w.administrator(t, "second", "", "511600") }, false},
		{"with one who never signed in", func(t *testing.T, w *world) {
			w.administrator(t, "second", "", "511600")
			w.advance(8 * 24 * time.Hour)
		}, true},
		{"with one who is disabled", func(t *testing.T, w *world) {
			a, _ := w.administrator(t, "second", password, "511600")
			if _, err := w.Disable(t.Context(), by("root"), a.ID); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		for name, change := range changes {
			t.Run(test.name+" "+name, func(t *testing.T) {
				w := newQuickWorld(t, unnoticed)
				test.other(t, w)
				root := w.idOf("root")
				err := change(w, by("root"), root)
				if !test.last {
					if err != nil {
						t.Error(err)
					}
					return
				}
				var field *sites.FieldError
				if !errors.Is(err, accounts.ErrLastAdministrator) || !errors.As(err, &field) || field.Field != "account_id" {
					t.Errorf("got %v, want ErrLastAdministrator of account_id", err)
				}
				if a, err := w.Get(root); err != nil || a.Role != accounts.Admin || !a.Disabled.IsZero() || a.Divisions[0] != "511600" {
					t.Errorf("the account is now %+v, %v", a, err)
				}
				forced := by("root")
				forced.Force = true
				if err := change(w, forced, root); err != nil {
					t.Errorf("by force: %v", err)
				}
			})
		}
	}
}

// TestNotTheLastAdministrator ensures that what takes no administrator away is no question
// of the last one.
func TestNotTheLastAdministrator(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	name, admin := "罗特", accounts.Admin
	county, _ := w.administrator(t, "county", password, "511602")
	head := accounts.Head
	for what, err := range map[string]error{
		"another name":      second(w.Update(t.Context(), by("root"), w.idOf("root"), accounts.Change{DisplayName: &name})),
		"the same role":     second(w.Update(t.Context(), by("root"), w.idOf("root"), accounts.Change{Role: &admin})),
		"more divisions":    second(w.Update(t.Context(), accounts.By{Account: "root"}, w.idOf("root"), accounts.Change{Divisions: []sites.DivisionCode{"511600", "511700"}})),
		"a county's":        second(w.Update(t.Context(), by("root"), county.ID, accounts.Change{Role: &head})),
		"an officer":        second(w.Disable(t.Context(), by("root"), w.officer.ID)),
		"a disabled county": second(w.Disable(t.Context(), by("root"), county.ID)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestLastAdministratorsAtOnce ensures that of two administrators who disable each other at
// the same moment, on two servers, one stays.
func TestLastAdministratorsAtOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		w := newQuickWorld(t, unnoticed)
		a, _ := w.administrator(t, "second", password, "511600")
		root, there := w.idOf("root"), w.open(t)
		if err := w.follow(t, there); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		errs := make([]error, 2)
		group.Go(func() { _, errs[0] = w.Disable(context.Background(), by("root"), a.ID) })
		group.Go(func() { _, errs[1] = there.Disable(context.Background(), by("second"), root) })
		group.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("got %v, want one to succeed", errs)
		}
		// And where each of them leaves by oneself.
		w = newQuickWorld(t, unnoticed)
		a, _ = w.administrator(t, "second", password, "511600")
		root, there = w.idOf("root"), w.open(t)
		group.Go(func() { _, errs[0] = w.Disable(context.Background(), by("root"), root) })
		group.Go(func() { _, errs[1] = there.Disable(context.Background(), by("second"), a.ID) })
		group.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("by themselves: got %v, want one to succeed", errs)
		}
	}
}

// TestLastAdministratorOfAProvider ensures that accounts count that can sign in here: those
// of the provider, and where it alone is asked, no others. What it says is followed.
func TestLastAdministratorOfAProvider(t *testing.T) {
	t.Parallel()
	u := wang()
	u.Claims = map[string]any{"xuncha_role": "admin", "xuncha_divisions": []string{"511600"}}
	w := newIdentityWorld(t, u)
	root, _, err := w.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	tokens := w.provider.SignIn(t, oidctest.Audience, u)
	c, err := w.Verify(t.Context(), tokens.ID)
	if err != nil {
		t.Fatal(err)
	}
	// Where the provider is another by now, nobody of it signs in.
	moved := w.open(t, func(p *accounts.IdentityProvider) { p.Issuer += "/moved" })
	_, err = moved.Disable(t.Context(), by("root"), root.ID)
	wantError(t, "the last with a password, of a provider that moved", err, accounts.ErrLastAdministrator)
	// Where it alone is asked, nobody signs in with a password.
	only := w.open(t, func(p *accounts.IdentityProvider) { p.Only = true })
	_, err = only.Disable(t.Context(), by("root"), c.Account.ID)
	wantError(t, "the last of the provider", err, accounts.ErrLastAdministrator)
	if _, err := only.Disable(t.Context(), by("wang.fang"), root.ID); err != nil {
		t.Errorf("one who cannot sign in: %v", err)
	}
	_, err = w.Disable(t.Context(), by("wang.fang"), c.Account.ID)
	wantError(t, "the last of all", err, accounts.ErrLastAdministrator)
	u.Claims = map[string]any{"xuncha_role": "head", "xuncha_divisions": []string{"511600"}}
	w.provider.SetUsers(t, u)
	if c, err = w.Verify(t.Context(), w.refreshed(t, tokens).ID); err != nil || c.Account.Role != accounts.Head {
		t.Errorf("got %+v, %v; want a head, as the provider says", c.Account, err)
	}
}
