package client

import (
	"crypto/tls"
	"errors"
	"fmt"

	"xuncha/client"
)

// clientTLS holds the flags with which a client verifies the server, and proves who it
// is itself.
type clientTLS struct {
	TLS        bool   `name:"tls" help:"Speak TLS with the server, whose certificate the machine's own authorities have signed."`
	TLSCA      string `name:"tls-ca" type:"existingfile" placeholder:"FILE" help:"Speak TLS with the server, whose certificate those in this file, in PEM, have signed."`
	ClientCert string `name:"client-cert" type:"existingfile" placeholder:"FILE" help:"Certificate of the client, in PEM, for a server that asks for one."`
	ClientKey  string `name:"client-key" type:"existingfile" placeholder:"FILE" help:"Private key of the client's certificate, in PEM."`
}

// config returns the configuration of a client's TLS, or nil for plaintext.
func (c clientTLS) config() (*tls.Config, error) {
	if !c.TLS && c.TLSCA == "" {
		if c.ClientCert != "" || c.ClientKey != "" {
			return nil, errors.New("--client-cert: needs --tls or --tls-ca")
		}
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLSCA != "" {
		var err error
		if out.RootCAs, err = client.LoadCAs(c.TLSCA); err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
	}
	if (c.ClientCert == "") != (c.ClientKey == "") {
		return nil, errors.New("--client-cert and --client-key: one is missing")
	}
	if c.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("--client-cert %s, --client-key %s: %w", c.ClientCert, c.ClientKey, err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
