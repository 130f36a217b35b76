package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestAdministratorGetsIn ensures that an administrator whose device was signed in before
// gets in while strangers fail with the same name, also after the server was started anew,
// and that nobody takes the last administrator's rights by mistake.
func TestAdministratorGetsIn(t *testing.T) { onBothEngines(t, testAdministratorGetsIn) }

func testAdministratorGetsIn(t *testing.T, store ...string) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(testPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"account", "create", "--role", "admin", "--username", "root", "--division", "511600", "--password-file", file}, store...)
	if _, stderr, err := xuncha(t, args...); err != nil {
		t.Fatal(err, stderr)
	}
	address, stop := serveOn(t, store...)
	var kept client.Session
	phone := func() *client.Client {
		c, err := client.New(client.Config{Address: address, Plaintext: true, Now: time.Now, NewID: uuid.NewString, Session: kept, Keep: func(s client.Session) error {
			kept = s
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	root := client.SignIn{Username: "root", Password: testPassword}
	p := phone()
	a, err := p.SignIn(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	people := xunchav1.NewAccountServiceClient(p)
	_, disabled := people.DisableAccount(t.Context(), &xunchav1.DisableAccountRequest{AccountId: a.AccountId})
	_, demoted := people.UpdateAccount(t.Context(), &xunchav1.UpdateAccountRequest{AccountId: a.AccountId, Role: xunchav1.Role_ROLE_HEAD})
	for what, err := range map[string]error{"DisableAccount": disabled, "UpdateAccount": demoted} {
		if err == nil || !strings.Contains(err.Error(), "no other administrator") {
			t.Errorf("%s of the last administrator: got %v", what, err)
		}
	}
	if err := p.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var err error
		for range 5 { // the first wait is a second, which a busy machine may need between two calls
			stranger := newClient(t, address)
			for range 6 {
				_, _ = stranger.SignIn(t.Context(), client.SignIn{Username: "root", Password: "wrong"})
			}
			if _, err = stranger.SignIn(t.Context(), root); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), "too many failures") {
			t.Errorf("from another device: got %v, want to have to wait", err)
		}
		p := phone()
		if _, err := p.SignIn(t.Context(), root); err != nil {
			t.Errorf("from the device that was signed in before: %v", err)
		}
		if err := p.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop()
		address, stop = serveOn(t, store...)
	}
	p = phone()
	if _, err := p.SignIn(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if _, err := xunchav1.NewAccountServiceClient(p).DisableAccount(t.Context(), &xunchav1.DisableAccountRequest{AccountId: a.AccountId, Force: true}); err != nil {
		t.Errorf("by force: %v", err)
	}
}
