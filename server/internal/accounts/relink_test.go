package accounts_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
)

var byOperator = accounts.By{Account: "operator"}

// relink moves the accounts to the issuer, and fails the test where anything is wrong.
func relink(t testing.TB, s *accounts.Service, issuer string, links ...accounts.Link) (oneTime []string) {
	t.Helper()
	plan, wrong := s.PlanRelinks(issuer, links)
	if len(wrong) > 0 {
		t.Fatalf("link %d: %v", wrong[0].Index, wrong[0].Err)
	}
	for _, r := range plan {
		password, err := s.Relink(t.Context(), byOperator, r, "the city has a new provider")
		if err != nil {
			t.Fatal(err)
		}
		oneTime = append(oneTime, password)
	}
	return oneTime
}

// at opens the accounts of the store as a server does that trusts the provider. It notes
// whose usernames were taken.
func (w *identityWorld) at(t testing.TB, p *oidctest.Provider, taken *[]string) *accounts.Service {
	t.Helper()
	s, err := accounts.Open(t.Context(), accounts.Config{
		Ledger: w.store, Secrets: w.store, Now: w.now, NewID: uuid.NewString, Random: rand.Reader,
		Provider: &accounts.IdentityProvider{
			Issuer: p.Issuer, Audience: oidctest.Audience,
			UsernameClaim: "preferred_username", RoleClaim: "xuncha_role", DivisionsClaim: "xuncha_divisions",
		},
		UsernameTaken: func(username, issuer, subject string) {
			*taken = append(*taken, fmt.Sprintf("%s is %s of %s", username, subject, issuer))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestProviderMoves ensures that people get into their accounts again whose identity
// provider has another address, with all that the accounts could do, and that the tokens of
// the provider before are worth nothing then.
func TestProviderMoves(t *testing.T) {
	t.Parallel()
	u := wang()
	w := newIdentityWorld(t, u)
	old := w.provider.SignIn(t, oidctest.Audience, u)
	before, err := w.Verify(t.Context(), old.ID)
	if err != nil {
		t.Fatal(err)
	}
	other := oidctest.Start(t, u)
	var taken []string
	moved := w.at(t, other, &taken)
	token := other.SignIn(t, oidctest.Audience, u).ID
	for range 2 {
		_, err = moved.Verify(t.Context(), token)
		wantError(t, "a token of the new provider", err, accounts.ErrIdentity)
		wantError(t, "a token of the new provider", err, accounts.ErrUsernameTaken)
	}
	if want := "wang.fang is u-1 of " + other.Issuer; !slices.Equal(taken, []string{want, want}) {
		t.Errorf("those who run the server hear %q, want twice %q", taken, want)
	}

	links := moved.LinksOf(w.provider.Issuer)
	if want := []accounts.Link{{Username: "wang.fang", Subject: "u-1"}}; !slices.Equal(links, want) {
		t.Fatalf("got the accounts %v of the old provider, want %v", links, want)
	}
	relink(t, moved, other.Issuer, links...)
	for name, s := range map[string]*accounts.Service{"this server": moved, "one that starts": w.at(t, other, &taken)} {
		after, err := s.Verify(t.Context(), token)
		if err != nil || after.Account.ID != before.Account.ID || after.Account.Role != accounts.Officer || !after.Account.External() {
			t.Errorf("%s: got %+v, %v; want the account as it was", name, after.Account, err)
		}
	}
	if err := w.Reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"a token of the old provider":         second(w.Verify(t.Context(), old.ID)),
		"another one":                         second(w.Verify(t.Context(), old.Access)),
		"a call of the old one that lasts":    second(w.Still(t.Context(), before, old.ID)),
		"a token of the old, at a new server": second(w.at(t, w.provider, &taken).Verify(t.Context(), old.ID)),
	} {
		wantError(t, name, err, accounts.ErrToken)
	}

	// What the new provider says counts from its first token on, and what was before stays.
	u.Claims["xuncha_role"] = "head"
	other.SetUsers(t, u)
	promoted := other.SignIn(t, oidctest.Audience, u).ID
	after, err := moved.Verify(t.Context(), promoted)
	if err != nil || after.Account.Role != accounts.Head || !after.Account.Had([]accounts.Role{accounts.Officer}) {
		t.Errorf("got %+v, %v; want a head who was an officer", after.Account, err)
	}
	if role, _ := after.Account.At(time.Now().Add(-time.Hour)); role != accounts.Officer {
		t.Errorf("an hour ago it was %s, want officer", role)
	}
	if got, want := w.kinds(t), "account_created by oidc, account_changed by operator, account_changed by oidc"; got != want {
		t.Errorf("got the history %s, want %s", got, want)
	}
	events, _, err := moved.History(t.Context(), 0, 10, func(e *accounts.Event) bool { return e.Reason != "" })
	if err != nil || len(events) != 1 || events[0].Reason != "the city has a new provider" || events[0].Issuer != other.Issuer || events[0].Subject != "u-1" {
		t.Errorf("got %+v, %v; want whose the account is, and why", events, err)
	}

	// The same once more changes nothing, and back again is a move like any other.
	relink(t, moved, other.Issuer, links...)
	if got := strings.Count(w.kinds(t), "by operator"); got != 1 {
		t.Errorf("the same once more: got %d entries by the operator, want 1", got)
	}
	relink(t, moved, w.provider.Issuer, links...)
	if err := w.Reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, err := w.Verify(t.Context(), old.ID); err != nil || c.Account.ID != before.Account.ID {
		t.Errorf("back again: got %+v, %v", c.Account, err)
	}
	_, err = moved.Verify(t.Context(), token)
	wantError(t, "a token of the provider that it was moved away from", err, accounts.ErrToken)
}

func second[T any](_ T, err error) error { return err }

// TestPasswordAccountMoves ensures that nothing that an account with a password signed in
// with lets anybody in once an identity provider has it, and that it can go back.
func TestPasswordAccountMoves(t *testing.T) {
	t.Parallel()
	u := wang()
	w := newIdentityWorld(t, u)
	n := accounts.NewAccount{Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: password}
	if _, _, err := w.Create(t.Context(), byOperator, n); err != nil {
		t.Fatal(err)
	}
	n.Username, n.Role = "wang.fang", accounts.Officer
	made, _, err := w.Create(t.Context(), byOperator, n)
	if err != nil {
		t.Fatal(err)
	}
	in := accounts.SignIn{Username: "wang.fang", Password: password}
	_, device, err := w.Login(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := w.Verify(t.Context(), device.Access)
	if err != nil {
		t.Fatal(err)
	}
	stored, _, err := w.store.Secret(t.Context(), "password/"+made.ID)
	if err != nil {
		t.Fatal(err)
	}
	late := w.open(t) // another server, which has not heard of what follows
	token := w.provider.SignIn(t, oidctest.Audience, u).ID
	_, err = w.Verify(t.Context(), token)
	wantError(t, "a token of the provider", err, accounts.ErrUsernameTaken)

	relink(t, w.Service, w.provider.Issuer, accounts.Link{Username: " Wang.Fang ", Subject: "u-1"})
	if c, err := w.Verify(t.Context(), token); err != nil || c.Account.ID != made.ID {
		t.Errorf("the provider's token: got %+v, %v", c.Account, err)
	}
	for _, s := range []*accounts.Service{w.Service, w.open(t)} {
		_, _, login := s.Login(t.Context(), in)
		wantError(t, "the password", login, accounts.ErrSignIn)
		_, _, refresh := s.Refresh(t.Context(), device.Refresh, "")
		wantError(t, "the refresh token", refresh, accounts.ErrToken)
		wantError(t, "the access token", second(s.Verify(t.Context(), device.Access)), accounts.ErrToken)
		wantError(t, "a call that lasts", second(s.Still(t.Context(), caller, device.Access)), accounts.ErrToken)
		wantError(t, "a new password", second(s.ResetPassword(t.Context(), byOperator, made.ID)), accounts.ErrKeptElsewhere)
	}
	if got := secretsOf(t, w, made.ID); len(got) != 0 {
		t.Errorf("the store has %q of the account still", got)
	}
	// What a server does with the password that knows of nothing gives no way in.
	wantError(t, "a new password by another server", second(late.ResetPassword(t.Context(), byOperator, made.ID)), accounts.ErrKeptElsewhere)
	if err := w.store.DeleteSecret(t.Context(), "password/"+made.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.store.PutSecret(t.Context(), "password/"+made.ID, 0, stored); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.Login(t.Context(), in)
	wantError(t, "a password that another server has stored meanwhile", err, accounts.ErrSignIn)

	given := relink(t, w.Service, "", accounts.Link{Username: "wang.fang"})
	in = accounts.SignIn{Username: "wang.fang", Password: given[0], NewPassword: password + " again"}
	if a, _, err := w.Login(t.Context(), in); err != nil || a.ID != made.ID {
		t.Errorf("with the one-time password: got %+v, %v", a, err)
	}
	_, err = w.Verify(t.Context(), token)
	wantError(t, "the provider's token, once it has a password", err, accounts.ErrToken)
	// Where what the command has printed was lost, it prints another one.
	if again := relink(t, w.Service, "", accounts.Link{Username: "wang.fang"}); again[0] == "" || again[0] == given[0] {
		t.Errorf("once more: got the one-time password %q", again[0])
	}
}

// secretsOf returns the names of what the account signs in with.
func secretsOf(t testing.TB, w *identityWorld, id string) (out []string) {
	t.Helper()
	err := w.store.Secrets(t.Context(), "", func(name string, _ []byte) error {
		if strings.Contains(name, id) {
			out = append(out, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRelinkDisabled ensures that whoever is kept out stays so when the provider moves,
// under another username too.
func TestRelinkDisabled(t *testing.T) {
	t.Parallel()
	u := wang()
	w := newIdentityWorld(t, u)
	c, err := w.Verify(t.Context(), w.provider.SignIn(t, oidctest.Audience, u).ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Disable(t.Context(), byOperator, c.Account.ID); err != nil {
		t.Fatal(err)
	}
	u.Username = "fang.wang"
	w.provider.SetUsers(t, u)
	renamed := w.provider.SignIn(t, oidctest.Audience, u).ID
	other := oidctest.Start(t, u)
	var taken []string
	moved := w.at(t, other, &taken)
	relink(t, moved, other.Issuer, moved.LinksOf(w.provider.Issuer)...)
	_, err = moved.Verify(t.Context(), other.SignIn(t, oidctest.Audience, u).ID)
	wantError(t, "at the new provider", err, accounts.ErrToken)
	_, err = w.at(t, w.provider, &taken).Verify(t.Context(), renamed)
	wantError(t, "at the old one", err, accounts.ErrToken)
	if given := relink(t, moved, "", accounts.Link{Username: "wang.fang"}); given[0] != "" || len(secretsOf(t, w, c.Account.ID)) != 0 {
		t.Errorf("a disabled account got the password %q", given[0])
	}
	_, err = moved.Verify(t.Context(), other.SignIn(t, oidctest.Audience, u).ID)
	wantError(t, "once it has no provider", err, accounts.ErrToken)
}

// TestPlanRelinks ensures that all that is wrong with a table of accounts is found at once,
// and that no account gets another's subject.
func TestPlanRelinks(t *testing.T) {
	w := newWorld(t)
	const issuer = "https://id.example.org"
	relink(t, w.Service, issuer, accounts.Link{Username: "li.wei", Subject: "s-1"})
	long := strings.Repeat("主", accounts.MaxSubject)
	links := []accounts.Link{
		{Username: "li.wei", Subject: "s-1"},
		{Username: "root", Subject: "s-1"},
		{Username: "nobody", Subject: "s-2"},
		{Username: "", Subject: "s-2"},
		{Username: "root", Subject: ""},
		{Username: "root", Subject: long + "主"},
		{Username: "root", Subject: "1.08112E+20"},
		{Username: "root", Subject: "a\u202eb"},
		{Username: "ＬＩ.WEI", Subject: "s-3"}, // of another width, as a spreadsheet may have it
		{Username: "root", Subject: long},
	}
	plan, wrong := w.PlanRelinks(issuer, links)
	var got []string
	for _, e := range wrong {
		var field *sites.FieldError
		if !errors.As(e.Err, &field) {
			t.Errorf("link %d: %v names no field", e.Index, e.Err)
			continue
		}
		got = append(got, fmt.Sprint(e.Index, " ", field.Field))
	}
	want := []string{"1 subject", "2 username", "3 username", "4 subject", "5 subject", "6 subject", "7 subject", "8 username"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(plan) != 2 || !plan[0].Done() || plan[1].Done() || plan[1].Account.Username != "root" {
		t.Errorf("got the plan %+v", plan)
	}
	if plan, wrong := w.PlanRelinks(issuer, []accounts.Link{{Username: "root", Subject: "7e12"}}); len(plan) != 1 || len(wrong) > 0 {
		t.Errorf("a subject that only looks like a number: got %v", wrong)
	}
	// One issuer with a slash behind it is another issuer.
	if plan, wrong := w.PlanRelinks(issuer+"/", links[:1]); len(wrong) > 0 || plan[0].Done() {
		t.Errorf("with a slash: got %+v, %v", plan, wrong)
	}
	if got := w.Issuers(); len(got) != 1 || got[issuer] != 1 {
		t.Errorf("got the issuers %v", got)
	}
	// Two plans that were made at once give nobody's subject away.
	root := accounts.Link{Username: "root", Subject: "s-9"}
	first, _ := w.PlanRelinks(issuer, []accounts.Link{root})
	second, _ := w.PlanRelinks(issuer, []accounts.Link{{Username: "li.wei", Subject: "s-9"}})
	if _, err := w.Relink(t.Context(), byOperator, first[0], ""); err != nil {
		t.Fatal(err)
	}
	_, err := w.Relink(t.Context(), byOperator, second[0], "")
	wantError(t, "a subject that was given away meanwhile", err, accounts.ErrSubjectTaken)
	_, err = w.Relink(t.Context(), byOperator, first[0], strings.Repeat("x", 501))
	wantError(t, "a long reason", err, sites.ErrTooLong)
}
