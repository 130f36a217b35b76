// Package accountstest is the contract of accounts.Secrets as a test suite, which
// an engine joins with one line, and secrets in memory.
package accountstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
)

// Run tests a store. Open returns an empty one, and reopen what has become of it
// after the server was started anew.
func Run[S accounts.Secrets](t *testing.T, open func(testing.TB) S, reopen func(testing.TB, S) S) {
	t.Run("Secrets", func(t *testing.T) { testSecrets(t, open(t), reopen) })
	t.Run("Revisions", func(t *testing.T) { testRevisions(t, open(t)) })
	t.Run("OneOfMany", func(t *testing.T) { testOneOfMany(t, open(t)) })
	t.Run("Prefix", func(t *testing.T) { testPrefix(t, open(t)) })
	t.Run("Pages", func(t *testing.T) { testPages(t, open(t)) })
	t.Run("Cancelled", func(t *testing.T) { testCancelled(t, open(t)) })
}

func wantSecret(t *testing.T, s accounts.Secrets, name string, want []byte, revision int64) {
	t.Helper()
	got, at, err := s.Secret(t.Context(), name)
	if err != nil || at != revision || !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes at revision %d, %v; want %d bytes at %d", name, len(got), at, err, len(want), revision)
	}
}

func wantNone(t *testing.T, s accounts.Secrets, name string) {
	t.Helper()
	if got, _, err := s.Secret(t.Context(), name); !errors.Is(err, accounts.ErrNoSecret) {
		t.Errorf("%s: got %q, %v; want none", name, got, err)
	}
}

func put(t *testing.T, s accounts.Secrets, name string, revision int64, value []byte) {
	t.Helper()
	if err := s.PutSecret(t.Context(), name, revision, value); err != nil {
		t.Fatalf("%s after revision %d: %v", name, revision, err)
	}
}

func testSecrets[S accounts.Secrets](t *testing.T, s S, reopen func(testing.TB, S) S) {
	wantNone(t, s, "a")
	long := bytes.Repeat([]byte{0, 255}, 32<<10)
	put(t, s, "a", 0, []byte("1"))
	put(t, s, "a", 1, []byte("2"))
	put(t, s, "A", 0, []byte("other"))
	put(t, s, "empty", 0, nil)
	put(t, s, "长", 0, long)
	put(t, s, "gone", 0, []byte("x"))
	for _, name := range []string{"gone", "never there"} {
		if err := s.DeleteSecret(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		wantSecret(t, s, "a", []byte("2"), 2)
		wantSecret(t, s, "A", []byte("other"), 1)
		wantSecret(t, s, "empty", nil, 1)
		wantSecret(t, s, "长", long, 1)
		wantNone(t, s, "gone")
		s = reopen(t, s)
	}
	put(t, s, "gone", 0, []byte("y"))
	wantSecret(t, s, "gone", []byte("y"), 1)
}

func testRevisions(t *testing.T, s accounts.Secrets) {
	put(t, s, "a", 0, []byte("1"))
	put(t, s, "a", 1, []byte("2"))
	for _, revision := range []int64{0, 1, 3} {
		if err := s.PutSecret(t.Context(), "a", revision, []byte("x")); !errors.Is(err, ledger.ErrMoved) {
			t.Errorf("after revision %d: got %v, want ErrMoved", revision, err)
		}
	}
	if err := s.PutSecret(t.Context(), "b", 1, []byte("x")); !errors.Is(err, ledger.ErrMoved) {
		t.Errorf("after a revision that never was: got %v, want ErrMoved", err)
	}
	wantSecret(t, s, "a", []byte("2"), 2)
	wantNone(t, s, "b")
}

func testOneOfMany(t *testing.T, s accounts.Secrets) {
	for revision := range int64(3) {
		var won atomic.Int64
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				err := s.PutSecret(t.Context(), "a", revision, fmt.Append(nil, i))
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

func testPrefix(t *testing.T, s accounts.Secrets) {
	for _, name := range []string{"device/2/b", "device/1/a", "device/10/a", "Device/1/a", "device.1", "device/1/张", "password/1"} {
		put(t, s, name, 0, []byte(name))
	}
	put(t, s, "device/1/a", 1, []byte("device/1/a"))
	for prefix, want := range map[string]string{
		"":          "Device/1/a device.1 device/1/a device/1/张 device/10/a device/2/b password/1",
		"device/1/": "device/1/a device/1/张",
		"device/3":  "",
	} {
		var got []string
		err := s.Secrets(t.Context(), prefix, func(name string, value []byte) error {
			if string(value) != name {
				t.Errorf("%s has the value %q", name, value)
			}
			got = append(got, name)
			return nil
		})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("prefix %q: got %q, %v; want %s", prefix, got, err, want)
		}
	}
	stop := errors.New("stop")
	calls := 0
	err := s.Secrets(t.Context(), "", func(string, []byte) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("got %v after %d calls, want the first call's error", err, calls)
	}
}

func testPages(t *testing.T, s accounts.Secrets) {
	for _, name := range []string{"device/2/b", "device/1/a", "device/10/a", "Device/1/a", "device", "device/", "device0", "device/1/张", "password/1"} {
		put(t, s, name, 0, []byte("old"))
	}
	for _, name := range []string{"device/1/a", "device/1/张", "device/2/b"} { // each page has the newest value
		put(t, s, name, 1, []byte("older"))
		put(t, s, name, 2, []byte("new"))
	}
	const want = "device/1/a=new device/1/张=new device/10/a=old device/2/b=new"
	for _, n := range []int{1, 2, 3, 4, 100} {
		var got []string
		for after := ""; ; {
			page, err := s.SecretsAfter(t.Context(), "device/", after, n)
			if err != nil || len(page) > n {
				t.Fatalf("a page of %d: got %d, %v", n, len(page), err)
			}
			for _, x := range page {
				got, after = append(got, x.Name+"="+string(x.Value)), x.Name
			}
			if len(page) < n {
				break
			}
		}
		if all := strings.Join(got, " "); all != want {
			t.Errorf("pages of %d: got %s, want %s", n, all, want)
		}
	}
}

func testCancelled(t *testing.T, s accounts.Secrets) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.PutSecret(ctx, "a", 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("PutSecret: got %v, want context.Canceled", err)
	}
	if _, _, err := s.Secret(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Secret: got %v, want context.Canceled", err)
	}
	wantNone(t, s, "a")
}
