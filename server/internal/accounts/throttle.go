package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"xuncha/server/internal/addresses"
)

// After some failures to sign in, each further one doubles how long the next try has to
// wait. An address has more tries than a username, because an office shares one. A username
// waits for less: whoever keeps failing elsewhere must not keep its owner waiting.
const (
	triesOfName      = 5
	triesOfDevice    = 5
	triesOfAddress   = 30
	firstWait        = time.Second
	longestOfName    = time.Minute
	longestOfDevice  = time.Minute
	longestOfAddress = 5 * time.Minute
	// forgotten is how long after the last failure they no longer count.
	forgotten = 30 * time.Minute
	// maxHeld is how many tries wait until it is known what becomes of those before them.
	maxHeld = 1000
)

// A ThrottledError means that a username, an address or a device has failed to sign in so
// often that it has to wait.
type ThrottledError struct{ Wait time.Duration }

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many failures to sign in: wait %s", e.Wait.Round(time.Second))
}

// Is lets errors.Is find it as ErrThrottled.
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// RetryAfter is how long the caller should wait.
func (e *ThrottledError) RetryAfter() time.Duration { return e.Wait }

var (
	// ErrThrottled is what errors.Is finds in a ThrottledError.
	ErrThrottled = errors.New("too many failures to sign in")
	// ErrBusy means that as many passwords wait to be compared as may. None was compared.
	ErrBusy = errors.New("too many passwords are being compared")
)

// A throttle remembers failures to sign in, in as much memory as there are accounts, and a
// fixed amount beside that. Nothing that somebody tries pushes out what is remembered of
// others.
type throttle struct {
	mu sync.Mutex
	// names are those of accounts, and nobodys all others: who has an account is not told by
	// what is remembered of others.
	names              *failureTable
	devices, placed    *deviceTable
	nobodys, addresses *sketch
	places             *places
	// gates are where tries are under way, by the buckets' keys.
	gates map[string]*gate
}

func newThrottle() *throttle {
	return &throttle{names: newFailureTable(), devices: newDeviceTable(), placed: newDeviceTable(), nobodys: newSketch(), addresses: newSketch(), places: newPlaces(), gates: map[string]*gate{}}
}

// A bucket is where the failures are counted of all tries that have something in common.
type bucket struct {
	key     string
	free    int
	longest time.Duration
	counts  counter
}

// A counter remembers failures by a bucket's key.
type counter interface {
	get(key string, now time.Time) failures
	put(key string, f failures, now time.Time)
}

// A gate is a bucket with tries under way: they are to fail until the contrary is known, or
// many at once would go uncounted.
type gate struct {
	pending int
	next    *ending
}

// An ending is that of the next try that ends at a gate.
type ending struct {
	held int // how many wait for it
	done chan struct{}
}

func newEnding() *ending { return &ending{done: make(chan struct{})} }

// of returns the buckets of a try to sign in to an account, which is nil where there is none
// with the name. From a network where it was signed in to before, and from the server's own
// machine, what strangers fail elsewhere does not count.
func (t *throttle) of(a *Account, name, address string) []bucket {
	t.mu.Lock()
	defer t.mu.Unlock()
	return []bucket{t.nameBucket(a, name, address), {"address/" + network(address), triesOfAddress, longestOfAddress, t.addresses}}
}

// ofDevice returns the buckets of a try by a device that has been signed in to the account.
// Others' failures do not count for it, and its failures not for others: whoever has stolen
// what it proves that with has no more tries than anybody.
func (t *throttle) ofDevice(account, device string) []bucket {
	return []bucket{{deviceKey(account, device), triesOfDevice, longestOfDevice, t.devices}}
}

// network returns what an address is counted as. One that is none of IP counts as it is.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	return addresses.Block(ip).String()
}

// A try is one attempt to sign in that may be compared. It counts as a failure from its
// beginning on, whatever becomes of its caller. One of its methods must be called in the
// end; what is called after that does nothing.
type try struct {
	t       *throttle
	now     func() time.Time
	buckets []bucket
	ended   bool
}

// begin waits until it is known what becomes of the tries before, as far as they matter, and
// begins one. The error is a *ThrottledError, ErrBusy or the context's.
func (t *throttle) begin(ctx context.Context, now func() time.Time, buckets []bucket) (*try, error) {
	for {
		before, err := t.enter(now(), buckets)
		if err != nil {
			return nil, err
		}
		if before == nil {
			return &try{t: t, now: now, buckets: buckets}, nil
		}
		select {
		case <-before.done:
		case <-ctx.Done():
			t.mu.Lock()
			before.held--
			t.mu.Unlock()
			return nil, ctx.Err()
		}
	}
}

// enter counts a try, or returns for what it has to wait.
func (t *throttle) enter(now time.Time, buckets []bucket) (before *ending, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var wait time.Duration
	for _, b := range buckets {
		f := b.counts.get(b.key, now)
		wait = max(wait, f.wait(now, b))
		if g := t.gates[b.key]; g != nil && f.n+g.pending >= b.free {
			before = g.next
		}
	}
	switch {
	case wait > 0:
		return nil, &ThrottledError{wait}
	case before != nil && before.held == maxHeld:
		return nil, ErrBusy
	case before != nil:
		before.held++
		return before, nil
	}
	for _, b := range buckets {
		g := t.gates[b.key]
		if g == nil {
			g = &gate{next: newEnding()}
			t.gates[b.key] = g
		}
		g.pending++
	}
	return nil, nil
}

// wrong says that the password was wrong, or that nobody knows.
func (y *try) wrong() {
	y.end(func(b bucket, now time.Time) {
		b.counts.put(b.key, failures{b.counts.get(b.key, now).n + 1, now}, now)
	})
}

// right says that the password was right: the failures of its account are forgotten, and
// those of its address stay.
func (y *try) right() {
	y.end(func(b bucket, now time.Time) {
		if b.counts != y.t.addresses {
			b.counts.put(b.key, failures{}, now)
		}
	})
}

// void says that no password was compared, for no reason that a caller could bring about.
func (y *try) void() { y.end(func(bucket, time.Time) {}) }

func (y *try) end(count func(b bucket, now time.Time)) {
	if y.ended {
		return
	}
	y.ended = true
	now := y.now()
	y.t.mu.Lock()
	defer y.t.mu.Unlock()
	for _, b := range y.buckets {
		count(b, now)
		g := y.t.gates[b.key]
		if g.pending--; g.pending == 0 {
			delete(y.t.gates, b.key)
		}
		close(g.next.done)
		g.next = newEnding()
	}
}

// failures are how often something has failed, and when last.
type failures struct {
	n    int
	last time.Time
}

// wait returns how long after now the next try may come.
func (f failures) wait(now time.Time, b bucket) time.Duration {
	if f.n < b.free {
		return 0
	}
	wait := b.longest
	if over := f.n - b.free; over < 9 {
		wait = min(wait, firstWait<<over)
	}
	return min(wait, max(0, f.last.Add(wait).Sub(now)))
}

// over reports whether they no longer count.
func (f failures) over(now time.Time) bool { return f.n == 0 || now.Sub(f.last) > forgotten }
