package rpc

import (
	"context"
	"slices"
	"sync"
)

// turns lets so many work at once, of which one may be long about it, and lets callers take
// turns: each has one place in the line, however many of its calls wait. So whoever asks for
// much waits for its own, and what is quick does not wait for what is long.
type turns struct {
	mu      sync.Mutex
	free    int
	long    bool // whether one that is long works
	waiting []*line
}

// A line has what waits of one caller, first come first served.
type line struct {
	caller string
	calls  []*turn
}

// A turn is closed once it has come.
type turn struct {
	long bool
	come chan struct{}
}

func newTurns(atOnce int) *turns { return &turns{free: atOnce} }

// take waits for a turn, and returns what ends it. The error is the context's.
func (t *turns) take(ctx context.Context, caller string, long bool) (done func(), err error) {
	mine := &turn{long: long, come: make(chan struct{})}
	t.mu.Lock()
	i := slices.IndexFunc(t.waiting, func(l *line) bool { return l.caller == caller })
	if i < 0 {
		i = len(t.waiting)
		t.waiting = append(t.waiting, &line{caller: caller})
	}
	t.waiting[i].calls = append(t.waiting[i].calls, mine)
	t.serve()
	t.mu.Unlock()
	select {
	case <-mine.come:
		return func() { t.give(long) }, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	select {
	case <-mine.come: // just now
		t.mu.Unlock()
		t.give(long)
		return nil, ctx.Err()
	default:
	}
	for _, l := range t.waiting {
		l.calls = slices.DeleteFunc(l.calls, func(other *turn) bool { return other == mine })
	}
	t.waiting = slices.DeleteFunc(t.waiting, func(l *line) bool { return len(l.calls) == 0 })
	t.mu.Unlock()
	return nil, ctx.Err()
}

// give ends a turn.
func (t *turns) give(long bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free++
	if long {
		t.long = false
	}
	t.serve()
}

// serve gives what is free to those who wait: to the first call of the first line that may
// work now, whose line goes to the end. It needs t.mu.
func (t *turns) serve() {
	for i := 0; i < len(t.waiting) && t.free > 0; {
		l := t.waiting[i]
		at := slices.IndexFunc(l.calls, func(next *turn) bool { return !next.long || !t.long })
		if at < 0 {
			i++
			continue
		}
		next := l.calls[at]
		l.calls = slices.Delete(l.calls, at, at+1)
		t.waiting = slices.Delete(t.waiting, i, i+1)
		if len(l.calls) > 0 {
			t.waiting = append(t.waiting, l)
		}
		t.free--
		t.long = t.long || next.long
		close(next.come)
		i = 0
	}
}
