package mongostore

import (
	"context"
	"sync"
	"time"
)

const (
	// maxTurns is how many inserts are on their way at once, and maxSlow how many more
	// that take unusually long. Together they need fewer connections than there can be.
	maxTurns = 64
	maxSlow  = 64
	// unusual is how many times as long as usual an insert takes that is slow, and
	// leastSlow what it takes at least.
	unusual   = 8
	leastSlow = 100 * time.Millisecond
	// usualWeight is how much one insert counts in what is usual.
	usualWeight = 0.02
)

// The turns let so many lanes work at once. A shard without a primary must not keep them
// all from the lanes of others: what takes unusually long gives its turn back, and where
// too many do, is given up.
type turns struct {
	free chan struct{} // has one for each turn that is taken
	slow chan struct{} // and for each that is slow

	mu    sync.Mutex
	usual time.Duration
}

func newTurns() *turns {
	return &turns{free: make(chan struct{}, maxTurns), slow: make(chan struct{}, maxSlow)}
}

// take waits for a turn. Work is to end when the context does, and done to be called
// then.
func (t *turns) take() (ctx context.Context, done func()) {
	t.free <- struct{}{}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	var mu sync.Mutex
	over, held := false, t.free
	begun := time.Now()
	timer := time.AfterFunc(t.patience(), func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		select {
		case t.slow <- struct{}{}:
			<-held
			held = t.slow
		default:
			cancel()
		}
	})
	return ctx, func() {
		timer.Stop()
		mu.Lock()
		over = true
		mu.Unlock()
		<-held
		if ctx.Err() == nil {
			t.took(time.Since(begun))
		}
		cancel()
	}
}

// takeSlow is take for what is known to be slow. It does not wait: where there are too
// many, ok is false.
func (t *turns) takeSlow() (ctx context.Context, done func(), ok bool) {
	select {
	case t.slow <- struct{}{}:
	default:
		return nil, nil, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	return ctx, func() {
		<-t.slow
		cancel()
	}, true
}

// patience is how long work may have its turn.
func (t *turns) patience() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(max(unusual*t.usual, leastSlow), opTimeout)
}

// took says how long work has taken that came to its end.
func (t *turns) took(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.usual += time.Duration(usualWeight * float64(d-t.usual))
}
