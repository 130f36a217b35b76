package command_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/server/internal/mongostore/mongotest"
)

// roleCall is a call in docs/mongodb-roles.js.
var roleCall = regexp.MustCompile(`(?s)db\.adminCommand\((\{.*?\n\})\);`)

// documentedRoles returns the calls that make the roles of the documents.
func documentedRoles(t *testing.T) (calls []string) {
	t.Helper()
	script, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "mongodb-roles.js"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range roleCall.FindAllSubmatch(script, -1) {
		if err := bson.UnmarshalExtJSON(m[1], false, &bson.D{}); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
		calls = append(calls, string(m[1]))
	}
	if n := strings.Count(string(script), "createRole"); n != 3 || len(calls) != n {
		t.Fatalf("read %d of %d roles, want 3", len(calls), n)
	}
	return calls
}

// TestRoles runs servers and commands as users that have the roles of the documents
// and no other. Where the server asks nobody to sign in, it only shows that MongoDB
// takes the roles; on one that knows none, that they can be read, and that a server goes
// on with --keep-schema.
func TestRoles(t *testing.T) {
	t.Parallel()
	calls := documentedRoles(t)
	// The server that tests start knows no roles, and lets everybody do everything.
	server := mongo(t).Database(t)
	keeper, reader := server, server
	if os.Getenv(mongotest.Variable) != "" {
		users, err := mongo(t).Users(t, "xuncha", calls)
		if err != nil {
			t.Fatal(err)
		}
		server, keeper, reader = users["xunchaServer"], users["xunchaServerKeepSchema"], users["xunchaReader"]
	}

	address, stop := serveOn(t, "--store", server)
	site := fill(t, address)[0]
	submit(t, connect(t, address), newCheckIn(site))
	stop()
	address, stop = serveOn(t, "--store", keeper, "--keep-schema")
	conn := connect(t, address)
	submit(t, conn, newCheckIn(site))
	photo := sample(t, "photo.png", noise(t, 1, 50_000))
	if out, stderr, err := xuncha(t, "check-in", "--server", address, "--site", site, "--finding", "closed", "--photo", photo); err != nil || !photoLine.MatchString(out) {
		t.Errorf("a photo: got %s, %v %s", out, err, stderr)
	}
	stop()
	password := sample(t, "password", []byte("correct horse battery\n"))
	account := func(store string) error {
		_, _, err := xuncha(t, "account", "create", "--store", store, "--keep-schema", "--role", "admin", "--username", "root", "--division", "511600", "--password-file", password)
		return err
	}
	if mongo(t).Enforces() && account(reader) == nil {
		t.Error("somebody who may only read has made an account")
	}
	if err := account(keeper); err != nil {
		t.Error(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if _, stderr, err := xuncha(t, "copy", "--from", reader, "--to", copied); err != nil {
		t.Errorf("a copy: %v %s", err, stderr)
	}
	wantSame(t, copied, server)
}
