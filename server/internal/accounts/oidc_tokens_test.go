package accounts_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// TestKeysOfAProvider ensures that keys which cannot be read, or are for something else,
// stand in the way of no good one beside them (RFC 7517 section 5), and that a token rests
// only on a key that allows how it is signed.
func TestKeysOfAProvider(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one")
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small := oidctest.Key{ID: "one", Private: &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}}}
	x := base64.RawURLEncoding.EncodeToString
	for name, c := range map[string]struct {
		keys   []any
		method jwt.SigningMethod
		key    any
		id     string
		want   error
	}{
		"alone":                      {keys: []any{key.JWK(nil)}},
		"its own algorithm":          {keys: []any{key.JWK(map[string]any{"alg": "RS256"})}},
		"another algorithm":          {keys: []any{key.JWK(map[string]any{"alg": "RS512"}), oidctest.NewKey(t, "two").JWK(nil)}, want: accounts.ErrToken},
		"PS256 by a key of RS256":    {keys: []any{key.JWK(map[string]any{"alg": "RS256"})}, method: jwt.SigningMethodPS256, want: accounts.ErrToken},
		"PS256 by a key of any":      {keys: []any{key.JWK(nil)}, method: jwt.SigningMethodPS256},
		"for encryption":             {keys: []any{key.JWK(map[string]any{"use": "enc"}), oidctest.NewKey(t, "two").JWK(nil)}, want: accounts.ErrToken},
		"for signatures":             {keys: []any{key.JWK(map[string]any{"use": "sig", "key_ops": []string{"verify"}})}},
		"not to verify":              {keys: []any{key.JWK(map[string]any{"key_ops": []string{"encrypt"}}), oidctest.NewKey(t, "two").JWK(nil)}, want: accounts.ErrToken},
		"an unknown kind beside":     {keys: []any{map[string]any{"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}, key.JWK(nil)}},
		"a number beside":            {keys: []any{7, nil, "x", []any{}, key.JWK(nil)}},
		"no kty beside":              {keys: []any{map[string]any{"kid": "x"}, key.JWK(nil)}},
		"a kid that is none beside":  {keys: []any{map[string]any{"kty": "RSA", "kid": 7}, key.JWK(nil)}},
		"a broken key beside":        {keys: []any{key.JWK(map[string]any{"kid": "x", "n": "!!"}), key.JWK(nil)}},
		"a broken chain beside":      {keys: []any{key.JWK(map[string]any{"kid": "x", "x5c": []string{"AAAA"}}), key.JWK(nil)}},
		"a point off the curve":      {keys: []any{map[string]any{"kty": "EC", "crv": "P-256", "kid": "x", "x": x(make([]byte, 32)), "y": x(make([]byte, 32))}, key.JWK(nil)}},
		"a secret beside":            {keys: []any{map[string]any{"kty": "oct", "kid": "one", "k": "c2VjcmV0"}, key.JWK(nil)}},
		"a secret key of the issuer": {keys: []any{map[string]any{"kty": "oct", "kid": "one", "k": "c2VjcmV0"}, key.JWK(map[string]any{"kid": "two"})}, method: jwt.SigningMethodHS256, key: []byte("secret"), want: accounts.ErrToken},
		"signed by a broken key":     {keys: []any{key.JWK(map[string]any{"e": ""}), oidctest.NewKey(t, "two").JWK(nil)}, want: accounts.ErrProvider},
		"signed by a small key":      {keys: []any{small.JWK(nil), oidctest.NewKey(t, "two").JWK(nil)}, want: accounts.ErrProvider},
		"two of one name":            {keys: []any{oidctest.NewKey(t, "one").JWK(nil), key.JWK(nil)}},
		"no name":                    {keys: []any{oidctest.NewKey(t, "two").JWK(nil), key.JWK(nil)}, id: "-"},
		"an elliptic curve":          {keys: []any{key.JWK(nil), jose.JSONWebKey{Key: ec.Public(), KeyID: "ec"}}, method: jwt.SigningMethodES256, key: ec, id: "ec"},
		"Ed25519":                    {keys: []any{jose.JSONWebKey{Key: ed.Public(), KeyID: "ed", Algorithm: "EdDSA"}}, method: jwt.SigningMethodEdDSA, key: ed, id: "ed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newScriptedWorld(t, false)
			w.provider.Publish(c.keys...)
			method, private, header := jwt.SigningMethod(jwt.SigningMethodRS256), any(key.Private), map[string]any{"kid": "one"}
			if c.method != nil {
				method = c.method
			}
			if c.key != nil {
				private = c.key
			}
			if c.id == "-" {
				header["kid"] = nil
			} else if c.id != "" {
				header["kid"] = c.id
			}
			_, err := w.Verify(t.Context(), oidctest.SignWith(t, method, private, "", w.provider.Claims(wang(), w.now(), nil), header))
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if wrong := errors.Is(err, accounts.ErrToken); wrong != (c.want == accounts.ErrToken) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestIdentityTokensRefused ensures that a token of the provider is taken only where it is
// one to call this server with.
func TestIdentityTokensRefused(t *testing.T) {
	t.Parallel()
	w := newScriptedWorld(t, false, func(c *accounts.Config) { c.Provider.Clients = []string{"desktop"} })
	now := w.now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	type m = map[string]any
	for name, c := range map[string]struct {
		claims, header m
		want           error
		says           string
	}{
		"good":                         {},
		"an access token":              {header: m{"typ": "at+jwt"}},
		"an access token in full":      {header: m{"typ": "application/AT+JWT"}},
		"no type":                      {header: m{"typ": nil}},
		"a logout token's type":        {header: m{"typ": "logout+jwt"}, want: accounts.ErrToken, says: "another kind of token"},
		"a type that is none":          {header: m{"typ": 7}, want: accounts.ErrToken},
		"events":                       {claims: m{"events": m{"http://schemas.openid.net/event/backchannel-logout": m{}}}, want: accounts.ErrToken, says: "signs out"},
		"critical":                     {header: m{"crit": []string{"b64"}, "b64": true}, want: accounts.ErrToken},
		"its own key":                  {header: m{"jwk": oidctest.NewKey(t, "x").JWK(nil), "kid": "x"}, want: accounts.ErrToken},
		"a nonce":                      {claims: m{"nonce": "n"}},
		"given to us":                  {claims: m{"azp": oidctest.Audience}},
		"given to another app":         {claims: m{"azp": "evil-app"}, want: accounts.ErrToken, says: "azp"},
		"given to an app of the flag":  {claims: m{"azp": "desktop"}},
		"given to nothing":             {claims: m{"azp": 7}, want: accounts.ErrToken},
		"for two, given to us":         {claims: m{"aud": []string{"x", oidctest.Audience}, "azp": oidctest.Audience}},
		"for two, given to nobody":     {claims: m{"aud": []string{"x", oidctest.Audience}}, want: accounts.ErrToken, says: "azp"},
		"for two, given to another":    {claims: m{"aud": []string{"x", oidctest.Audience}, "azp": "x"}, want: accounts.ErrToken},
		"for two, a client of ours":    {claims: m{"aud": []string{"x", oidctest.Audience}, "client_id": "desktop"}},
		"for another":                  {claims: m{"aud": "x"}, want: accounts.ErrToken},
		"for nobody":                   {claims: m{"aud": nil}, want: accounts.ErrToken},
		"expired":                      {claims: m{"exp": at(-time.Second)}, want: accounts.ErrToken, says: "expired"},
		"no exp":                       {claims: m{"exp": nil}, want: accounts.ErrToken},
		"an exp that is none":          {claims: m{"exp": "tomorrow"}, want: accounts.ErrToken},
		"an exp beyond all time":       {claims: m{"exp": 1e300}, want: accounts.ErrToken},
		"for 24 hours":                 {claims: m{"iat": at(0), "exp": at(24 * time.Hour)}},
		"for longer":                   {claims: m{"iat": at(0), "exp": at(24*time.Hour + time.Minute)}, want: accounts.ErrIdentity, says: "claims.exp: the identity provider's token cannot be used: it lies more than 24 hours after iat"},
		"for ten years":                {claims: m{"exp": at(87600 * time.Hour)}, want: accounts.ErrIdentity, says: "claims.exp"},
		"given 50 seconds ahead":       {claims: m{"iat": at(50 * time.Second)}},
		"given two minutes ahead":      {claims: m{"iat": at(2 * time.Minute)}, want: accounts.ErrProvider, says: "ahead of this server's clock"},
		"expired and given ahead":      {claims: m{"iat": at(2 * time.Minute), "exp": at(-time.Second)}, want: accounts.ErrToken, says: "expired"},
		"begins from the first":        {claims: m{"nbf": 0}},
		"times with a fraction":        {claims: m{"iat": float64(now.UnixMilli()) / 1000, "nbf": float64(now.UnixMilli()) / 1000, "exp": float64(now.UnixMilli())/1000 + 60.5}},
		"begins two minutes ahead":     {claims: m{"nbf": at(2 * time.Minute)}, want: accounts.ErrToken, says: "not valid yet"},
		"begins when nobody can tell":  {claims: m{"nbf": "x"}, want: accounts.ErrToken},
		"no iat":                       {claims: m{"iat": nil}, want: accounts.ErrIdentity, says: "claims.iat"},
		"no sub":                       {claims: m{"sub": nil}, want: accounts.ErrIdentity, says: "claims.sub"},
		"a sub of another kind":        {claims: m{"sub": 7}, want: accounts.ErrIdentity, says: "claims.sub"},
		"a sub that is long":           {claims: m{"sub": strings.Repeat("s", 256)}, want: accounts.ErrIdentity, says: "claims.sub"},
		"a sub as long as may be":      {claims: m{"sub": strings.Repeat("主", 255), "preferred_username": "long"}},
		"more than is read":            {claims: m{"groups": strings.Repeat("g", 16<<10)}, want: accounts.ErrIdentity, says: "at most 16384"},
		"far more than is read":        {claims: m{"groups": strings.Repeat("g", 64<<10)}, want: accounts.ErrToken, says: "at most 16384"},
		"a claim twice in other cases": {claims: m{"ISS": "x", "Aud": "x", "EXP": 1}},
	} {
		_, err := w.Verify(t.Context(), w.token(t, c.claims, c.header))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: got %v, want it to say %q", name, err, c.says)
		}
	}
}

// TestIdentityEndsWithItsKey ensures that what is known of a token ends once the provider
// has withdrawn the key that it rests on, also of a call that lasts, and that a known token
// is looked at anew.
func TestIdentityEndsWithItsKey(t *testing.T) {
	t.Parallel()
	w := newScriptedWorld(t, false)
	next := oidctest.NewKey(t, "next")
	token := w.token(t, map[string]any{"exp": w.now().Add(5 * time.Hour).Unix()}, nil)
	caller, err := w.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	// A refetch for the sake of another key takes it along.
	w.provider.Publish(next.JWK(nil))
	if _, err := w.Verify(t.Context(), oidctest.SignWith(t, jwt.SigningMethodRS256, next.Private, "next", w.provider.Claims(wang(), w.now(), nil), nil)); err != nil {
		t.Fatal(err)
	}
	_, err = w.Still(t.Context(), caller, token)
	if !errors.Is(err, accounts.ErrToken) {
		t.Errorf("a call that lasts: got %v, want %v", err, accounts.ErrToken)
	}
	_, err = w.Verify(t.Context(), token)
	wantError(t, "a token whose key is gone", err, accounts.ErrToken)

	// Without one, the keys are asked for beside the calls once they are ten minutes old.
	w.provider.Publish(next.JWK(nil), w.provider.Key.JWK(nil))
	w.ahead.Add(int64(time.Minute))
	token = w.token(t, map[string]any{"exp": w.now().Add(5 * time.Hour).Unix()}, nil)
	if _, err := w.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	w.provider.Publish(next.JWK(nil))
	w.ahead.Add(int64(11 * time.Minute))
	until := time.Now().Add(20 * time.Second)
	for err == nil || !errors.Is(err, accounts.ErrToken) {
		if time.Now().After(until) {
			t.Fatalf("got %v, want the token to end with its key", err)
		}
		_, err = w.Verify(t.Context(), token)
	}
}

// TestRoleIsNotPinned ensures that a token from a clock that is ahead does not make later
// ones be ignored, also of an account that earlier versions have left in that state.
func TestRoleIsNotPinned(t *testing.T) {
	t.Parallel()
	w := newScriptedWorld(t, false)
	verify := func(s *accounts.Service, name string, iat time.Duration, role, want accounts.Role) {
		t.Helper()
		c, err := s.Verify(t.Context(), w.token(t, map[string]any{"iat": w.now().Add(iat).Unix(), "xuncha_role": string(role)}, nil))
		if err != nil || c.Account.Role != want {
			t.Errorf("%s: got %+v, %v; want %s", name, c.Account, err, want)
		}
	}
	verify(w.Service, "the first, which is ahead", 50*time.Second, accounts.Officer, accounts.Officer)
	w.ahead.Add(int64(5 * time.Second))
	verify(w.Service, "a later one of a clock that is right", 0, accounts.Head, accounts.Head)
	verify(w.Service, "one that is ahead again", 50*time.Second, accounts.Auditor, accounts.Head)
	w.ahead.Add(int64(5 * time.Second))
	verify(w.Service, "a later one", 0, accounts.Admin, accounts.Admin)

	// As a version that did not look stored it: a token of the year after next.
	a := w.account(t, "wang.fang")
	if _, _, err := w.store.Append(t.Context(), ledger.Draft{
		ID: "00000000-0000-4000-8000-0000000000aa", History: ledger.Accounts, Kind: accounts.KindChanged, Time: w.now(), Account: "oidc",
		Content: []byte(`{"account_id":"` + a.ID + `","username":"wang.fang","role":"officer","division_codes":["511602"],"issuer":"` + w.provider.Issuer +
			`","subject":"u-1","token_time":"` + w.now().AddDate(2, 0, 0).UTC().Format(time.RFC3339) + `"}`),
	}); err != nil {
		t.Fatal(err)
	}
	w.ahead.Add(int64(5 * time.Second))
	verify(w.open(t), "after a token of the future", 0, accounts.Head, accounts.Head)
}

func (w *scriptedWorld) account(t testing.TB, username string) *accounts.Account {
	t.Helper()
	for a := range w.After("") {
		if a.Username == username {
			return a
		}
	}
	t.Fatalf("there is no account %s", username)
	return nil
}

// TestIdentityUsernames ensures that e-mail addresses and Chinese names are usernames, in
// one form each, and that nothing is which does harm where it is printed.
func TestIdentityUsernames(t *testing.T) {
	t.Parallel()
	w := newScriptedWorld(t, false)
	for name, want := range map[string]string{
		"Wang.Fang@Example.ORG":   "wang.fang@example.org",
		"王芳":                      "王芳",
		"王芳01":                    "王芳01",
		"ｌｉ．ｗｅｉ":                  "li.wei",
		"ÅSA":                     "åsa",
		"A\u030asa.b":             "åsa.b",
		"o'brien+site@x.example":  "o'brien+site@x.example",
		"li_x.cn#ext#@x.example":  "li_x.cn#ext#@x.example",
		"e\u0301milie":            "émilie",
		strings.Repeat("王", 128):  strings.Repeat("王", 128),
		strings.Repeat("王", 129):  "",
		strings.Repeat("x", 1000): "",
		"ｏｐｅｒａｔｏｒ":                "",
		"=cmd":                    "",
		"-rf":                     "",
		"a/b":                     "",
		`a\b`:                     "",
		"a\"b":                    "",
		"<script>":                "",
		"wang\u202efang":          "",
		"wang\u200dfang":          "",
		"wang\x00fang":            "",
		"wang\x1b[31m":            "",
		"👩":                       "",
		"\u0301a":                 "",
		"wang\ufdd0":              "",
		"oidc":                    "",
	} {
		c, err := w.Verify(t.Context(), w.token(t, map[string]any{"sub": "of " + base64.StdEncoding.EncodeToString([]byte(name))[:min(40, len(name))], "preferred_username": name}, nil))
		switch {
		case want == "":
			if !errors.Is(err, accounts.ErrIdentity) || !strings.Contains(err.Error(), "claims.preferred_username") {
				t.Errorf("%q: got %v, want that it is no username", name, err)
			}
		case err != nil || c.Account.Username != want:
			t.Errorf("%q: got %v, %v; want %q", name, c.Account, err, want)
		}
	}
}

// TestIdentityDivisions ensures that the divisions of a token are those that the roster
// knows, that others beside them are passed over and told, and that before there is a
// roster somebody can come in who makes one.
func TestIdentityDivisions(t *testing.T) {
	t.Parallel()
	var roster *sites.Roster
	w := newScriptedWorld(t, false, func(c *accounts.Config) { c.Roster = func() *sites.Roster { return roster } })
	roster = rosterOf(t)
	verify := func(sub string, divisions any) (string, error) {
		t.Helper()
		w.ahead.Add(int64(2 * time.Second))
		c, err := w.Verify(t.Context(), w.token(t, map[string]any{"sub": sub, "preferred_username": sub, "xuncha_divisions": divisions}, nil))
		if err != nil {
			return "", err
		}
		var out []string
		for _, code := range c.Account.Divisions {
			out = append(out, string(code))
		}
		return strings.Join(out, " "), nil
	}
	wants := func(sub string, divisions any, want string) {
		t.Helper()
		if got, err := verify(sub, divisions); err != nil || got != want {
			t.Errorf("%s with %v: got %s, %v; want %s", sub, divisions, got, err, want)
		}
	}
	wants("first", "100000", "100000")
	roster = rosterOf(t, "511600", "511602")
	wants("li", "511602", "511602")
	wants("li", []string{"511602", "511699", "Guangan", "511602000000"}, "511602")
	if got := strings.Join(w.passed, " "); got != "Guangan 511699" {
		t.Errorf("told were %q", got)
	}
	for _, divisions := range []any{"511699", "Guangan", []string{"511699", "511698"}, []string{}} {
		_, err := verify("zhao", divisions)
		if !errors.Is(err, accounts.ErrIdentity) || !strings.Contains(err.Error(), "claims.xuncha_divisions") {
			t.Errorf("%v: got %v, want it to name the claim", divisions, err)
		}
	}
	if _, err := verify("zhao", "511699"); err == nil || !strings.Contains(err.Error(), "511699") {
		t.Errorf("got %v, want it to name the code", err)
	}
	// Whoever was let in before is so with what the roster knows, or not.
	if _, err := verify("first", "100000"); !errors.Is(err, accounts.ErrIdentity) {
		t.Errorf("a division that is not on the roster now: got %v", err)
	}
	// A table that has the code gives it to whoever has a newer token.
	roster = rosterOf(t, "511600", "511602", "511699")
	wants("li", []string{"511602", "511699"}, "511602 511699")
}

// rosterOf returns a roster with a city and those counties of it.
func rosterOf(t testing.TB, codes ...string) *sites.Roster {
	t.Helper()
	s, err := sites.Open(t.Context(), sites.Config{
		Ledger: ledgertest.New(t), Rows: new(sitestest.MemoryRows), Zone: time.UTC, Now: time.Now, NewID: uuid.NewString,
	})
	if err != nil {
		t.Fatal(err)
	}
	var rows []sites.DivisionRow
	for i, code := range codes {
		row := sites.DivisionRow{Row: i + 2, Code: code, Name: "n" + code, Level: "county", Parent: "511600"}
		if code == "511600" {
			row.Level, row.Parent = "city", ""
		}
		rows = append(rows, row)
	}
	if len(rows) > 0 {
		if _, err := s.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2019-10-31"}, rows); err != nil {
			t.Fatal(err)
		}
	}
	return s.Roster()
}

// TestStopEndsWhatWaits ensures that a server which stops waits for no provider that is
// silent.
func TestStopEndsWhatWaits(t *testing.T) {
	t.Parallel()
	until, stop := context.WithCancel(t.Context())
	w := newScriptedWorld(t, false, func(c *accounts.Config) { c.Provider.Until = until })
	w.provider.SetDocument(oidctest.Silent(t))
	outcome := make(chan error, 1)
	go func() { outcome <- w.Discover(t.Context()) }()
	for w.provider.Documents.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	wantError(t, "Discover", <-outcome, accounts.ErrProvider)
	if got := w.reported(); got != "" {
		t.Errorf("reported was %q, want nothing of a server that stops", got)
	}
}
