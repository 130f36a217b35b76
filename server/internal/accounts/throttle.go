package accounts

import (
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// After some failures to sign in, each further one doubles how long the next
// try has to wait, up to maxWait. An address has more tries than a username,
// because an office shares one.
const (
	triesOfName    = 5
	triesOfAddress = 30
	firstWait      = time.Second
	maxWait        = 5 * time.Minute
	// forgotten is how long after the last failure they no longer count.
	forgotten = 30 * time.Minute
	// maxThrottled is how many usernames and addresses are remembered.
	maxThrottled = 10_000
)

// A ThrottledError means that a username or an address has failed to sign in so
// often that it has to wait.
type ThrottledError struct{ Wait time.Duration }

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many failures to sign in: wait %s", e.Wait.Round(time.Second))
}

// Is lets errors.Is find it as ErrThrottled.
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// RetryAfter is how long the caller should wait.
func (e *ThrottledError) RetryAfter() time.Duration { return e.Wait }

// ErrThrottled is what errors.Is finds in a ThrottledError.
var ErrThrottled = fmt.Errorf("too many failures to sign in")

// A throttle remembers failures to sign in. They are counted before the
// password is looked at, so that tries at the same time do not go uncounted.
type throttle struct {
	mu       sync.Mutex
	failures *lru.Cache[string, failures]
}

type failures struct {
	n    int
	last time.Time
}

func newThrottle() (*throttle, error) {
	c, err := lru.New[string, failures](maxThrottled)
	return &throttle{failures: c}, err
}

// try counts a failure of the username from the address, or says how long to
// wait first. succeed takes it back.
func (t *throttle) try(now time.Time, username, address string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := []struct {
		name string
		free int
	}{{"name/" + username, triesOfName}, {"address/" + address, triesOfAddress}}
	var wait time.Duration
	for _, k := range keys {
		f, _ := t.failures.Get(k.name)
		wait = max(wait, f.wait(now, k.free))
	}
	if wait > 0 {
		return &ThrottledError{wait}
	}
	for _, k := range keys {
		f, _ := t.failures.Get(k.name)
		if now.Sub(f.last) > forgotten {
			f.n = 0
		}
		t.failures.Add(k.name, failures{f.n + 1, now})
	}
	return nil
}

// succeed forgets the failures of the username, and the one that try counted
// for the address.
func (t *throttle) succeed(username, address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures.Remove("name/" + username)
	if f, ok := t.failures.Get("address/" + address); ok {
		t.failures.Add("address/"+address, failures{max(0, f.n-1), f.last})
	}
}

// wait returns how long after now the next try may come.
func (f failures) wait(now time.Time, free int) time.Duration {
	if f.n < free || now.Sub(f.last) > forgotten {
		return 0
	}
	wait := maxWait
	if over := f.n - free; over < 9 {
		wait = min(maxWait, firstWait<<over)
	}
	return max(0, f.last.Add(wait).Sub(now))
}
