package inspections

import (
	"context"
	"sync"
)

// inUse are the photos of check-ins that are being stored. A photo counts as used only once
// its check-in is, so of two that come at once and have the same photo, one waits for the
// other: a phone may send all that it has kept for days at the same moment.
type inUse struct {
	mu   sync.Mutex
	done map[Digest]chan struct{} // closed when that check-in is stored, or was not
}

// hold waits until nobody else holds one of the photos, and holds them until release is
// called. The error is the context's.
func (u *inUse) hold(ctx context.Context, sums []Digest) (release func(), err error) {
	if len(sums) == 0 {
		return func() {}, nil
	}
	for {
		busy := u.take(sums)
		if busy == nil {
			return func() { u.release(sums) }, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take holds the photos, or returns what is closed when one of them is free again.
func (u *inUse) take(sums []Digest) (busy <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, sum := range sums {
		if done, held := u.done[sum]; held {
			return done
		}
	}
	if u.done == nil {
		u.done = map[Digest]chan struct{}{}
	}
	done := make(chan struct{})
	for _, sum := range sums {
		u.done[sum] = done
	}
	return nil
}

func (u *inUse) release(sums []Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.done[sums[0]])
	for _, sum := range sums {
		delete(u.done, sum)
	}
}
