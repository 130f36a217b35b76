package accounts_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"xuncha/internal/texts"
	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
)

// misleading are display names that a terminal acts upon, or that show what they do not
// say.
var misleading = []string{"李\x1b[2J伟", "李\n伟", "李\u202e伟", "李\u200b伟", "李\u009b31m伟", "李\u2028伟"}

func wantFaultOf(t testing.TB, what string, err error, want string) {
	t.Helper()
	var fields []string
	for _, f := range sites.FieldErrorsOf(err) {
		fields = append(fields, f.Field)
	}
	if got := strings.Join(fields, " "); got != want || !errors.Is(err, sites.ErrInvalid) {
		t.Errorf("%s: got %v, want %s refused", what, err, want)
	}
}

// TestDisplayNames holds that a person's name follows the rules of all other names, and
// that one of earlier times stays and hinders nothing.
func TestDisplayNames(t *testing.T) {
	w := newWorld(t)
	for _, name := range misleading {
		_, _, err := w.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{
			Username: "zhang", DisplayName: name, Role: accounts.Head, Divisions: []sites.DivisionCode{"511600"}, Password: password,
		})
		wantFaultOf(t, fmt.Sprintf("a new account called %+q", name), err, "display_name")
		_, err = w.Update(t.Context(), accounts.By{Account: "root"}, w.officer.ID, accounts.Change{DisplayName: &name})
		wantFaultOf(t, fmt.Sprintf("an account that is to be called %+q", name), err, "display_name")
	}
	// An earlier version has stored such a name.
	const old = "李\x1b[2J伟"
	content, err := json.Marshal(map[string]any{
		"account_id": w.officer.ID, "username": "li.wei", "display_name": old, "role": "officer", "division_codes": []string{"511602"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.store.Append(t.Context(), ledger.Draft{
		History: ledger.Accounts, ID: "3f2504e0-4f89-41d3-9a0c-0305e82c3301", Kind: accounts.KindChanged, Time: w.clock(), Account: "root", Content: content,
	}); err != nil {
		t.Fatal(err)
	}
	s := w.open(t)
	head, same := accounts.Head, old
	a, err := s.Update(t.Context(), accounts.By{Account: "root"}, w.officer.ID, accounts.Change{Role: &head, DisplayName: &same})
	if err != nil || a.DisplayName != old || a.Role != head {
		t.Errorf("got %+v, %v; want the account changed and its name as it was", a, err)
	}
	if a, err = s.Update(t.Context(), accounts.By{Account: "root"}, w.officer.ID, accounts.Change{DisplayName: &same}); err != nil || a.DisplayName != old {
		t.Errorf("got %+v, %v; want that nothing is changed", a, err)
	}
}

// TestCleanedNames holds that nobody is kept from signing in for what a phone or an
// identity provider calls them, and that nothing of it does harm.
func TestCleanedNames(t *testing.T) {
	w := newWorld(t)
	for _, name := range misleading {
		in := right()
		in.DeviceName = name
		w.login(t, in)
	}
	for _, id := range w.devices(t) {
		value, _, err := w.store.Secret(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(value); !strings.Contains(text, `"李`) || texts.Clean(text) != text || strings.Contains(text, `\u`) || strings.Contains(text, `\n`) {
			t.Errorf("the device is stored as %s", value)
		}
	}
	for _, name := range misleading {
		u := wang()
		u.Name = name + " " + strings.Repeat("长", accounts.MaxDisplayName)
		p := newIdentityWorld(t, u)
		c, err := p.Verify(t.Context(), p.provider.SignIn(t, oidctest.Audience, u).ID)
		if err != nil {
			t.Errorf("%+q is kept out: %v", name, err)
		} else if got := c.Account.DisplayName; sites.CheckText("display_name", got, 1, accounts.MaxDisplayName) != nil || !strings.HasPrefix(got, "李") {
			t.Errorf("%+q is called %+q", name, got)
		}
	}
}
