package rpc

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"xuncha/server/internal/wire"
)

// This file joins calls to the connections on which they come (package wire).

const (
	// maxHeaders is how long the header list of a call may be, in bytes by RFC 9113,
	// section 6.5.2. The token of an identity provider is in it.
	maxHeaders = 32 << 10
	// maxStreams is how many calls there may be at once on one connection.
	maxStreams = 250
	// openRequestTime is how long the one request of a call without a token may take to
	// come, and requestTime that of another.
	openRequestTime = 20 * time.Second
	requestTime     = 2 * time.Minute
	// standardTime is how long a stranger's stream of a standard service may last.
	standardTime = 10 * time.Minute
	// standardWaits is how many bytes of answers may wait in such a stream, whose caller
	// needs no token: what grpc keeps of a stream before it lets the method wait.
	standardWaits = 64 << 10
)

// gated are credentials that let a connection in through a gate.
type gated struct {
	credentials.TransportCredentials
	gate *wire.Gate
}

// ServerHandshake implements credentials.TransportCredentials.
func (g gated) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, err := g.gate.Admit(raw)
	if err != nil {
		return nil, nil, err
	}
	inner, info, err := g.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	conn.Over(inner)
	return conn, wiredInfo{info, conn}, nil
}

// Clone implements credentials.TransportCredentials.
func (g gated) Clone() credentials.TransportCredentials {
	return gated{g.TransportCredentials.Clone(), g.gate}
}

// wiredInfo is what is known of a connection.
type wiredInfo struct {
	credentials.AuthInfo
	conn *wire.Conn
}

// A wired context is that of a call which came on a connection of the gate.
type wired struct {
	context.Context
	conn   *wire.Conn
	stream *wire.Stream
}

type wiredKey struct{}

// Value implements context.Context.
func (w *wired) Value(key any) any {
	if key == (wiredKey{}) {
		return w
	}
	return w.Context.Value(key)
}

// tapped makes the context of a call, before its method is called.
func tapped(ctx context.Context, info *tap.Info) (context.Context, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if on, ok := p.AuthInfo.(wiredInfo); ok {
			ctx = &wired{ctx, on.conn, on.conn.Opened(info.Header)}
		}
	}
	return linger(ctx, info)
}

// wiredOf returns how the call came. Where that was on no connection of a gate it is nil,
// which has the methods too.
func wiredOf(ctx context.Context) *wired {
	w, _ := ctx.Value(wiredKey{}).(*wired)
	return w
}

// streamOf returns the stream of the call, or nil, which has the methods of a stream.
func (w *wired) streamOf() *wire.Stream {
	if w == nil {
		return nil
	}
	return w.stream
}

// isKnown reports whether the call came on a connection of a caller with a good token.
func (w *wired) isKnown() bool { return w != nil && w.conn.Known() }

// know notes that the call's connection is one of a caller with a good token.
func (w *wired) know() {
	if w != nil {
		w.conn.Know()
	}
}

// within ends the call after so long, unless its stream is done with that before.
func (o *observed) within(ctx context.Context, d time.Duration) {
	if s := o.on.streamOf(); s != nil {
		id := o.id
		s.Within(d, func() { endCall(ctx, fmt.Errorf("%w: %s", errAged, d), id) })
	}
}

// endCall tells the caller why its call has ended, and ends the context of its stream. grpc
// has no other way to end a stream of which its method waits for a message: a context that
// ends makes it answer CANCELLED. A status that is written ends both.
func endCall(ctx context.Context, err error, id string) {
	if t, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ WriteStatus(*status.Status) error }); ok {
		_ = t.WriteStatus(toStatus(ctx, err, id)) // where it cannot be, the connection has ended
	}
}
