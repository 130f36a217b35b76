package command_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

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

// TestTLSRenewal runs a server whose certificate is renewed by one that has expired, by one
// for clients, and by a good one whose files have the size and the time of those before, and
// withdraws the authority of one of two clients that listen to it.
func TestTLSRenewal(t *testing.T) {
	a, withdrawn, stays := testcert.New(t), testcert.New(t), testcert.New(t)
	folder := t.TempDir()
	at := time.Now().Add(-time.Hour)
	put := func(name string, from ...string) string {
		t.Helper()
		var content []byte
		for _, f := range from {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			content = append(content, b...)
		}
		content = append(content, bytes.Repeat([]byte("\n"), 4000-len(content))...)
		name = filepath.Join(folder, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
		return name
	}
	renew := func(name string, change ...func(*x509.Certificate)) (string, string) {
		t.Helper()
		cert, key := a.Issue(t, name, change...)
		return put("server.pem", cert), put("server.key", key)
	}
	cert, key := renew("first")
	clients := put("clients.pem", withdrawn.File, stays.File)
	address, stop := serveOn(t, "--data", t.TempDir(), "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", clients)
	serves := func() string {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	listen := func(a *testcert.Authority) healthv1.Health_WatchClient {
		own, err := tls.LoadX509KeyPair(a.Issue(t, "phone"))
		if err != nil {
			t.Fatal(err)
		}
		secure := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}})
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(secure))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		stream, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	for _, bad := range []func(*x509.Certificate){
		func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
	} {
		renew("bad", bad)
		for late := time.Now().Add(3 * time.Second); time.Now().Before(late); {
			if got := serves(); got != "first" {
				t.Errorf("it serves the certificate %s", got)
				break
			}
		}
	}
	renew("renewed")
	eventually(t, "the renewed certificate is served", func() bool { return serves() == "renewed" })
	ends, lasts := listen(withdrawn), listen(stays)
	put("clients.pem", stays.File)
	if _, err := ends.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the client whose authority was withdrawn: got %v", err)
	}
	if lasts.Context().Err() != nil {
		t.Error("the other client's connection has ended")
	}
	if log := stop(); !strings.Contains(log, `"connections_ended":1`) {
		t.Errorf("got the log %s", log)
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
