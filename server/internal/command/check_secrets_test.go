package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/client"
)

// alterSecrets puts a value in the place of all secrets whose names begin with the prefix.
func alterSecrets(t testing.TB, a alterer, prefix, value string) {
	t.Helper()
	switch a := a.(type) {
	case sqliteAlterer:
		a.exec(t, `UPDATE secrets SET value = CAST(? AS BLOB) WHERE name LIKE ?`, nil, value, prefix+"%")
	case mongoAlterer:
		_, err := a.Collection("secrets").UpdateMany(t.Context(),
			bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^" + prefix}}}},
			bson.D{{Key: "$set", Value: bson.D{{Key: "value", Value: []byte(value)}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A check names what accounts sign in with and that was altered, and what it says to do
// puts that right.
func TestCheckSecrets(t *testing.T) { onBothEngines(t, testCheckSecrets) }

func testCheckSecrets(t *testing.T, store ...string) {
	const password = "correct horse battery"
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"account", "create", "--role", "admin", "--username", "root", "--division", "511600", "--password-file", file}, store...)
	if _, stderr, err := xuncha(t, args...); err != nil {
		t.Fatal(stderr, err)
	}
	address, stop := serveOn(t, store...)
	if _, err := newClient(t, address).SignIn(t.Context(), client.SignIn{Username: "root", Password: password}); err != nil {
		t.Fatal(err)
	}
	stop()
	if out, status := checkOf(t, store...); status != 0 {
		t.Fatalf("got status %d, want 0: %s", status, out)
	}
	a := alter(t, store)
	for _, prefix := range []string{"keys", "device/", "password/"} {
		alterSecrets(t, a, prefix, "s3cret")
	}
	out, status := checkOf(t, store...)
	if status != 1 || strings.Contains(out, "s3cret") || !strings.HasPrefix(out, "a device of the account root cannot be read; it has to sign in again\n"+
		"the keys of the accounts cannot be read; account replace-keys makes new ones\nthe password of the account root cannot be read; reset it\n") {
		t.Errorf("got status %d, want 1 and all three: %s", status, out)
	}
	if out, stderr, err := xuncha(t, append([]string{"account", "replace-keys"}, store...)...); err != nil {
		t.Errorf("replacing the keys: %s%s%v", out, stderr, err)
	}
	if out, status := checkOf(t, store...); status != 1 || strings.Contains(out, "the keys") {
		t.Errorf("got status %d, want 1 and nothing of the keys: %s", status, out)
	}
}
