package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc/tap"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// lingerFor is how much longer than its connection an upload lasts. What is left
// to read by then has arrived already.
const lingerFor = 100 * time.Millisecond

// A lingering context ends lingerFor after another one.
type lingering struct {
	context.Context
	done chan struct{}
}

// linger makes the context of an upload. Once a connection breaks off, grpc gives
// what has arrived and was not read yet, or the end of the context, whichever it
// comes upon first. A phone has paid for those bytes, so the end comes later.
func linger(ctx context.Context, info *tap.Info) (context.Context, error) {
	if info.FullMethodName != xunchav1.PhotoService_UploadPhoto_FullMethodName {
		return ctx, nil
	}
	l := &lingering{ctx, make(chan struct{})}
	context.AfterFunc(ctx, func() {
		time.AfterFunc(lingerFor, func() { close(l.done) })
	})
	return l, nil
}

// Done implements context.Context.
func (l *lingering) Done() <-chan struct{} { return l.done }

// Err implements context.Context.
func (l *lingering) Err() error {
	select {
	case <-l.done:
		return l.Context.Err()
	default:
		return nil
	}
}

// goneKey finds the channel that is closed when the connection has broken off.
type goneKey struct{}

// Value implements context.Context.
func (l *lingering) Value(key any) any {
	if key == (goneKey{}) {
		return l.Context.Done()
	}
	return l.Context.Value(key)
}

// gone returns a channel that is closed as soon as nothing more can arrive of the
// call, which may last longer.
func gone(ctx context.Context) <-chan struct{} {
	if c, ok := ctx.Value(goneKey{}).(<-chan struct{}); ok {
		return c
	}
	return ctx.Done()
}
