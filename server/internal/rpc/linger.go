package rpc

import (
	"cmp"
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/tap"

	xunchav1 "xuncha/proto/xuncha/v1"
)

const (
	// lingerFor is for how long nothing must have been there to read, after a
	// connection has broken off, for an upload to end. What is left has arrived
	// already, so that is long.
	lingerFor = 100 * time.Millisecond
	// lingerAtMost is how long an upload may last then, whatever it waits for.
	lingerAtMost = time.Minute
)

// A lingering context ends later than another one: once all that had arrived was
// read.
type lingering struct {
	context.Context
	done   chan struct{}
	detach func() bool // from the other one's end

	mu      sync.Mutex
	gone    bool        // the other one has ended
	working bool        // nobody reads just now
	ended   bool        // done is closed
	idle    *time.Timer // ends it, while somebody reads
	last    *time.Timer // ends it at last, whatever it waits for
}

// linger makes the context of an upload. Once a connection breaks off, grpc gives
// what has arrived and was not read yet, or the end of the context, whichever it
// comes upon first. A phone has paid for those bytes, so the end comes later.
func linger(ctx context.Context, info *tap.Info) (context.Context, error) {
	if info.FullMethodName != xunchav1.PhotoService_UploadPhoto_FullMethodName {
		return ctx, nil
	}
	l := &lingering{Context: ctx, done: make(chan struct{}), working: true}
	l.mu.Lock() // for the other one may have ended already
	defer l.mu.Unlock()
	l.detach = context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ended {
			return
		}
		l.gone = true
		l.start()
		l.last = time.AfterFunc(lingerAtMost, l.end)
	})
	return l, nil
}

// letGo ends the context of an upload whose method has returned, so that nothing
// holds it, or what it holds, any longer.
func letGo(ctx context.Context) {
	if l, ok := ctx.Value(lingeringKey{}).(*lingering); ok {
		l.end()
	}
}

// start lets the time run after which it ends, where somebody reads. It needs
// l.mu.
func (l *lingering) start() {
	if l.gone && !l.working && !l.ended {
		l.idle = time.AfterFunc(lingerFor, func() {
			l.mu.Lock()
			working := l.working
			l.mu.Unlock()
			if !working {
				l.end()
			}
		})
	}
}

func (l *lingering) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.done)
	l.detach()
	for _, t := range []*time.Timer{l.idle, l.last} {
		if t != nil {
			t.Stop()
		}
	}
}

// readNext calls read, which waits for what comes next of the call. Between its
// calls, the context of an upload does not end for want of something to read.
func readNext[M any](ctx context.Context, read func() (M, error)) (M, error) {
	l, ok := ctx.Value(lingeringKey{}).(*lingering)
	if !ok {
		return read()
	}
	l.mu.Lock()
	l.working = false
	l.start()
	l.mu.Unlock()
	m, err := read()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.working = true
	if l.idle != nil {
		l.idle.Stop()
	}
	return m, err
}

// Done implements context.Context.
func (l *lingering) Done() <-chan struct{} { return l.done }

// Err implements context.Context.
func (l *lingering) Err() error {
	select {
	case <-l.done:
		return cmp.Or(l.Context.Err(), context.Canceled)
	default:
		return nil
	}
}

// lingeringKey finds the lingering context that another is made of.
type lingeringKey struct{}

// Value implements context.Context.
func (l *lingering) Value(key any) any {
	if key == (lingeringKey{}) {
		return l
	}
	return l.Context.Value(key)
}

// gone returns a channel that is closed as soon as nothing more can arrive of the
// call, which may last longer.
func gone(ctx context.Context) <-chan struct{} {
	if l, ok := ctx.Value(lingeringKey{}).(*lingering); ok {
		return l.Context.Done()
	}
	return ctx.Done()
}
