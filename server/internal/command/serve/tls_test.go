package serve

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"xuncha/server/internal/rpc"
	"xuncha/server/internal/testcert"
)

// The certificates of clients are checked by the server's clock, and not by the machine's,
// which may have jumped.
func TestTLSClock(t *testing.T) {
	a := testcert.New(t)
	cert, key := a.Issue(t, "server")
	for _, test := range []struct {
		ahead time.Duration
		valid bool
	}{{0, true}, {2 * time.Hour, false}} {
		files := tlsConfig{TLSCert: cert, TLSKey: key, TLSMin: "1.3", TLSClientCA: a.File, TLSRequireClientCert: true}
		k, err := newCertificates(files, func() time.Time { return time.Now().Add(test.ahead) }, slog.New(slog.DiscardHandler), new(rpc.Problems))
		if err != nil {
			t.Fatal(err)
		}
		own, err := tls.LoadX509KeyPair(a.Issue(t, "client"))
		if err != nil {
			t.Fatal(err)
		}
		server, client := net.Pipe()
		go func() {
			_ = tls.Client(client, &tls.Config{Certificates: []tls.Certificate{own}, InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
			_, _ = io.Copy(io.Discard, client)
		}()
		if _, _, err := k.credentials().ServerHandshake(server); (err == nil) != test.valid {
			t.Errorf("%v after now: got %v, want that it is valid: %v", test.ahead, err, test.valid)
		}
		server.Close()
		client.Close()
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
		{"127.0.0.1:6200", tlsConfig{PlaintextBehindProxy: true}, false, []string{"--plaintext-behind-proxy", "account create", "--oidc-issuer"}},
		{"[::1]:6200", tlsConfig{PlaintextBehindProxy: true}, false, []string{"--plaintext-behind-proxy"}},
		{"127.0.0.1:6200", tlsConfig{PlaintextBehindProxy: true}, true, nil},
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
