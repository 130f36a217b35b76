package command_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"xuncha/client"
	"xuncha/server/internal/testcert"
)

func TestTLS(t *testing.T) {
	a, stranger := testcert.New(t), testcert.New(t)
	cert, key := a.Issue(t, "server")
	const served, refused = "DIVISION_NOT_FOUND", "any error of the connection"
	mine, mineKey := a.Issue(t, "phone")
	theirs, theirsKey := stranger.Issue(t, "phone")
	for name, test := range map[string]struct {
		server, client []string
		want           string // of the error: that of the server itself, unless the connection is refused
	}{
		"OK":              {nil, []string{"--tls-ca", a.File}, served},
		"Plaintext":       {nil, nil, refused},
		"OtherAuthority":  {nil, []string{"--tls-ca", stranger.File}, "unknown authority"},
		"NoClientCert":    {[]string{"--tls-client-ca", a.File, "--tls-require-client-cert"}, []string{"--tls-ca", a.File}, refused},
		"OptionalNone":    {[]string{"--tls-client-ca", a.File}, []string{"--tls-ca", a.File}, served},
		"ClientCert":      {[]string{"--tls-client-ca", a.File, "--tls-require-client-cert"}, []string{"--tls-ca", a.File, "--client-cert", mine, "--client-key", mineKey}, served},
		"OtherClientCert": {[]string{"--tls-client-ca", a.File}, []string{"--tls-ca", a.File, "--client-cert", theirs, "--client-key", theirsKey}, refused},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := serveOn(t, append([]string{"--data", t.TempDir(), "--tls-cert", cert, "--tls-key", key}, test.server...)...)
			_, _, err := xuncha(t, append([]string{"coverage", "511600", "--timeout", "10s", "--server", address}, test.client...)...)
			// How a client hears that it is refused depends on what it does just then.
			if err == nil || strings.Contains(err.Error(), served) != (test.want == served) || test.want != refused && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestTLSVersions(t *testing.T) {
	a := testcert.New(t)
	cert, key := a.Issue(t, "server")
	pool, err := client.LoadCAs(a.File)
	if err != nil {
		t.Fatal(err)
	}
	for least, want := range map[string]bool{"1.3": false, "1.2": true} {
		address, _ := serveOn(t, "--data", t.TempDir(), "--tls-cert", cert, "--tls-key", key, "--tls-min", least)
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}})
		if err == nil {
			conn.Close()
		}
		if (err == nil) != want {
			t.Errorf("--tls-min %s: a client of TLS 1.2 got %v", least, err)
		}
	}
}

func TestTLSFlags(t *testing.T) {
	a := testcert.New(t)
	cert, key := a.Issue(t, "server")
	for want, args := range map[string][]string{
		"--tls-key:":                 {"--tls-cert", cert},
		"--tls-cert:":                {"--tls-key", key},
		"--tls-cert " + a.File:       {"--tls-cert", a.File, "--tls-key", key},
		"--plaintext-behind-proxy:":  {"--tls-cert", cert, "--tls-key", key, "--plaintext-behind-proxy"},
		"--tls-client-ca: needs":     {"--tls-client-ca", a.File},
		"--tls-client-ca: " + key:    {"--tls-cert", cert, "--tls-key", key, "--tls-client-ca", key},
		"--tls-require-client-cert:": {"--tls-cert", cert, "--tls-key", key, "--tls-require-client-cert"},
	} {
		_, _, err := xuncha(t, append([]string{"serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0"}, args...)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want an error that says %q", args, err, want)
		}
	}
	if _, _, err := xuncha(t, "coverage", "511600", "--server", "192.0.2.1:6200", "--username", "head"); err == nil || !strings.Contains(err.Error(), "--tls") {
		t.Errorf("a password in plaintext to another machine: got %v", err)
	}
}
