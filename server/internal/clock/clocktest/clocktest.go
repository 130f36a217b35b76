// Package clocktest is the contract of clock.Notes as a test suite, which an engine joins
// with one line, and notes in memory.
package clocktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"xuncha/ledger"
	"xuncha/server/internal/clock"
)

// Run tests a store. Open returns an empty one, and reopen what has become of it after
// the server was started anew.
func Run[N clock.Notes](t *testing.T, open func(testing.TB) N, reopen func(testing.TB, N) N) {
	t.Run("Kept", func(t *testing.T) { testKept(t, open(t), reopen) })
	t.Run("Revisions", func(t *testing.T) { testRevisions(t, open(t)) })
	t.Run("OneOfMany", func(t *testing.T) { testOneOfMany(t, open(t)) })
	t.Run("Cancelled", func(t *testing.T) { testCancelled(t, open(t)) })
}

func wantNote(t *testing.T, n clock.Notes, name string, want []byte, revision int64) {
	t.Helper()
	got, at, err := n.Note(t.Context(), name)
	if err != nil || at != revision || !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes at revision %d, %v; want %d bytes at %d", name, len(got), at, err, len(want), revision)
	}
}

func wantNone(t *testing.T, n clock.Notes, name string) {
	t.Helper()
	if got, _, err := n.Note(t.Context(), name); !errors.Is(err, clock.ErrNoNote) {
		t.Errorf("%s: got %q, %v; want none", name, got, err)
	}
}

func put(t *testing.T, n clock.Notes, name string, revision int64, value []byte) {
	t.Helper()
	if err := n.PutNote(t.Context(), name, revision, value); err != nil {
		t.Fatalf("%s after revision %d: %v", name, revision, err)
	}
}

func testKept[N clock.Notes](t *testing.T, n N, reopen func(testing.TB, N) N) {
	wantNone(t, n, "a")
	long := bytes.Repeat([]byte{0, 255}, 8<<10)
	put(t, n, "a", 0, []byte("1"))
	put(t, n, "a", 1, []byte("2"))
	put(t, n, "A", 0, []byte("other"))
	put(t, n, "长", 0, long)
	for range 2 {
		wantNote(t, n, "a", []byte("2"), 2)
		wantNote(t, n, "A", []byte("other"), 1)
		wantNote(t, n, "长", long, 1)
		wantNone(t, n, "b")
		n = reopen(t, n)
	}
}

func testRevisions(t *testing.T, n clock.Notes) {
	put(t, n, "a", 0, []byte("1"))
	put(t, n, "a", 1, []byte("2"))
	for _, revision := range []int64{0, 1, 3} {
		if err := n.PutNote(t.Context(), "a", revision, []byte("x")); !errors.Is(err, ledger.ErrMoved) {
			t.Errorf("after revision %d: got %v, want ErrMoved", revision, err)
		}
	}
	if err := n.PutNote(t.Context(), "b", 1, []byte("x")); !errors.Is(err, ledger.ErrMoved) {
		t.Errorf("after a revision that never was: got %v, want ErrMoved", err)
	}
	wantNote(t, n, "a", []byte("2"), 2)
	wantNone(t, n, "b")
}

func testOneOfMany(t *testing.T, n clock.Notes) {
	for revision := range int64(3) {
		var won atomic.Int64
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				err := n.PutNote(t.Context(), "a", revision, fmt.Append(nil, i))
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ledger.ErrMoved):
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won.Load() != 1 {
			t.Errorf("%d of 8 have put after revision %d, want 1", won.Load(), revision)
		}
	}
}

func testCancelled(t *testing.T, n clock.Notes) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.PutNote(ctx, "a", 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("PutNote: got %v, want context.Canceled", err)
	}
	if _, _, err := n.Note(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Note: got %v, want context.Canceled", err)
	}
	wantNone(t, n, "a")
}
