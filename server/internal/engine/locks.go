package engine

import (
	"context"
	"sync"
)

// Locks keep apart those who work on the same file, by the first byte of its
// SHA-256. Two files may share a lock. Its zero value is ready.
type Locks struct {
	mu   sync.Mutex // never held while anybody waits
	held map[byte]chan struct{}
}

// Lock takes the lock of the file with the hash, and returns what gives it back. Whoever
// has it may wait for a disk or a database. So a caller whose context ends before leaves
// with that.
func (l *Locks) Lock(ctx context.Context, sum [32]byte) (unlock func(), err error) {
	for {
		l.mu.Lock()
		busy, held := l.held[sum[0]]
		if !held {
			free := make(chan struct{})
			if l.held == nil {
				l.held = map[byte]chan struct{}{}
			}
			l.held[sum[0]] = free
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, sum[0])
				l.mu.Unlock()
				close(free)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
