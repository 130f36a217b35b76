package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An authority signs certificates.
type authority struct {
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	file   string
	serial int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{folder: t.TempDir()}
	a.file, _ = a.issue(t, "authority")
	return a
}

// issue makes a certificate and its key, in files of that name. The first one is
// the authority's own.
func (a *authority) issue(t testing.TB, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = template, private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert == nil {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		a.key = private
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(a.folder, name+".pem"), filepath.Join(a.folder, name+".key")
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, key, "PRIVATE KEY", secret)
	return cert, key
}

func writePEM(t testing.TB, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	cert, key := a.issue(t, "server")
	const served, refused = "DIVISION_NOT_FOUND", "any error of the connection"
	mine, mineKey := a.issue(t, "phone")
	theirs, theirsKey := stranger.issue(t, "phone")
	for name, test := range map[string]struct {
		server, client []string
		want           string // of the error: that of the server itself, unless the connection is refused
	}{
		"OK":              {nil, []string{"--tls-ca", a.file}, served},
		"Plaintext":       {nil, nil, refused},
		"OtherAuthority":  {nil, []string{"--tls-ca", stranger.file}, "unknown authority"},
		"NoClientCert":    {[]string{"--tls-client-ca", a.file, "--tls-require-client-cert"}, []string{"--tls-ca", a.file}, refused},
		"OptionalNone":    {[]string{"--tls-client-ca", a.file}, []string{"--tls-ca", a.file}, served},
		"ClientCert":      {[]string{"--tls-client-ca", a.file, "--tls-require-client-cert"}, []string{"--tls-ca", a.file, "--client-cert", mine, "--client-key", mineKey}, served},
		"OtherClientCert": {[]string{"--tls-client-ca", a.file}, []string{"--tls-ca", a.file, "--client-cert", theirs, "--client-key", theirsKey}, refused},
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
	a := newAuthority(t)
	cert, key := a.issue(t, "server")
	pool, err := readPool(a.file)
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

// TestTLSReload ensures that a new certificate is used without a new start, and
// that one that cannot be used leaves the one before in its place.
func TestTLSReload(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue(t, "server")
	now := time.Now()
	var log bytes.Buffer
	config, err := serverTLS(tlsConfig{TLSCert: cert, TLSKey: key, TLSMin: "1.3"}, func() time.Time { return now }, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		c, err := config.GetConfigForClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Fatalf("got certificate %d, want 2", got)
	}
	if err := os.WriteFile(cert, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	for range 2 {
		if got := serial(); got != 2 {
			t.Errorf("after a broken file: got certificate %d, want 2", got)
		}
		now = now.Add(time.Second)
	}
	if got := strings.Count(log.String(), "cannot be used"); got != 1 {
		t.Errorf("a broken file was logged %d times, want once: %s", got, &log)
	}
	a.issue(t, "server")
	now = now.Add(time.Second)
	if got := serial(); got != 3 {
		t.Errorf("after a new file: got certificate %d, want 3", got)
	}
}

func TestTLSFlags(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue(t, "server")
	for want, args := range map[string][]string{
		"--tls-key:":                 {"--tls-cert", cert},
		"--tls-cert:":                {"--tls-key", key},
		"--tls-cert " + a.file:       {"--tls-cert", a.file, "--tls-key", key},
		"--plaintext-behind-proxy:":  {"--tls-cert", cert, "--tls-key", key, "--plaintext-behind-proxy"},
		"--tls-client-ca: needs":     {"--tls-client-ca", a.file},
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

func TestCheckListen(t *testing.T) {
	secure := tlsConfig{TLSCert: "c", TLSKey: "k"}
	for _, test := range []struct {
		address  string
		config   tlsConfig
		accounts bool
		want     []string // nil where it may be listened on
	}{
		{"127.0.0.1:6200", tlsConfig{}, false, nil},
		{"[::1]:6200", tlsConfig{}, false, nil},
		{"localhost:6200", tlsConfig{}, false, nil},
		{"0.0.0.0:6200", tlsConfig{}, false, []string{"--tls-cert", "--tls-key", "account create"}},
		{":6200", tlsConfig{}, true, []string{"--tls-cert"}},
		{"example.org:6200", tlsConfig{}, true, []string{"--tls-cert"}},
		{"0.0.0.0:6200", secure, false, []string{"account create"}},
		{"0.0.0.0:6200", tlsConfig{PlaintextBehindProxy: true}, false, []string{"account create"}},
		{"0.0.0.0:6200", secure, true, nil},
		{"0.0.0.0:6200", tlsConfig{PlaintextBehindProxy: true}, true, nil},
		{"6200", secure, true, []string{"--listen"}},
	} {
		err := checkListen(test.address, test.config, test.accounts)
		if (err != nil) != (test.want != nil) {
			t.Errorf("%s, accounts %v: got %v", test.address, test.accounts, err)
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want it to say %s", test.address, err, want)
			}
		}
	}
}
