package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	commands "xuncha/server/internal/command/client"
	"xuncha/server/internal/sampledata"
)

// TestAccounts goes the first steps of whoever installs a server: the first
// administrator in an empty store, the tables, and an account of another role.
// It ends with the store copied to the other engine, where all can sign in.
func TestAccounts(t *testing.T) { onBothEngines(t, testAccounts) }

func testAccounts(t *testing.T, store ...string) {
	const password = "correct horse battery"
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	create := func(store []string, name, role string) error {
		_, _, err := xuncha(t, append([]string{"account", "create", "--role", role, "--username", name, "--division", "511600", "--password-file", file}, store...)...)
		return err
	}
	if err := create(store, "wang", "officer"); err == nil || !strings.Contains(err.Error(), "administrator") {
		t.Errorf("a first account that is no administrator's: got %v", err)
	}
	common := filepath.Join(t.TempDir(), "common")
	if err := os.WriteFile(common, []byte("Password1234567\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := xuncha(t, append([]string{"account", "create", "--role", "admin", "--username", "root", "--division", "511600", "--password-file", common}, store...)...)
	if err == nil || !strings.Contains(err.Error(), "commonly used") {
		t.Errorf("a common password: got %v", err)
	}
	if err := create(store, "root", "admin"); err != nil {
		t.Fatal(err)
	}
	if err := create(store, "root", "admin"); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("the same once more: got %v", err)
	}
	t.Setenv("XUNCHA_PASSWORD", password)
	address, stop := serveOn(t, store...)
	as := func(name string, args ...string) (string, error) {
		out, _, err := xuncha(t, append(args, "--server", address, "--username", name)...)
		return out, err
	}
	if _, _, err := xuncha(t, "coverage", "511600", "--server", address); err == nil || !strings.Contains(err.Error(), "--username") || !strings.Contains(err.Error(), "TOKEN_INVALID") {
		t.Errorf("nobody: got %v, want to be told how to sign in", err)
	}
	table := sample(t, "none.csv", sampledata.Sites())
	if _, _, err := xuncha(t, "import", "sites", table, "--server", address); err == nil || !strings.Contains(err.Error(), "--username") {
		t.Errorf("nobody imports: got %v, want to be told how to sign in", err)
	}
	if _, err := as("root", "coverage", "511600", "--password="); err == nil || !strings.Contains(err.Error(), "XUNCHA_PASSWORD") {
		t.Errorf("without a password: got %v, want to be told how to give it", err)
	}
	for _, args := range [][]string{
		{"import", "divisions", "--effective-date", "2019-10-31", sample(t, "d.csv", sampledata.Divisions2019())},
		{"import", "sites", sample(t, "s.csv", sampledata.Sites())},
	} {
		if _, err := as("root", args...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := as("root", "history", "SC-GA-0001"); err == nil || !strings.Contains(err.Error(), "ROLE_NOT_ALLOWED") {
		t.Errorf("an administrator reads a history: got %v", err)
	}
	people := newClient(t, address)
	if _, err := people.SignIn(t.Context(), client.SignIn{Username: "root", Password: password}); err != nil {
		t.Fatal(err)
	}
	made, err := xunchav1.NewAccountServiceClient(people).CreateAccount(t.Context(), &xunchav1.CreateAccountRequest{
		Account: &xunchav1.Account{Username: "auditor", Role: xunchav1.Role_ROLE_AUDITOR, DivisionCodes: []string{"511602"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = people.SignIn(t.Context(), client.SignIn{Username: "auditor", Password: made.OneTimePassword})
	if err == nil || !strings.Contains(commands.Readable(err).Error(), "PASSWORD_CHANGE_REQUIRED") {
		t.Errorf("a one-time password alone: got %v", err)
	}
	if _, err := people.SignIn(t.Context(), client.SignIn{Username: "auditor", Password: made.OneTimePassword, NewPassword: password}); err != nil {
		t.Fatal(err)
	}
	if out, err := as("auditor", "history", "SC-GA-0001"); err != nil || !strings.Contains(out, "sites_imported") {
		t.Errorf("got %q, %v", out, err)
	}
	log := stop()
	for _, secret := range []string{password, made.OneTimePassword, "argon2id"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has a secret: %s", log)
		}
	}

	if _, _, err := xuncha(t, append([]string{"account", "replace-keys"}, store...)...); err != nil {
		t.Error(err)
	}
	target := filepath.Join(t.TempDir(), "copy")
	if _, stderr, err := xuncha(t, "copy", "--from", store[1], "--to", target); err != nil {
		t.Fatal(err, stderr)
	}
	address, _ = serveFolder(t, target)
	if out, err := as("auditor", "history", "SC-GA-0001"); err != nil || !strings.Contains(out, "sites_imported") {
		t.Errorf("on the copy: got %q, %v", out, err)
	}
}
