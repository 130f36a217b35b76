package accounts_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
)

// damage puts something else in the place of what the secret is.
func (w *world) damage(t testing.TB, name string, change func([]byte) []byte) {
	t.Helper()
	value, revision, err := w.store.Secret(t.Context(), name)
	if err == nil {
		err = w.store.PutSecret(t.Context(), name, revision, change(value))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// devices returns the names of the account's devices.
func (w *world) devices(t testing.TB) (out []string) {
	t.Helper()
	err := w.store.Secrets(t.Context(), "device/"+w.officer.ID+"/", func(name string, _ []byte) error {
		out = append(out, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// forms are ways in which a secret is not what was stored any more.
var forms = map[string]func([]byte) []byte{
	"nothing": func([]byte) []byte { return nil },
	"cut":     func(b []byte) []byte { return b[:len(b)/2] },
	"another key": func(b []byte) []byte {
		return bytes.ReplaceAll(bytes.Replace(b, []byte(`"hash"`), []byte(`"hasi"`), 1), []byte(`"family"`), []byte(`"fanily"`))
	},
	"zeros": func(b []byte) []byte { return make([]byte, len(b)) },
}

// Whose device cannot be read signs in anew, and it is told once.
func TestUnreadableDevice(t *testing.T) {
	for name, change := range forms {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tokens := w.login(t, right())
			w.damage(t, w.devices(t)[0], change)
			for range 2 {
				_, _, err := w.Refresh(t.Context(), tokens.Refresh, "")
				wantError(t, "refreshing", err, accounts.ErrToken)
			}
			if want := []string{"a device of the account li.wei cannot be read; it has to sign in again"}; !slices.Equal(w.damaged, want) {
				t.Errorf("told %q, want %q", w.damaged, want)
			}
			tokens = w.login(t, right())
			if _, _, err := w.Refresh(t.Context(), tokens.Refresh, ""); err != nil {
				t.Errorf("after signing in again: %v", err)
			}
		})
	}
}

// Nobody can sign in with a password that cannot be read, which is no fault of theirs,
// until it is reset. What cannot be read of the devices goes with it.
func TestUnreadablePassword(t *testing.T) {
	for name, change := range forms {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c, err := w.Verify(t.Context(), w.login(t, right()).Access)
			if err != nil {
				t.Fatal(err)
			}
			w.damage(t, "password/"+w.officer.ID, change)
			w.damage(t, w.devices(t)[0], change)
			_, _, err = w.Login(t.Context(), right())
			wantError(t, "signing in", err, ledger.ErrBadRecord)
			_, err = w.ChangePassword(t.Context(), c, password, "another horse battery")
			wantError(t, "another password", err, ledger.ErrBadRecord)
			if errors.Is(err, accounts.ErrSignIn) {
				t.Errorf("got %v, which blames the caller", err)
			}
			if want := "the password of the account li.wei cannot be read; reset it"; len(w.damaged) != 2 || w.damaged[0] != want || w.damaged[1] != want {
				t.Errorf("told %q, want %q twice", w.damaged, want)
			}
			in := right()
			if in.Password, err = w.ResetPassword(t.Context(), accounts.By{Account: "root"}, w.officer.ID); err != nil {
				t.Fatal(err)
			}
			if left := w.devices(t); len(left) != 0 {
				t.Errorf("there are the devices %q, want none", left)
			}
			in.NewPassword = "another horse battery"
			w.advance(time.Minute)
			w.login(t, in)
		})
	}
}

// Keys that cannot be read are replaced like others.
func TestUnreadableKeys(t *testing.T) {
	w := newWorld(t)
	tokens := w.login(t, right())
	w.damage(t, "keys", func(b []byte) []byte { return []byte(strings.Replace(string(b), `"seed"`, `"sead"`, 1)) })
	s := w.open(t)
	if s.KeysLost() == nil {
		t.Error("the keys can be read")
	}
	_, _, err := s.Login(t.Context(), right())
	wantError(t, "signing in without keys", err, ledger.ErrUnavailable)
	if err := w.open(t).ReplaceKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*accounts.Service{s, w.open(t)} {
		if _, tokens, err = s.Refresh(t.Context(), tokens.Refresh, ""); err != nil {
			t.Error(err)
		}
	}
}

// check returns what a check of all secrets finds.
func (w *world) check(t testing.TB) (out []string) {
	t.Helper()
	if err := accounts.CheckSecrets(t.Context(), w.store, w.store, func(why string) { out = append(out, why) }); err != nil {
		t.Fatal(err)
	}
	return out
}

// A check names all that accounts sign in with and that is not what was stored, and
// nothing else, whatever has become of the accounts.
func TestCheckSecrets(t *testing.T) {
	w := newWorld(t)
	tokens := w.login(t, right())
	if _, _, err := w.Refresh(t.Context(), tokens.Refresh, "retry"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ResetPassword(t.Context(), accounts.By{Account: "root"}, w.officer.ID); err != nil {
		t.Fatal(err)
	}
	gone, _, err := w.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{Username: "gone", Role: accounts.Head, Divisions: w.officer.Divisions})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Disable(t.Context(), accounts.By{Account: "root"}, gone.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Login(t.Context(), root()); err != nil {
		t.Fatal(err)
	}
	if got := w.check(t); len(got) != 0 {
		t.Fatalf("found %q, want nothing", got)
	}
	forms := maps.Clone(forms)
	forms["another field"] = func(b []byte) []byte {
		return []byte(strings.NewReplacer(`"expires"`, `"expirez"`, `"created"`, `"creaded"`).Replace(string(b)))
	}
	for form, change := range forms {
		for prefix, want := range map[string]string{
			"keys":                     "the keys of the accounts cannot be read; account replace-keys makes new ones",
			"password/" + w.officer.ID: "the password of the account li.wei cannot be read; reset it",
			"device/":                  "a device of the account root cannot be read; it has to sign in again",
		} {
			if form == "another key" && prefix == "keys" {
				continue // which have no such field
			}
			var name string
			var whole []byte
			if err := w.store.Secrets(t.Context(), prefix, func(n string, value []byte) error { name, whole = n, value; return nil }); err != nil {
				t.Fatal(err)
			}
			w.damage(t, name, change)
			if got := w.check(t); len(got) != 1 || got[0] != want {
				t.Errorf("%s, %s: found %q, want %q", name, form, got, want)
			}
			w.damage(t, name, func([]byte) []byte { return whole })
		}
	}
	if err := w.store.PutSecret(t.Context(), "pasSword/x", 0, []byte("s3cret")); err != nil {
		t.Fatal(err)
	}
	if err := w.store.DeleteSecret(t.Context(), "password/"+w.officer.ID); err != nil {
		t.Fatal(err)
	}
	want := []string{`"pasSword/x" lies among what accounts sign in with, and nobody looks for it`, "the password of the account li.wei is missing; reset it"}
	if got := w.check(t); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
