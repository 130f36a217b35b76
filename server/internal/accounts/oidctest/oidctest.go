// Package oidctest gives tests an OpenID Connect provider: that of
// github.com/zitadel/oidc, which runs as a program of its own.
package oidctest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"xuncha/server/internal/testbinary"
)

// Audience is the app whose tokens are the tests'. OtherAudience is another app
// of the same provider.
const (
	Audience      = "xuncha-app"
	OtherAudience = "other-app"
)

// callback is where the provider sends the app after somebody has signed in.
// Nothing listens there.
const callback = "http://127.0.0.1/callback"

// A User is who can sign in at the provider.
type User struct {
	// ID is the claim sub.
	ID       string `json:"id"`
	Username string `json:"username"`
	Password string `json:"password"`
	Name     string `json:"name"`
	// Claims are in each of the user's tokens.
	Claims map[string]any `json:"claims"`
}

// A Provider is one that runs.
type Provider struct {
	// Issuer is its address.
	Issuer  string
	users   string
	process *exec.Cmd
	stderr  bytes.Buffer
}

// Start starts a provider with the users. It ends with the test.
func Start(tb testing.TB, users ...User) *Provider {
	tb.Helper()
	binary, err := testbinary.Build("oidcprovider")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Provider{users: filepath.Join(tb.TempDir(), "users.json")}
	p.SetUsers(tb, users...)
	p.start(tb, binary, "127.0.0.1:0")
	return p
}

func (p *Provider) start(tb testing.TB, binary, listen string) {
	tb.Helper()
	p.process = exec.Command(binary, "-listen", listen, "-users", p.users)
	p.process.Stderr = &p.stderr
	out, err := p.process.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	in, err := p.process.StdinPipe() // whose end ends the provider
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.process.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = in.Close(); p.Stop() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	issuer, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if !ok {
		p.Stop()
		tb.Fatalf("the provider did not start: %s", p.stderr.String())
	}
	p.Issuer = issuer
}

// Stop ends the provider, and Restart starts it once more at the same address,
// with other keys and the same users.
func (p *Provider) Stop() {
	if p.process.ProcessState == nil {
		_ = p.process.Process.Kill()
		_ = p.process.Wait() // and the error says that it was killed
	}
}

// Restart is described at Stop.
func (p *Provider) Restart(tb testing.TB) {
	tb.Helper()
	p.Stop()
	p.start(tb, p.process.Path, strings.TrimPrefix(p.Issuer, "http://"))
}

// SetUsers replaces the users. Tokens that are given from now on say what the new
// ones say.
func (p *Provider) SetUsers(tb testing.TB, users ...User) {
	tb.Helper()
	b, err := json.Marshal(users)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(p.users, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// RotateKey lets a new key sign. Tokens that others have signed stay valid.
func (p *Provider) RotateKey(tb testing.TB) {
	tb.Helper()
	answer, err := http.Post(p.Issuer+"/test/rotate-key", "", nil)
	if err != nil {
		tb.Fatal(err)
	}
	_ = answer.Body.Close() // it is empty
	if answer.StatusCode != http.StatusOK {
		tb.Fatalf("rotating the key: %s", answer.Status)
	}
}

// Tokens are what an app gets for a user.
type Tokens struct{ ID, Access, Refresh string }

func (p *Provider) app(audience string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: audience, RedirectURL: callback, Scopes: []string{"openid", "profile", "offline_access"},
		Endpoint: oauth2.Endpoint{AuthURL: p.Issuer + "/auth", TokenURL: p.Issuer + "/oauth/token", AuthStyle: oauth2.AuthStyleInParams},
	}
}

// SignIn signs the user in to the app as a browser does: by the authorization
// code flow with PKCE.
func (p *Provider) SignIn(tb testing.TB, audience string, u User) Tokens {
	tb.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		tb.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), callback) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	app, verifier := p.app(audience), oauth2.GenerateVerifier()
	page, err := browser.Get(app.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)))
	if err != nil {
		tb.Fatal(err)
	}
	_ = page.Body.Close() // it is a form, whose fields are known
	answer, err := browser.PostForm(p.Issuer+"/login/username", url.Values{
		"id": {page.Request.URL.Query().Get("authRequestID")}, "username": {u.Username}, "password": {u.Password},
	})
	if err != nil {
		tb.Fatal(err)
	}
	_ = answer.Body.Close() // where it leads is in the header
	back, err := url.Parse(answer.Header.Get("Location"))
	if err != nil || back.Query().Get("code") == "" {
		tb.Fatalf("%s did not sign in: %s, to %q, %v", u.Username, answer.Status, back, err)
	}
	t, err := app.Exchange(context.WithoutCancel(tb.Context()), back.Query().Get("code"), oauth2.VerifierOption(verifier))
	return tokens(tb, t, err)
}

// Refresh gets new tokens of the app.
func (p *Provider) Refresh(tb testing.TB, audience string, old Tokens) Tokens {
	tb.Helper()
	t, err := p.app(audience).TokenSource(tb.Context(), &oauth2.Token{RefreshToken: old.Refresh}).Token()
	return tokens(tb, t, err)
}

func tokens(tb testing.TB, t *oauth2.Token, err error) Tokens {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	id, _ := t.Extra("id_token").(string)
	if id == "" {
		tb.Fatal("there is no ID token")
	}
	return Tokens{id, t.AccessToken, t.RefreshToken}
}
