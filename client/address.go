package client

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
)

// IsLoopback reports whether nobody but this machine can reach the address, which
// is HOST:PORT. Of names it knows only localhost.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// LoadCAs reads a file with certificates, in PEM, that sign others. The error names
// the file.
func LoadCAs(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}
