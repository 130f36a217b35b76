package oidctest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// A Key is one of a Scripted provider.
type Key struct {
	ID      string
	Private *rsa.PrivateKey
}

// NewKey returns a new key with the id.
func NewKey(tb testing.TB, id string) Key {
	tb.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return Key{id, private}
}

// JWK returns the key as a provider publishes it, changed.
func (k Key) JWK(change map[string]any) map[string]any {
	out := map[string]any{}
	b, err := json.Marshal(jose.JSONWebKey{Key: k.Private.Public(), KeyID: k.ID})
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		panic(err) // of a key that this package has made
	}
	maps.Copy(out, change)
	return out
}

// A Scripted is a provider within the test, which says and signs whatever the test wants.
type Scripted struct {
	// Issuer is its address.
	Issuer string
	// Key signs, and is published, unless the test says otherwise.
	Key Key
	// Documents and KeySets are how often it was asked for either.
	Documents, KeySets atomic.Int64

	server         *httptest.Server
	mu             sync.Mutex
	document, keys http.HandlerFunc
}

// NewScripted starts one, with https where secure is true. It ends with the test.
func NewScripted(tb testing.TB, secure bool) *Scripted {
	tb.Helper()
	p := &Scripted{Key: NewKey(tb, "one")}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		answer := p.keys
		if r.URL.Path == "/.well-known/openid-configuration" {
			answer = p.document
			p.Documents.Add(1)
		} else {
			p.KeySets.Add(1)
		}
		p.mu.Unlock()
		answer(w, r)
	})
	if secure {
		p.server = httptest.NewTLSServer(handler)
	} else {
		p.server = httptest.NewServer(handler)
	}
	tb.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	p.Issuer = p.server.URL
	p.SetDocument(JSON(map[string]any{"issuer": p.Issuer, "jwks_uri": p.Issuer + "/keys"}))
	p.Publish(p.Key.JWK(nil))
	return p
}

// Client is one that trusts the provider's certificate.
func (p *Scripted) Client() *http.Client { return p.server.Client() }

// SetDocument sets what answers for its document, and SetKeys what answers for its keys.
func (p *Scripted) SetDocument(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.document = h
}

// SetKeys is described at SetDocument.
func (p *Scripted) SetKeys(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = h
}

// Publish lets it have the keys alone, which may be anything.
func (p *Scripted) Publish(keys ...any) {
	if keys == nil {
		keys = []any{}
	}
	p.SetKeys(JSON(map[string]any{"keys": keys}))
}

// JSON answers with the value.
func JSON(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // whoever asked may be gone
	}
}

// Silent never answers, but while the test lasts.
func Silent(tb testing.TB) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-tb.Context().Done():
		}
	}
}

// Claims are those of a good token of the user, given at the time and changed; a claim
// that is changed to nil is left out.
func (p *Scripted) Claims(u User, at time.Time, change map[string]any) map[string]any {
	out := map[string]any{
		"iss": p.Issuer, "aud": Audience, "sub": u.ID, "preferred_username": u.Username, "name": u.Name,
		"iat": at.Unix(), "exp": at.Add(time.Hour).Unix(),
	}
	maps.Copy(out, u.Claims)
	maps.Copy(out, change)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

// Sign signs the claims with the provider's key. The header is changed as the claims are.
func (p *Scripted) Sign(tb testing.TB, claims, header map[string]any) string {
	tb.Helper()
	return SignWith(tb, jwt.SigningMethodRS256, p.Key.Private, p.Key.ID, claims, header)
}

// SignWith signs the claims with any key.
func SignWith(tb testing.TB, method jwt.SigningMethod, key crypto.PrivateKey, id string, claims, header map[string]any) string {
	tb.Helper()
	t := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	t.Header["kid"] = id
	maps.Copy(t.Header, header)
	maps.DeleteFunc(t.Header, func(_ string, v any) bool { return v == nil })
	text, err := t.SignedString(key)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}
