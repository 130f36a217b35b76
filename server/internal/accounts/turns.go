package accounts

import (
	"context"
	"slices"
	"sync"
)

const (
	// hashers bounds how many hashes are computed at once, each in its 19 MiB.
	hashers = 2
	// maxWaiting is how many passwords wait for their turn, in each line.
	maxWaiting = 1000
)

// A line is where a password waits for its turn to be hashed. Both are served in turn, so
// that no number of strangers keeps those waiting who have shown who they are.
type line int

const (
	// strangers have shown nothing yet. They wait by address.
	strangers line = iota
	// known are signed in, or call from a device that was, and wait by account. Those who call
	// from where the account was signed in to wait by network.
	known
	lines
)

// A turn says where a password waits, and as whose.
type turn struct {
	line line
	key  string
}

// turns let as many work at once as may. In a line, those who wait have their turns by their
// keys, one after another, so that whoever sends many passwords waits behind oneself.
type turns struct {
	mu    sync.Mutex
	free  int
	lines [lines]queue
	last  line // that was served last
}

// A queue is those who wait in a line.
type queue struct {
	order   []string // the keys of those who wait, whose turn is next first
	waiting map[string][]chan error
	n       int
}

func newTurns() *turns {
	t := &turns{free: hashers}
	for i := range t.lines {
		t.lines[i].waiting = map[string][]chan error{}
	}
	return t
}

// take waits for a turn, which done ends. The error is ErrBusy, or the context's: whoever is
// gone does not keep a place.
func (t *turns) take(ctx context.Context, at turn) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	q := &t.lines[at.line]
	if !q.room(at.key) {
		t.mu.Unlock()
		return ErrBusy
	}
	mine := q.add(at.key)
	t.mu.Unlock()
	select {
	case err := <-mine:
		return err
	case <-ctx.Done():
		t.mu.Lock()
		waited := q.remove(at.key, mine)
		t.mu.Unlock()
		if !waited && <-mine == nil {
			t.done() // the turn has come meanwhile
		}
		return ctx.Err()
	}
}

// done gives the turn to the next one.
func (t *turns) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range t.lines {
		t.last = (t.last + 1) % lines
		if next := t.lines[t.last].next(); next != nil {
			next <- nil
			return
		}
	}
	t.free++
}

// add lets one more wait.
func (q *queue) add(key string) chan error {
	mine := make(chan error, 1)
	if len(q.waiting[key]) == 0 {
		q.order = append(q.order, key)
	}
	q.waiting[key] = append(q.waiting[key], mine)
	q.n++
	return mine
}

// next takes out whose turn it is; nil where nobody waits.
func (q *queue) next() chan error {
	if len(q.order) == 0 {
		return nil
	}
	key := q.order[0]
	q.order = q.order[1:]
	mine := q.waiting[key][0]
	if q.cut(key, 0); len(q.waiting[key]) > 0 {
		q.order = append(q.order, key)
	}
	return mine
}

// room makes room for one more with the key, if need be in the place of one of those who
// wait most often, and reports whether there is.
func (q *queue) room(key string) bool {
	if q.n < maxWaiting {
		return true
	}
	most := slices.MaxFunc(q.order, func(a, b string) int { return len(q.waiting[a]) - len(q.waiting[b]) })
	last := len(q.waiting[most]) - 1
	if last <= len(q.waiting[key]) {
		return false
	}
	q.waiting[most][last] <- ErrBusy
	q.cut(most, last)
	return true
}

// remove takes one out who waits, and reports whether it did.
func (q *queue) remove(key string, mine chan error) bool {
	i := slices.Index(q.waiting[key], mine)
	if i < 0 {
		return false
	}
	if q.cut(key, i); len(q.waiting[key]) == 0 {
		q.order = slices.DeleteFunc(q.order, func(k string) bool { return k == key })
	}
	return true
}

// cut takes out one of a key.
func (q *queue) cut(key string, i int) {
	q.waiting[key] = slices.Delete(q.waiting[key], i, i+1)
	if len(q.waiting[key]) == 0 {
		delete(q.waiting, key)
	}
	q.n--
}

// hashing calls f when its turn has come.
func (s *Service) hashing(ctx context.Context, at turn, f func()) error {
	if err := s.hashes.take(ctx, at); err != nil {
		return err
	}
	defer s.hashes.done()
	f()
	return nil
}
