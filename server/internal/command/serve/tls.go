package serve

import (
	"errors"
	"fmt"
	"net"

	"xuncha/client"
)

// tlsConfig holds the server's certificate and what the server asks of clients.
type tlsConfig struct {
	TLSCert              string `name:"tls-cert" type:"path" placeholder:"FILE" help:"Certificate of the server and those that sign it, in PEM. It is read again when its content changes; one that clients would refuse is not taken."`
	TLSKey               string `name:"tls-key" type:"path" placeholder:"FILE" help:"Private key of the certificate, in PEM."`
	TLSMin               string `name:"tls-min" default:"1.3" enum:"1.2,1.3" help:"Least version of TLS that is spoken: 1.2 or 1.3. Default: ${default}."`
	TLSClientCA          string `name:"tls-client-ca" type:"path" placeholder:"FILE" help:"Certificates, in PEM, that sign those of clients. A client that has one must have one that they sign. It is read again when its content changes, and connections of clients that they no longer sign end."`
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
