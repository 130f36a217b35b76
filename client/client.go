// Package client calls a server of Xuncha. Phone apps, the commands, the demo and
// the bench use it.
//
// A [Client] holds one connection and one account. It signs in, puts the access
// token on every call and renews it in time, submits check-ins until a receipt
// comes, and uploads photos that go on after each break. It is a
// [grpc.ClientConnInterface], so the other calls are made with the generated
// clients:
//
//	roster := xunchav1.NewRosterServiceClient(c)
//
// Whatever must outlive a restart of the app is in a [Session], which Config.Keep
// is given whenever it changes. The example of the package shows a whole visit.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// A Config says which server is called, and how.
type Config struct {
	// Address is the server's, as HOST:PORT. It is required.
	Address string
	// TLS verifies the server. Nil means TLS 1.2 or newer, with the certificates
	// that this machine trusts. LoadCAs reads other certificates to trust.
	TLS *tls.Config
	// Plaintext turns TLS off. Without PlaintextAnywhere it is taken only for an
	// address on this machine.
	Plaintext bool
	// PlaintextAnywhere allows plaintext to other machines too, where anybody on the
	// way can read passwords and tokens and use them.
	PlaintextAnywhere bool
	// Now returns the time by this machine's clock, which may be wrong. It is
	// required.
	Now func() time.Time
	// NewID returns a new random UUID. It is required.
	NewID func() string
	// Session is what Keep was given last. The zero value is nobody's.
	Session Session
	// Keep, if it is not nil, stores a session so that it outlives a power cut. It is
	// called before a new session is used, one call at a time, and must not call the
	// client. With an error, the client stays with the session before.
	Keep func(Session) error
}

// ErrPlaintext means that a connection to another machine would not be encrypted.
var ErrPlaintext = errors.New("plaintext to another machine: anybody on the way could read passwords and tokens")

const (
	// pingAfter is how long nothing may come during a call before the client asks
	// whether the connection still works. The server takes a ping every 15 s.
	pingAfter = 25 * time.Second
	// pingTimeout is how long the answer may take before the connection is given up.
	pingTimeout = 15 * time.Second
)

// reconnect is for how long the client waits after it could not connect. It waits
// less than grpc would on its own, because phones lose and find their network often.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 250 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 15 * time.Second},
	MinConnectTimeout: 20 * time.Second,
}

// A Client calls one server as one account, or as nobody. It is safe for concurrent
// use.
type Client struct {
	conn    *grpc.ClientConn
	session session
	now     func() time.Time
}

// New returns a client. It connects with the first call. The error is ErrPlaintext
// where the connection would not be encrypted and must be.
func New(c Config) (*Client, error) {
	if c.Now == nil || c.NewID == nil {
		return nil, errors.New("client: Now and NewID are required")
	}
	security := insecure.NewCredentials()
	switch {
	case !c.Plaintext && c.TLS != nil:
		security = credentials.NewTLS(c.TLS)
	case !c.Plaintext:
		security = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	case c.TLS != nil:
		return nil, errors.New("client: Plaintext and TLS cannot be used together")
	case !c.PlaintextAnywhere && !IsLoopback(c.Address):
		return nil, fmt.Errorf("%s: %w", c.Address, ErrPlaintext)
	}
	conn, err := grpc.NewClient(c.Address,
		grpc.WithTransportCredentials(security),
		grpc.WithConnectParams(reconnect),
		// Without a call under way there are no pings, so that a phone's radio can sleep.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
	)
	if err != nil {
		return nil, err
	}
	out := &Client{conn: conn, now: c.Now}
	out.session.start(conn, c)
	return out, nil
}

// Close ends the connection and all calls under way. The account stays signed in.
func (c *Client) Close() error {
	c.session.stop()
	return c.conn.Close()
}

// Invoke makes a call with one request and one answer. It implements
// [grpc.ClientConnInterface]. A call whose token the server does not take is made
// once more with a new one.
func (c *Client) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	for again := true; ; again = false {
		b := c.session.bearer()
		if b == nil {
			return c.conn.Invoke(ctx, method, args, reply, options...)
		}
		err := c.conn.Invoke(ctx, method, args, reply, b.with(options)...)
		if !again || !tokenInvalid(err) || !b.refused() {
			return err
		}
	}
}

// NewStream begins a call with a stream of requests or answers. It implements
// [grpc.ClientConnInterface]. A stream whose token the server does not take ends
// with that error; the next call has a new token.
func (c *Client) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	b := c.session.bearer()
	if b == nil {
		return c.conn.NewStream(ctx, desc, method, options...)
	}
	s, err := c.conn.NewStream(ctx, desc, method, b.with(options)...)
	if err != nil {
		return nil, err
	}
	return &stream{s, b}, nil
}

// A stream notices when the server does not take its token.
type stream struct {
	grpc.ClientStream
	bearer *bearer
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if tokenInvalid(err) {
		s.bearer.refused()
	}
	return err
}
