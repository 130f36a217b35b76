package accounts_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
)

// An identityWorld is a service that trusts a provider. Its clock is the real
// one, which the provider's tokens go by, plus what a test adds.
type identityWorld struct {
	*accounts.Service
	store    *store
	provider *oidctest.Provider
	ahead    atomic.Int64
}

func (w *identityWorld) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *identityWorld) open(t testing.TB, change ...func(*accounts.IdentityProvider)) *accounts.Service {
	t.Helper()
	p := accounts.IdentityProvider{
		Issuer: w.provider.Issuer, Audience: oidctest.Audience,
		UsernameClaim: "preferred_username", RoleClaim: "xuncha_role", DivisionsClaim: "xuncha_divisions",
	}
	for _, f := range change {
		f(&p)
	}
	s, err := accounts.Open(t.Context(), accounts.Config{Ledger: w.store, Secrets: w.store, Now: w.now, NewID: uuid.NewString, Random: rand.Reader, Provider: &p})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newIdentityWorld(t testing.TB, users ...oidctest.User) *identityWorld {
	t.Helper()
	w := &identityWorld{store: newStore(t), provider: oidctest.Start(t, users...)}
	w.Service = w.open(t)
	return w
}

func wang() oidctest.User {
	return oidctest.User{ID: "u-1", Username: "Wang.Fang", Password: "p", Name: "王芳", Claims: map[string]any{
		"xuncha_role": "officer", "xuncha_divisions": []string{"511603", "511602"},
	}}
}

// refreshed returns tokens that were issued in a later second than the old ones.
func (w *identityWorld) refreshed(t testing.TB, old oidctest.Tokens) oidctest.Tokens {
	t.Helper()
	issued := func(token string) string {
		var c jwt.RegisteredClaims
		if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
			t.Fatal(err)
		}
		return c.IssuedAt.String()
	}
	next := w.provider.Refresh(t, oidctest.Audience, old)
	for issued(next.ID) == issued(old.ID) {
		next = w.provider.Refresh(t, oidctest.Audience, next)
	}
	return next
}

func (w *identityWorld) kinds(t testing.TB) string {
	t.Helper()
	entries, err := w.store.Span(t.Context(), ledger.Accounts, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, string(e.Kind)+" by "+e.Account)
	}
	return strings.Join(out, ", ")
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	u := wang()
	w := newIdentityWorld(t, u)
	if !w.Any() {
		t.Error("a server with an identity provider asks nobody who they are")
	}
	tokens := w.provider.SignIn(t, oidctest.Audience, u)
	var id string
	for name, token := range map[string]string{"ID token": tokens.ID, "access token": tokens.Access} {
		c, err := w.Verify(t.Context(), token)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a := c.Account
		if a.Username != "wang.fang" || a.Role != accounts.Officer || !slices.Equal(a.Divisions, []sites.DivisionCode{"511602", "511603"}) || !a.External() {
			t.Errorf("%s: got %+v", name, a)
		}
		if id == "" {
			id = a.ID
		} else if a.ID != id {
			t.Error("the same person has two accounts")
		}
	}
	if got := w.kinds(t); !strings.HasPrefix(got, "account_created by oidc") {
		t.Errorf("got the history %s", got)
	}

	// What the provider says is on record once, and newer tokens win.
	u.Claims = map[string]any{"xuncha_role": []string{"staff", "head"}, "xuncha_divisions": "511623 511602000000 511602"}
	w.provider.SetUsers(t, u)
	promoted := w.refreshed(t, tokens)
	for range 3 {
		for _, token := range []string{promoted.ID, tokens.ID} {
			c, err := w.Verify(t.Context(), token)
			if err != nil || c.Account.Role != accounts.Head || c.Account.ID != id || !slices.Equal(c.Account.Divisions, []sites.DivisionCode{"511602", "511623"}) {
				t.Errorf("got %+v, %v; want a head of 511602 and 511623", c.Account, err)
			}
		}
	}
	// An access token does not say what the person is called, which changes nothing.
	promoted = w.refreshed(t, promoted)
	if c, err := w.Verify(t.Context(), promoted.Access); err != nil || c.Account.DisplayName != "王芳" {
		t.Errorf("got %+v, %v; want the name to stay", c.Account, err)
	}
	if got, want := w.kinds(t), "account_created by oidc, account_changed by oidc"; got != want {
		t.Errorf("got the history %s, want %s", got, want)
	}
	// Another server, or this one started anew, knows the same account.
	if c, err := w.open(t).Verify(t.Context(), promoted.ID); err != nil || c.Account.ID != id {
		t.Errorf("another server: got %+v, %v", c.Account, err)
	}

	// A new key signs no one out.
	w.provider.RotateKey(t)
	rotated := w.provider.Refresh(t, oidctest.Audience, promoted)
	for _, token := range []string{rotated.ID, promoted.ID} {
		if _, err := w.open(t).Verify(t.Context(), token); err != nil {
			t.Errorf("after a key was rotated: %v", err)
		}
	}

	// What the provider keeps is not changed here, but for disabling, which holds
	// at once.
	_, err := w.Update(t.Context(), accounts.By{Account: "root"}, id, accounts.Change{Divisions: []sites.DivisionCode{"511600"}})
	wantError(t, "Update", err, accounts.ErrKeptElsewhere)
	_, err = w.ResetPassword(t.Context(), accounts.By{Account: "root"}, id)
	wantError(t, "ResetPassword", err, accounts.ErrKeptElsewhere)
	c, err := w.Verify(t.Context(), rotated.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.ChangePassword(t.Context(), c, "p", password)
	wantError(t, "ChangePassword", err, accounts.ErrKeptElsewhere)
	wantError(t, "Logout", w.Logout(t.Context(), c), accounts.ErrKeptElsewhere)
	_, _, err = w.Login(t.Context(), accounts.SignIn{Username: "wang.fang", Password: "p"})
	wantError(t, "Login", err, accounts.ErrSignIn)
	if _, err := w.Disable(t.Context(), accounts.By{Account: "root"}, id); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{rotated.ID, w.refreshed(t, rotated).ID} {
		_, err = w.Verify(t.Context(), token)
		wantError(t, "a disabled account", err, accounts.ErrToken)
	}
}

func TestIdentityRefused(t *testing.T) {
	t.Parallel()
	u := wang()
	w := newIdentityWorld(t, u)
	tokens := w.provider.SignIn(t, oidctest.Audience, u)
	if _, err := w.Verify(t.Context(), tokens.ID); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(tokens.ID, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.MapClaims
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	claims["xuncha_role"] = "admin"
	changed, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	header, _, err := jwt.NewParser().ParseUnverified(tokens.ID, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(method jwt.SigningMethod, key any) string {
		forged := jwt.NewWithClaims(method, claims)
		forged.Header["kid"] = header.Header["kid"]
		text, err := forged.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, token := range map[string]string{
		"another audience":   w.provider.SignIn(t, oidctest.OtherAudience, u).ID,
		"changed":            parts[0] + "." + base64.RawURLEncoding.EncodeToString(changed) + "." + parts[2],
		"another key":        sign(jwt.SigningMethodRS256, stranger),
		"a secret for a key": sign(jwt.SigningMethodHS256, []byte("secret")),
		"alg none":           sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"cut":                tokens.ID[:len(tokens.ID)-10],
	} {
		_, err := w.Verify(t.Context(), token)
		wantError(t, name, err, accounts.ErrToken)
		if err != nil && (strings.Contains(err.Error(), token) || strings.Contains(err.Error(), parts[1])) {
			t.Errorf("%s: the error quotes the token", name)
		}
	}
	w.ahead.Store(int64(10 * time.Minute))
	for name, s := range map[string]*accounts.Service{"known": w.Service, "unknown": w.open(t)} {
		_, err := s.Verify(t.Context(), tokens.ID)
		wantError(t, "expired and "+name, err, accounts.ErrToken)
	}
}

// TestIdentityFromTheFuture ensures that a provider's token that was given more than a
// minute ahead of the server's clock is not taken, and leaves no account.
func TestIdentityFromTheFuture(t *testing.T) {
	t.Parallel()
	u := wang()
	w := newIdentityWorld(t, u)
	token := w.provider.SignIn(t, oidctest.Audience, u).ID
	w.ahead.Store(-int64(3 * time.Minute))
	_, err := w.Verify(t.Context(), token)
	wantError(t, "a token from the future", err, accounts.ErrProvider)
	if got := w.kinds(t); got != "" {
		t.Errorf("it left %s", got)
	}
	w.ahead.Store(-int64(50 * time.Second))
	if _, err := w.Verify(t.Context(), token); err != nil {
		t.Errorf("a token that is 50 seconds ahead: %v", err)
	}
	w.ahead.Store(-int64(3 * time.Minute))
	_, err = w.Verify(t.Context(), token)
	wantError(t, "a known token from the future", err, accounts.ErrProvider)
}

// TestIdentityClaims ensures that the error names the claim that cannot be used,
// and that no account is made of it.
func TestIdentityClaims(t *testing.T) {
	t.Parallel()
	with := func(change func(*oidctest.User)) oidctest.User {
		u := wang()
		change(&u)
		return u
	}
	claim := func(name string, value any) oidctest.User {
		return with(func(u *oidctest.User) { u.Claims[name] = value })
	}
	w := newIdentityWorld(t, wang())
	if _, _, err := w.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{
		Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: password,
	}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		user  oidctest.User
		claim string
	}{
		"no role":             {claim("xuncha_role", nil), "xuncha_role"},
		"another role":        {claim("xuncha_role", "king"), "xuncha_role"},
		"two roles":           {claim("xuncha_role", []string{"officer", "admin"}), "xuncha_role"},
		"a role that is none": {claim("xuncha_role", 7), "xuncha_role"},
		"no divisions":        {claim("xuncha_divisions", []string{}), "xuncha_divisions"},
		"a bad division":      {claim("xuncha_divisions", []string{"Guangan"}), "xuncha_divisions"},
		"numbers":             {claim("xuncha_divisions", []int{511602}), "xuncha_divisions"},
		"a bad username":      {with(func(u *oidctest.User) { u.Username = "=王芳" }), "preferred_username"},
		"a name of ours":      {with(func(u *oidctest.User) { u.Username = "oidc" }), "preferred_username"},
		"somebody's username": {with(func(u *oidctest.User) { u.Username = "root" }), "preferred_username"},
	} {
		w.provider.SetUsers(t, c.user)
		_, err := w.Verify(t.Context(), w.provider.SignIn(t, oidctest.Audience, c.user).ID)
		wantError(t, name, err, accounts.ErrIdentity)
		var field *sites.FieldError
		if !errors.As(err, &field) || field.Field != "claims."+c.claim {
			t.Errorf("%s: got %v, want it to name claims.%s", name, err, c.claim)
		}
	}
	if got := names(w.Service, ""); got != "root" {
		t.Errorf("there are the accounts %s, want root alone", got)
	}

	// Claims may lie deeper, and roles have the names of groups.
	u := with(func(u *oidctest.User) {
		u.Claims = map[string]any{
			"realm_access":                map[string]any{"roles": []string{"offline_access", "town-officers"}},
			"https://example.org/claims.": []string{"511602001"},
			"staff_no":                    "S-0042",
		}
	})
	w.provider.SetUsers(t, u)
	s := w.open(t, func(p *accounts.IdentityProvider) {
		p.UsernameClaim, p.RoleClaim, p.DivisionsClaim = "staff_no", "realm_access.roles", "https://example.org/claims."
		p.RoleOf = map[string]accounts.Role{"town-officers": accounts.Officer, "bureau": accounts.Head}
	})
	c, err := s.Verify(t.Context(), w.provider.SignIn(t, oidctest.Audience, u).ID)
	if err != nil || c.Account.Username != "s-0042" || c.Account.Role != accounts.Officer || c.Account.Divisions[0] != "511602001" {
		t.Errorf("got %+v, %v", c.Account, err)
	}
}

// TestProviderAway ensures that a provider that does not answer is told apart
// from a token that is wrong, and is asked again.
func TestProviderAway(t *testing.T) {
	u := wang()
	w := newIdentityWorld(t, u)
	tokens := w.provider.SignIn(t, oidctest.Audience, u)
	w.provider.Stop()
	_, err := w.Verify(t.Context(), tokens.ID)
	wantError(t, "a provider that never answered", err, accounts.ErrProvider)
	w.provider.Restart(t) // with another key
	w.ahead.Store(int64(5 * time.Second))
	_, err = w.Verify(t.Context(), tokens.ID)
	wantError(t, "a token by a key that there is no more", err, accounts.ErrToken)
	fresh := w.provider.SignIn(t, oidctest.Audience, u)
	if _, err := w.Verify(t.Context(), fresh.ID); err != nil {
		t.Error(err)
	}
	w.provider.Stop()
	if _, err := w.Verify(t.Context(), fresh.Access); err != nil {
		t.Errorf("a known key needs no provider: %v", err)
	}
	_, err = w.Verify(t.Context(), tokens.ID)
	wantError(t, "an unknown key, and nobody to ask", err, accounts.ErrProvider)
}

func TestNoPasswords(t *testing.T) {
	u := wang()
	w := newIdentityWorld(t, u)
	if _, _, err := w.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{
		Username: "root", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: password,
	}); err != nil {
		t.Fatal(err)
	}
	_, own, err := w.Login(t.Context(), accounts.SignIn{Username: "root", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Verify(t.Context(), own.Access); err != nil {
		t.Errorf("passwords beside a provider: %v", err)
	}
	only := w.open(t, func(p *accounts.IdentityProvider) { p.Only = true })
	_, err = only.Verify(t.Context(), own.Access)
	wantError(t, "Verify", err, accounts.ErrToken)
	_, _, err = only.Login(t.Context(), accounts.SignIn{Username: "root", Password: password})
	wantError(t, "Login", err, accounts.ErrNoPasswords)
	_, _, err = only.Refresh(t.Context(), own.Refresh, "")
	wantError(t, "Refresh", err, accounts.ErrNoPasswords)
	_, _, err = only.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{Username: "li.wei", Role: accounts.Officer, Divisions: []sites.DivisionCode{"511600"}})
	wantError(t, "Create", err, accounts.ErrNoPasswords)
	if _, err := only.Verify(t.Context(), w.provider.SignIn(t, oidctest.Audience, u).ID); err != nil {
		t.Error(err)
	}
}
