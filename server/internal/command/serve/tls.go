package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"xuncha/client"
)

// tlsConfig holds the server's certificate and what the server asks of clients.
type tlsConfig struct {
	TLSCert              string `name:"tls-cert" type:"path" placeholder:"FILE" help:"Certificate of the server and those that sign it, in PEM. It is read again when the file changes."`
	TLSKey               string `name:"tls-key" type:"path" placeholder:"FILE" help:"Private key of the certificate, in PEM."`
	TLSMin               string `name:"tls-min" default:"1.3" enum:"1.2,1.3" help:"Least version of TLS that is spoken: 1.2 or 1.3. Default: ${default}."`
	TLSClientCA          string `name:"tls-client-ca" type:"path" placeholder:"FILE" help:"Certificates, in PEM, that sign those of clients. A client that has one must have one that they sign."`
	TLSRequireClientCert bool   `name:"tls-require-client-cert" help:"Take no client without a certificate."`
	PlaintextBehindProxy bool   `name:"plaintext-behind-proxy" help:"Speak plaintext on an address that other machines can reach, because a proxy before the server speaks TLS. Nobody but the proxy may reach the address, there must be an account, and the proxy must add the caller's address to x-forwarded-for."`
}

// check returns an error that names a missing flag, or two that cannot be used
// together.
func (c tlsConfig) check() error {
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		return errors.New("--tls-key: is missing, and --tls-cert is there")
	case c.TLSCert == "" && c.TLSKey != "":
		return errors.New("--tls-cert: is missing, and --tls-key is there")
	case c.TLSCert != "" && c.PlaintextBehindProxy:
		return errors.New("--plaintext-behind-proxy: cannot be used together with --tls-cert")
	case c.TLSCert == "" && c.TLSClientCA != "":
		return errors.New("--tls-client-ca: needs --tls-cert and --tls-key")
	case c.TLSRequireClientCert && c.TLSClientCA == "":
		return errors.New("--tls-require-client-cert: needs --tls-client-ca")
	}
	return nil
}

// checkListen returns an error for an address that other machines can reach, themselves or
// through a proxy, unless calls are encrypted and the server asks who calls.
func checkListen(address string, c tlsConfig, hasAccounts bool) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if c.PlaintextBehindProxy && !hasAccounts { // wherever it listens, the proxy reaches it
		return errors.New("--plaintext-behind-proxy: whoever reaches the proxy could do everything, because the server has no accounts; create the first with: xuncha account create --role admin, or give --oidc-issuer; where there is no proxy, leave the flag out")
	}
	if client.IsLoopback(address) {
		return nil
	}
	var missing []string
	if c.TLSCert == "" && !c.PlaintextBehindProxy {
		missing = append(missing, "TLS (give --tls-cert and --tls-key, or --plaintext-behind-proxy where a proxy speaks it)")
	}
	if !hasAccounts {
		missing = append(missing, "accounts (create the first with: xuncha account create --role admin, or give --oidc-issuer)")
	}
	if len(missing) == 0 {
		return nil
	}
	text := missing[0]
	if len(missing) > 1 {
		text += " and " + missing[1]
	}
	return fmt.Errorf("--listen %s: others can reach this address, and the server lacks %s; until then use 127.0.0.1, [::1] or localhost", address, text)
}

// looksEvery is the shortest time between two looks at the files.
const looksEvery = time.Second

// A keyPair is the server's certificate, read again when a file changes. It is
// safe for concurrent use.
type keyPair struct {
	files tlsConfig
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	config *tls.Config
	states []fileState
	looked time.Time
}

// A fileState tells whether a file has changed.
type fileState struct {
	size     int64
	modified time.Time
}

// serverTLS returns the configuration of the server's TLS, or nil for plaintext.
func serverTLS(c tlsConfig, now func() time.Time, log *slog.Logger) (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	k := &keyPair{files: c, now: now, log: log, looked: now(), states: c.states()}
	var err error
	if k.config, err = c.load(now); err != nil {
		return nil, err
	}
	out := k.config.Clone()
	out.GetConfigForClient = k.forClient
	return out, nil
}

// states returns the present states of the files.
func (c tlsConfig) states() (out []fileState) {
	for _, name := range []string{c.TLSCert, c.TLSKey, c.TLSClientCA} {
		var state fileState
		if info, err := os.Stat(name); err == nil {
			state = fileState{info.Size(), info.ModTime()}
		}
		out = append(out, state)
	}
	return out
}

// load makes the configuration from the files. The certificates of clients are checked by
// the clock that it is given.
func (c tlsConfig) load(now func() time.Time) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", c.TLSCert, c.TLSKey, err)
	}
	out := &tls.Config{Time: now, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}}
	if c.TLSMin == "1.2" {
		out.MinVersion = tls.VersionTLS12
	}
	if c.TLSClientCA != "" {
		if out.ClientCAs, err = client.LoadCAs(c.TLSClientCA); err != nil {
			return nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		out.ClientAuth = tls.VerifyClientCertIfGiven
		if c.TLSRequireClientCert {
			out.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return out, nil
}

// forClient returns the configuration for a new connection. If the files have changed
// and cannot be used, it is still the one before: while somebody replaces a
// certificate, it may not match its key for a moment.
func (k *keyPair) forClient(*tls.ClientHelloInfo) (*tls.Config, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if now.Sub(k.looked) < looksEvery {
		return k.config, nil
	}
	k.looked = now
	states := k.files.states()
	if slices.Equal(states, k.states) {
		return k.config, nil
	}
	k.states = states
	config, err := k.files.load(k.now)
	if err != nil {
		k.log.Error("the new certificate cannot be used; the one before stays", "error", err.Error())
		return k.config, nil
	}
	k.config = config
	k.log.Info("the certificate was read again")
	return k.config, nil
}
