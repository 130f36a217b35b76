package accounts_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/oidctest"
)

// TestProviderClockAhead ensures that a provider whose clock is ahead of the server's makes
// no phone drop its session: the same token is good a little later, the operator is told,
// and forged tokens tell the operator nothing.
func TestProviderClockAhead(t *testing.T) {
	t.Parallel()
	w := newScriptedWorld(t, false)
	token := w.token(t, map[string]any{"iat": w.now().Add(90 * time.Second).Unix(), "exp": w.now().Add(10 * time.Minute).Unix()}, nil)
	if _, err := w.Verify(t.Context(), token[:len(token)-8]+"AAAAAAAA"); err == nil {
		t.Error("a forged token is good")
	}
	if got := w.reported(); got != "" {
		t.Errorf("reported was %q for a forged token, want nothing", got)
	}
	var retry interface{ RetryAfter() time.Duration }
	_, err := w.Verify(t.Context(), token)
	if !errors.Is(err, accounts.ErrProvider) || errors.Is(err, accounts.ErrToken) || !errors.As(err, &retry) || retry.RetryAfter() > 30*time.Second {
		t.Errorf("got %v, want one to try again with in half a minute", err)
	}
	if got := w.reported(); !strings.Contains(got, "s ahead of this server's clock") {
		t.Errorf("reported was %q, want by how much the clock is ahead", got)
	}
	w.ahead.Add(int64(31 * time.Second))
	if c, err := w.Verify(t.Context(), token); err != nil || c.Account.Username != "wang.fang" {
		t.Errorf("half a minute later: got %+v, %v; want the token to be good", c.Account, err)
	}
	// A server's clock that is set back is no fault of the caller's either.
	w.ahead.Add(-int64(10 * time.Minute))
	if _, err := w.Verify(t.Context(), token); !errors.Is(err, accounts.ErrProvider) || !errors.As(err, &retry) || retry.RetryAfter() != time.Minute {
		t.Errorf("by a clock that is set back: got %v, want one to try again with in a minute", err)
	}
}

// TestProviderClockBehind ensures that a token by a new key is not taken for one by a key
// that was withdrawn, because the provider's clock is behind the server's.
func TestProviderClockBehind(t *testing.T) {
	t.Parallel()
	w := newScriptedWorld(t, false)
	if _, err := w.Verify(t.Context(), w.token(t, nil, nil)); err != nil {
		t.Fatal(err)
	}
	next := oidctest.NewKey(t, "next")
	w.provider.Publish(w.provider.Key.JWK(nil), next.JWK(nil))
	token := oidctest.SignWith(t, jwt.SigningMethodRS256, next.Private, "next", w.provider.Claims(wang(), w.now().Add(-90*time.Second), nil), nil)
	if _, err := w.Verify(t.Context(), token); err != nil {
		t.Errorf("by a new key, given by a clock that is 90 seconds behind: %v", err)
	}
}

// TestProviderAwayForAnHour ensures that tokens by known keys go on while the provider is
// away, and that a server which was started meanwhile takes tokens by a key of that hour as
// soon as the provider is back.
func TestProviderAwayForAnHour(t *testing.T) {
	t.Parallel()
	w := newScriptedWorld(t, false)
	if _, err := w.Verify(t.Context(), w.token(t, nil, nil)); err != nil {
		t.Fatal(err)
	}
	w.provider.SetDocument(func(a http.ResponseWriter, _ *http.Request) { a.WriteHeader(http.StatusBadGateway) })
	later := w.open(t)
	next := oidctest.NewKey(t, "next")
	signed := func() string {
		return oidctest.SignWith(t, jwt.SigningMethodRS256, next.Private, "next", w.provider.Claims(wang(), w.now(), nil), nil)
	}
	for range 60 {
		w.ahead.Add(int64(time.Minute))
		if _, err := w.Verify(t.Context(), w.token(t, nil, nil)); err != nil {
			t.Fatalf("a token by a known key: %v", err)
		}
		for _, s := range []*accounts.Service{w.Service, later} {
			_, err := s.Verify(t.Context(), signed())
			wantError(t, "a token by a key of that hour", err, accounts.ErrProvider)
		}
	}
	w.provider.SetDocument(oidctest.JSON(map[string]any{"issuer": w.provider.Issuer, "jwks_uri": w.provider.Issuer + "/keys"}))
	w.provider.Publish(next.JWK(nil)) // which has taken the other's place
	w.ahead.Add(int64(31 * time.Second))
	for _, s := range []*accounts.Service{w.Service, later} {
		if _, err := s.Verify(t.Context(), signed()); err != nil {
			t.Errorf("once it is back: %v", err)
		}
	}
}
