package accounts_test

import (
	"strings"
	"testing"
	"time"

	"xuncha/server/internal/accounts"
)

// devicesOf returns how many devices of the account are stored.
func (w *world) devicesOf(t *testing.T, username string) (n int) {
	t.Helper()
	if err := w.store.Secrets(t.Context(), "device/"+w.idOf(username)+"/", func(string, []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// forget looks at all devices, n at a time, and returns how many were removed.
func (w *world) forget(t *testing.T, n int, believed time.Time) (removed int) {
	t.Helper()
	for next := ""; ; {
		f, err := w.ForgetDevices(t.Context(), next, n, believed)
		if err != nil {
			t.Fatal(err)
		}
		if f.Seen > n {
			t.Fatalf("%d devices were looked at, want at most %d", f.Seen, n)
		}
		removed += f.Removed
		if next = f.Next; next == "" {
			return removed
		}
	}
}

// TestForgetDevices ensures that devices that have expired or are signed out do not stay
// stored, and that no clock that has jumped signs anybody out.
func TestForgetDevices(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	w.login(t, of("root", "10.0.0.1"))
	begin := w.clock()
	for range 10 {
		w.login(t, of("li.wei", "10.0.0.1"))
	}
	w.advance(20 * 24 * time.Hour)
	var fresh string
	for range 5 {
		fresh = w.login(t, of("li.wei", "10.0.0.1")).Refresh
	}
	w.advance(11 * 24 * time.Hour)
	if n := w.forget(t, 3, time.Time{}); n != 0 {
		t.Errorf("without a time that is believed, %d were removed", n)
	}
	if n := w.forget(t, 3, begin.Add(30*24*time.Hour+23*time.Hour)); n != 0 {
		t.Errorf("within a day after the last expired, %d were removed", n)
	}
	if n := w.forget(t, 3, begin.Add(31*24*time.Hour+time.Second)); n != 11 {
		t.Errorf("of what has expired, %d were removed, want 11", n)
	}
	if n := w.devicesOf(t, "li.wei"); n != 5 {
		t.Errorf("%d devices are left, want the 5 that have not expired", n)
	}
	if _, _, err := w.Refresh(t.Context(), fresh, ""); err != nil {
		t.Errorf("one that has not: %v", err)
	}
}

// TestForgetSignedOutDevices ensures that what is left of devices after another password or
// the end of their account goes, also where the store did not answer at that time.
func TestForgetSignedOutDevices(t *testing.T) {
	t.Parallel()
	w := newQuickWorld(t, unnoticed)
	for range 3 {
		w.login(t, of("li.wei", "10.0.0.1"))
	}
	left := map[string][]byte{}
	if err := w.store.Secrets(t.Context(), "device/", func(name string, value []byte) error {
		if strings.Contains(name, w.idOf("li.wei")) {
			left[name+"x"] = value
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	litter := func() {
		for name, value := range left {
			if err := w.store.PutSecret(t.Context(), name, 0, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	oneTime, err := w.ResetPassword(t.Context(), accounts.By{Account: "root"}, w.idOf("li.wei"))
	if err != nil {
		t.Fatal(err)
	}
	kept := w.login(t, accounts.SignIn{Username: "li.wei", Password: oneTime, NewPassword: "another horse battery", Address: "10.0.0.1"})
	before := w.devicesOf(t, "li.wei")
	litter()
	// One that cannot be read, and one of nobody, are for a check to find.
	for _, name := range []string{"device/" + w.idOf("li.wei") + "/y", "device/nobody/z"} {
		if err := w.store.PutSecret(t.Context(), name, 0, []byte("{")); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.forget(t, 2, time.Time{}); n != len(left) {
		t.Errorf("after another password, %d were removed, want %d", n, len(left))
	}
	if n := w.devicesOf(t, "li.wei"); n != before+1 {
		t.Errorf("%d devices are left, want %d and one that cannot be read", n, before)
	}
	if _, _, err := w.Refresh(t.Context(), kept.Refresh, ""); err != nil {
		t.Error(err)
	}
	if _, err := w.Disable(t.Context(), accounts.By{Account: "root"}, w.idOf("li.wei")); err != nil {
		t.Fatal(err)
	}
	litter()
	if n := w.forget(t, 100, time.Time{}); n != len(left) {
		t.Errorf("of a disabled account, %d were removed, want %d", n, len(left))
	}
}
