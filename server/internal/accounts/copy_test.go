package accounts_test

import (
	"errors"
	"strings"
	"testing"

	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/accountstest"
)

// The secrets of a copy are those of its source, also where an earlier copy has brought
// others; and what a server has changed in the target stays as it is.
func TestCopySecrets(t *testing.T) {
	ctx := t.Context()
	from, to := new(accountstest.MemorySecrets), new(accountstest.MemorySecrets)
	put := func(s *accountstest.MemorySecrets, name string, revision int64, value string) {
		t.Helper()
		if err := s.PutSecret(ctx, name, revision, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	differ := func(want int) {
		t.Helper()
		if got, err := accounts.DifferentSecrets(ctx, from, to); err != nil || got != want {
			t.Errorf("%d differ, %v, want %d", got, err, want)
		}
	}
	put(from, "keys", 0, "k1")
	put(from, "keys", 1, "k2")
	put(from, "device/1/a", 0, "a")
	put(from, "device/1/b", 0, "b")
	differ(3)
	for range 2 {
		if err := accounts.CopySecrets(ctx, from, to); err != nil {
			t.Fatal(err)
		}
		differ(0)
	}
	put(from, "keys", 2, "k3")
	put(from, "device/1/c", 0, "c")
	if err := from.DeleteSecret(ctx, "device/1/a"); err != nil {
		t.Fatal(err)
	}
	differ(3)
	if err := accounts.CopySecrets(ctx, from, to); err != nil {
		t.Fatal(err)
	}
	differ(0)
	if _, _, err := to.Secret(ctx, "device/1/a"); !errors.Is(err, accounts.ErrNoSecret) {
		t.Errorf("a device that has signed out is still signed in there: %v", err)
	}

	put(to, "device/1/c", 1, "signed in there since")
	if err := accounts.CopySecrets(ctx, from, to); !errors.Is(err, accounts.ErrOtherSecret) || !strings.Contains(err.Error(), "device/1/c") {
		t.Errorf("got %v, want ErrOtherSecret that names it", err)
	}
	if value, _, err := to.Secret(ctx, "device/1/c"); err != nil || string(value) != "signed in there since" {
		t.Errorf("got %s, %v", value, err)
	}
}
