package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc/credentials"
)

// clientConns are TLS's credentials of a server, which know the open connections of clients
// that have shown a certificate. So these can be ended when nobody vouches for it any more.
// It is safe for concurrent use.
type clientConns struct {
	credentials.TransportCredentials
	// verify returns an error where the certificates, of which the first is the client's, are
	// not to be trusted just now.
	verify func([]*x509.Certificate) error

	mu   sync.Mutex
	open map[*clientConn]struct{}
}

// A clientConn is a connection of a client with the certificates that it has shown.
type clientConn struct {
	net.Conn
	raw   net.Conn // below TLS
	shown []*x509.Certificate
	of    *clientConns
}

func newClientConns(secure credentials.TransportCredentials, verify func([]*x509.Certificate) error) *clientConns {
	return &clientConns{TransportCredentials: secure, verify: verify, open: map[*clientConn]struct{}{}}
}

// ServerHandshake implements credentials.TransportCredentials.
func (c *clientConns) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	secure, ok := info.(credentials.TLSInfo)
	if err != nil || !ok || len(secure.State.PeerCertificates) == 0 {
		return conn, info, err
	}
	held := &clientConn{Conn: conn, raw: raw, shown: secure.State.PeerCertificates, of: c}
	c.mu.Lock()
	c.open[held] = struct{}{}
	c.mu.Unlock()
	// The handshake may have begun before they were withdrawn. From here on endUntrusted
	// finds it.
	if err := c.verify(held.shown); err != nil {
		return nil, nil, errors.Join(err, held.Close())
	}
	return held, info, nil
}

// ClientHandshake implements credentials.TransportCredentials. These are a server's.
func (c *clientConns) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("a server's credentials are not for clients")
}

// Clone implements credentials.TransportCredentials. All copies know the same connections.
func (c *clientConns) Clone() credentials.TransportCredentials { return c }

// Close implements net.Conn.
func (c *clientConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// endUntrusted ends the connections whose certificates are not to be trusted any more, with
// the calls on them, and returns how many those were.
func (c *clientConns) endUntrusted() (ended int) {
	c.mu.Lock()
	open := slices.Collect(maps.Keys(c.open))
	c.mu.Unlock()
	for _, conn := range open {
		if c.verify(conn.shown) != nil {
			ended++
			// Without TLS's farewell, for which a client that reads nothing would be waited for.
			// Whoever serves the connection then closes it.
			_ = conn.raw.Close()
		}
	}
	return ended
}
