package command_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/server/internal/sampledata"
)

// TestProviderMoves runs a city whose identity provider gets another address. Everybody is
// kept out of their own accounts, administrators too, until an operator moves them; then they
// go on, and visits that waited on their phones are taken. Beside a database the servers need
// no new start.
func TestProviderMoves(t *testing.T) { onBothEngines(t, testProviderMoves) }

func testProviderMoves(t *testing.T, store ...string) {
	person := func(name, role, divisions string) oidctest.User {
		return oidctest.User{ID: "id of " + name, Username: name, Password: "p", Claims: map[string]any{"xuncha_role": role, "xuncha_divisions": divisions}}
	}
	root, wang := person("root", "admin", "511600"), person("wang", "officer", "511602")
	auditor := person("auditor", "auditor", "511600")
	old, next := oidctest.Start(t, root, wang), oidctest.Start(t, root, wang, auditor)
	serve := func(p *oidctest.Provider) (string, func() string) {
		return serveOn(t, append(store, "--oidc-issuer", p.Issuer, "--oidc-audience", oidctest.Audience)...)
	}
	as := func(p *oidctest.Provider, u oidctest.User, address string, args ...string) (string, error) {
		t.Setenv("XUNCHA_TOKEN", p.SignIn(t, oidctest.Audience, u).ID)
		out, _, err := xuncha(t, append(args, "--server", address)...)
		return out, err
	}
	relink := func(args ...string) (string, string, error) {
		// What an operator has in the environment to call servers is not meant for this.
		t.Setenv("XUNCHA_USERNAME", "root")
		t.Setenv("XUNCHA_PASSWORD", "correct horse battery")
		defer os.Unsetenv("XUNCHA_USERNAME")
		defer os.Unsetenv("XUNCHA_PASSWORD")
		return xuncha(t, append(append([]string{"account", "relink"}, store...), args...)...)
	}

	address, stop := serve(old)
	for _, args := range [][]string{
		{"import", "divisions", "--effective-date", "2019-10-31", sample(t, "d.csv", sampledata.Divisions2019())},
		{"import", "sites", sample(t, "s.csv", sampledata.Sites())},
	} {
		if _, err := as(old, root, address, args...); err != nil {
			t.Fatal(err)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+old.SignIn(t, oidctest.Audience, root).ID)
	start := time.Now().Add(-time.Hour)
	if _, err := xunchav1.NewRosterServiceClient(connect(t, address)).CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
		Number: "1", Title: "t", IssuingAuthority: "a", LegalBasis: "b", DivisionCodes: []string{"511600"},
		StartTime: timestamppb.New(start), EndTime: timestamppb.New(start.Add(48 * time.Hour)), InspectionInterval: durationpb.New(24 * time.Hour),
	}}); err != nil {
		t.Fatal(err)
	}
	visit := func(p *oidctest.Provider, u oidctest.User, id string, at time.Time) error {
		_, err := as(p, u, address, "check-in", "--site", "SC-GA-0001", "--finding", "closed", "--id", id, "--time", at.Format(time.RFC3339))
		return err
	}
	sent, waits, waitsSince := uuid.NewString(), uuid.NewString(), time.Now().Add(-10*time.Minute).Truncate(time.Second)
	if err := visit(old, wang, sent, waitsSince); err != nil {
		t.Fatal(err)
	}
	stop()

	address, stop = serve(next)
	for range 2 {
		for _, u := range []oidctest.User{root, wang} {
			if _, err := as(next, u, address, "coverage", "511602"); err == nil || !strings.Contains(err.Error(), "IDENTITY_UNUSABLE") || strings.Contains(err.Error(), "relink") {
				t.Errorf("%s at the new provider: got %v", u.Username, err)
			}
		}
	}
	if store[0] == "--data" {
		if _, _, err := relink("--from-issuer", old.Issuer, "--issuer", next.Issuer); err == nil || !strings.Contains(err.Error(), "in use by another xuncha server") {
			t.Errorf("beside a server: got %v", err)
		}
		stop()
	}

	out, _, err := relink("--from-issuer", old.Issuer, "--issuer", next.Issuer, "--dry-run")
	if want := "Checked 2 accounts: 2 would be moved. Nothing was changed."; err != nil || !strings.Contains(out, want) ||
		!strings.Contains(out, fmt.Sprintf("wang: id of wang of %s, before: id of wang of %s\n", next.Issuer, old.Issuer)) {
		t.Errorf("a dry run: got %s, %v", out, err)
	}
	if _, _, err := relink("--from-issuer", next.Issuer, "--issuer", old.Issuer); err == nil || !strings.Contains(err.Error(), old.Issuer+" has 2") {
		t.Errorf("from an issuer without accounts, after a dry run: got %v", err)
	}
	out, _, err = relink("--from-issuer", old.Issuer, "--issuer", next.Issuer, "--reason", "the city has a new provider")
	if err != nil || !strings.Contains(out, "Moved 2 of 2 accounts") {
		t.Errorf("got %s, %v", out, err)
	}
	if store[0] == "--data" {
		address, stop = serve(next)
	}
	// Servers of a database hear of it by themselves.
	eventually(t, "the administrator is let in", func() bool {
		_, err := as(next, root, address, "changes")
		return err == nil
	})
	people := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+next.SignIn(t, oidctest.Audience, auditor).ID)
	history, err := xunchav1.NewAuditServiceClient(connect(t, address)).ListAccountHistory(people, &xunchav1.ListAccountHistoryRequest{PageSize: 2})
	// The newest entry is that the auditor has come.
	if e := history.GetEntries(); err != nil || len(e) != 2 || e[1].Account != "operator" || e[1].GetAccountEvent().Issuer != next.Issuer ||
		e[1].GetAccountEvent().Subject != "id of wang" || e[1].GetAccountEvent().Reason != "the city has a new provider" {
		t.Errorf("got the history %v, %v; want by whom the account was moved, where to and why", e, err)
	}
	if err := visit(next, wang, waits, waitsSince.Add(time.Minute)); err != nil {
		t.Errorf("a visit that waited on the phone: %v", err)
	}
	if err := visit(next, wang, sent, waitsSince); err != nil {
		t.Errorf("one whose answer was lost: %v", err)
	}
	if _, err := as(old, wang, address, "coverage", "511602"); err == nil || !strings.Contains(err.Error(), "TOKEN_INVALID") {
		t.Errorf("a token of the old provider: got %v", err)
	}
	log := stop()
	if store[0] != "--data" {
		const message = "move the accounts with: xuncha account relink"
		if n := strings.Count(log, message); n != 1 || !strings.Contains(log, `"refused":1,"username":"root"`) || !strings.Contains(log, `"subject":"id of root"`) {
			t.Errorf("the log says %d times, want once, whom it refuses: %s", n, log)
		}
	}

	address, stop = serve(old)
	if _, err := as(old, wang, address, "coverage", "511602"); err == nil || !strings.Contains(err.Error(), "TOKEN_INVALID") {
		t.Errorf("at a server that still takes the old provider's tokens: got %v", err)
	}
	stop()

	// With a table, of which no row is taken while one is wrong.
	csv := func(text string) string { return sample(t, "people.csv", []byte(text)) }
	_, stderr, err := relink("--issuer", next.Issuer, "--table", csv("用户名,主体标识\nroot,new root\nnobody,x\nwang,\nwang,id of root\n"))
	for _, want := range []string{"row 3, username", "row 4, subject", "row 5, subject: the subject is another account's: root"} {
		if err == nil || !strings.Contains(err.Error(), "problems: 3 (3 shown)") || !strings.Contains(stderr, want) {
			t.Errorf("a table with bad rows: got %s, %v; want %s", stderr, err, want)
		}
	}
	table := csv("username;subject\nroot;id of root\nwang;another\n")
	for i, want := range []string{"Moved 1 of 2 accounts", "Moved 0 of 2 accounts"} {
		out, _, err = relink("--issuer", next.Issuer, "--table", table)
		if err != nil || !strings.Contains(out, want) || !strings.Contains(out, "root: id of root of "+next.Issuer+", as before") {
			t.Errorf("a table, time %d: got %s, %v; want %s", i+1, out, err, want)
		}
	}
	// And back to a password, of the only administrator too.
	out, _, err = relink("--username", "root", "--password")
	given := regexp.MustCompile(`root: a password, before: id of root of \S+: (\S+)\n`).FindStringSubmatch(out)
	if err != nil || given == nil {
		t.Fatalf("got %s, %v", out, err)
	}
	address, stop = serveOn(t, store...)
	t.Setenv("XUNCHA_TOKEN", "")
	if _, err := xunchav1.NewAccountServiceClient(connect(t, address)).Login(t.Context(), &xunchav1.LoginRequest{
		Username: "root", Password: given[1], NewPassword: "correct horse battery",
	}); err != nil {
		t.Errorf("with the one-time password: %v", err)
	}
	_, stderr, err = xuncha(t, "check", store[0], store[1])
	if store[0] == "--data" {
		stop()
		_, stderr, err = xuncha(t, "check", store[0], store[1])
	}
	if err != nil {
		t.Errorf("a check afterwards: %v %s", err, stderr)
	}
}

func TestRelinkFlags(t *testing.T) {
	table := filepath.Join(t.TempDir(), "t.csv")
	if err := os.WriteFile(table, []byte("username,subject\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ flags, want string }{
		{"--issuer https://id.example.org", "give one of --username"},
		{"--username a --table " + table + " --issuer https://id.example.org", "give one of --username"},
		{"--username a", "give either --issuer"},
		{"--username a --issuer https://id.example.org --subject s --password", "give either --issuer"},
		{"--username a --issuer https://id.example.org", "--subject: is missing"},
		{"--from-issuer https://a.example.org --issuer https://id.example.org --subject s", "--subject: can only"},
		{"--table " + table + " --password", "--password: cannot"},
		{"--from-issuer https://a.example.org --issuer https://a.example.org", "the same"},
		{"--from-issuer https://a.example.org --issuer http://id.example.org", "--issuer http://id.example.org: want https://"},
		{"--from-issuer https://a.example.org --issuer https://a.example.org/", "no identity provider has any"},
		{"--username a --issuer https://id.example.org --subject s --reason " + strings.Repeat("x", 501), "--reason"},
		{"--username a --issuer https://id.example.org --subject s", "no account was moved"},
		{"--table " + table + " --issuer https://id.example.org", "has no row below its header"},
	} {
		_, _, err := xuncha(t, append([]string{"account", "relink", "--data", t.TempDir()}, strings.Fields(c.flags)...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to say %s", c.flags, err, c.want)
		}
	}
}
