package command_test

import (
	"strings"
	"testing"

	"xuncha/server/internal/accounts/oidctest"
	"xuncha/server/internal/sampledata"
)

// TestOIDC runs a server whose people are an identity provider's: nobody creates
// an account, and each may do what the provider says.
func TestOIDC(t *testing.T) { onBothEngines(t, testOIDC) }

func testOIDC(t *testing.T, store ...string) {
	person := func(name string, groups []string, divisions string) oidctest.User {
		return oidctest.User{ID: "id of " + name, Username: name, Password: "at the provider", Claims: map[string]any{
			"groups": groups, "xuncha_divisions": divisions,
		}}
	}
	root := person("root", []string{"everyone", "it"}, "511600")
	auditor := person("auditor", []string{"everyone", "audit"}, "511602")
	visitor := person("visitor", []string{"everyone"}, "511602")
	provider := oidctest.Start(t, root, auditor, visitor)
	address, stop := serveOn(t, append(store, "--oidc-issuer", provider.Issuer, "--oidc-audience", oidctest.Audience,
		"--oidc-role-claim", "groups", "--oidc-role", "it=admin;audit=auditor", "--oidc-only")...)
	tokens := map[string]string{}
	as := func(u oidctest.User, args ...string) (string, error) {
		if tokens[u.Username] == "" {
			tokens[u.Username] = provider.SignIn(t, oidctest.Audience, u).ID
		}
		t.Setenv("XUNCHA_TOKEN", tokens[u.Username])
		out, _, err := xuncha(t, append(args, "--server", address)...)
		return out, err
	}
	for _, args := range [][]string{
		{"import", "divisions", "--effective-date", "2019-10-31", sample(t, "d.csv", sampledata.Divisions2019())},
		{"import", "sites", sample(t, "s.csv", sampledata.Sites())},
	} {
		if _, err := as(root, args...); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := as(auditor, "history", "SC-GA-0001"); err != nil || !strings.Contains(out, "sites_imported") {
		t.Errorf("the auditor: got %q, %v", out, err)
	}
	for name, c := range map[string]struct {
		user oidctest.User
		args []string
		want string
	}{
		"another role":     {root, []string{"history", "SC-GA-0001"}, "ROLE_NOT_ALLOWED"},
		"another division": {auditor, []string{"coverage", "511603"}, "DIVISION_NOT_FOUND"},
		"no role":          {visitor, []string{"coverage", "511602"}, "claims.groups"},
	} {
		if _, err := as(c.user, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to say %s", name, err, c.want)
		}
	}
	t.Setenv("XUNCHA_TOKEN", "")
	if _, _, err := xuncha(t, "coverage", "511602", "--server", address); err == nil || !strings.Contains(err.Error(), "TOKEN_INVALID") {
		t.Errorf("nobody: got %v", err)
	}
	if _, _, err := xuncha(t, "coverage", "511602", "--server", address, "--username", "root", "--password", "at the provider"); err == nil || !strings.Contains(err.Error(), "NO_PASSWORDS") {
		t.Errorf("a password: got %v", err)
	}
	if _, _, err := xuncha(t, "coverage", "511602", "--server", address, "--username", "root", "--token", "x"); err == nil || !strings.Contains(err.Error(), "--token") {
		t.Errorf("a password and a token: got %v", err)
	}
	log := stop()
	for _, token := range tokens {
		if strings.Contains(log, token) || strings.Contains(log, strings.Split(token, ".")[1]) {
			t.Error("the log has a token")
		}
	}

	// The server starts without the provider too, and says in its log what is wrong with
	// it, once.
	provider.Stop()
	address, stop = serveOn(t, append(store, "--oidc-issuer", provider.Issuer, "--oidc-audience", oidctest.Audience)...)
	if _, err := as(auditor, "coverage", "511602"); err == nil || !strings.Contains(err.Error(), "IDENTITY_PROVIDER_UNAVAILABLE") || strings.Contains(err.Error(), provider.Issuer) {
		t.Errorf("without the provider: got %v", err)
	}
	log = stop()
	if strings.Count(log, `"ERROR","msg":"the identity provider cannot be used`) != 1 || strings.Contains(log, "call failed") || !strings.Contains(log, "connection refused") {
		t.Errorf("got the log %s", log)
	}
}

func TestOIDCFlags(t *testing.T) {
	for _, c := range []struct{ flags, want string }{
		{"--oidc-only", "--oidc-only: needs --oidc-issuer"},
		{"--oidc-audience a", "--oidc-audience: needs --oidc-issuer"},
		{"--oidc-client a", "--oidc-client: needs --oidc-issuer"},
		{"--oidc-issuer https://id.example.org", "--oidc-audience: is missing"},
		{"--oidc-issuer http://id.example.org --oidc-audience a", "--oidc-issuer http://id.example.org: want https://"},
		{"--oidc-issuer id.example.org --oidc-audience a", "--oidc-issuer id.example.org: want https://"},
		{"--oidc-issuer https://id.example.org/?x --oidc-audience a", "--oidc-issuer"},
		{"--oidc-issuer https://id.example.org --oidc-audience a --oidc-role it=king", "--oidc-role it=king: there is no role king"},
	} {
		_, _, err := xuncha(t, append([]string{"serve", "--listen", "127.0.0.1:0", "--data", t.TempDir()}, strings.Fields(c.flags)...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to say %s", c.flags, err, c.want)
		}
	}
}
