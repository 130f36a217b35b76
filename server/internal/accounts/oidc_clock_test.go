package accounts_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"xuncha/server/internal/accounts"
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
