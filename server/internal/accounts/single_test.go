package accounts_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
)

// A silentStore takes questions for secrets and answers none while it is silent, but to
// callers who leave.
type silentStore struct {
	*store
	silent atomic.Bool
	asked  atomic.Int64
}

func (s *silentStore) Secret(ctx context.Context, name string) ([]byte, int64, error) {
	if s.silent.Load() {
		s.asked.Add(1)
		<-ctx.Done()
		return nil, 0, ledger.ErrUnavailable
	}
	return s.store.Secret(ctx, name)
}

// TestStoreSilent ensures that while the store does not tell its keys, calls with tokens
// by unknown keys leave with their own deadlines, and that most are told at once to try
// again; those with known keys go on.
func TestStoreSilent(t *testing.T) {
	w := newWorld(t)
	silent := &silentStore{store: w.store}
	s, err := accounts.Open(t.Context(), accounts.Config{Ledger: silent, Secrets: silent, Now: w.clock, NewID: uuid.NewString, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	_, tokens, err := s.Login(t.Context(), right())
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := func() string {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"iss": "xuncha", "aud": "xuncha", "sub": "x", "exp": w.clock().Add(time.Minute).Unix()})
		token.Header["kid"] = uuid.NewString()
		text, err := token.SignedString(stranger)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	silent.silent.Store(true)
	w.advance(2 * time.Second)
	const calls = 200
	first, leave := context.WithCancel(t.Context())
	outcomes := make(chan error, calls)
	call := func(ctx context.Context) {
		token := forged()
		go func() {
			_, err := s.Verify(ctx, token)
			outcomes <- err
		}()
	}
	call(first)
	for silent.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	others, end := context.WithCancel(t.Context())
	for range calls - 1 {
		call(others)
	}
	for range calls - 33 { // the one that asks, and those that wait for it
		wantError(t, "a call beyond those that wait", <-outcomes, ledger.ErrUnavailable)
	}
	if _, err := s.Verify(t.Context(), tokens.Access); err != nil {
		t.Errorf("a known key: %v", err)
	}
	end()
	for range 32 {
		wantError(t, "a call that leaves", <-outcomes, context.Canceled)
	}
	leave()
	if err := <-outcomes; !errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, accounts.ErrToken) {
		t.Errorf("the call that asked: got %v", err)
	}
	if n := silent.asked.Load(); n != 1 {
		t.Errorf("the store was asked %d times, want once", n)
	}
}
