package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// errLimited is what errors.Is finds in a limitedError.
var errLimited = errors.New("too many calls")

// A limitedError means that a caller has used up its calls for now.
type limitedError struct {
	who  string
	wait time.Duration
}

func (e *limitedError) Error() string {
	return fmt.Sprintf("%v from this %s: wait %s", errLimited, e.who, e.wait.Round(time.Millisecond))
}

func (e *limitedError) Is(target error) bool { return target == errLimited }

// RetryAfter is how long the caller should wait.
func (e *limitedError) RetryAfter() time.Duration { return e.wait }

// burstSeconds is for how many seconds calls can be saved up: a phone that was
// without a network sends what has gathered at once.
const burstSeconds = 20

// maxLimited is how many accounts are remembered. Whichever was longest without a
// call is forgotten first, and has saved up the most anyway. Nobody but administrators
// makes accounts, so nobody can have others forgotten.
const maxLimited = 20_000

// A limiter counts the calls of each account.
type limiter struct {
	who   string
	limit rate.Limit

	mu     sync.Mutex
	caller *lru.Cache[string, *rate.Limiter]
}

// newLimiter returns a limiter of so many calls a second, or nil for none.
func newLimiter(who string, perSecond float64) (*limiter, error) {
	if perSecond <= 0 {
		return nil, nil
	}
	c, err := lru.New[string, *rate.Limiter](maxLimited)
	return &limiter{who: who, limit: rate.Limit(perSecond), caller: c}, err
}

// of returns the caller's own limiter.
func (l *limiter) of(name string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.caller.Get(name)
	if !ok {
		r = rate.NewLimiter(l.limit, max(1, int(burstSeconds*l.limit)))
		l.caller.Add(name, r)
	}
	return r
}

// take takes one call of the caller, or says how long to wait for the next.
func (l *limiter) take(now time.Time, name string) error {
	if l == nil {
		return nil
	}
	r := l.of(name)
	if r.AllowN(now, 1) {
		return nil
	}
	missing := 1 - r.TokensAt(now)
	return &limitedError{l.who, max(time.Millisecond, time.Duration(missing/float64(l.limit)*float64(time.Second)))}
}

// callCost is how many sites and visits a call may look at and count as one call. To
// look at them takes about a millisecond of a processor. So an account that asks for
// nothing but what is costly, at 50 calls a second, keeps a processor busy for a
// twentieth of the time.
const callCost = 10_000

// charge takes more calls of the caller, one for each callCost that its call has cost
// beyond the first. The caller may come to owe them, and its next call then waits. It
// never owes more than it could have saved up, so nobody is locked out for longer than
// burstSeconds.
func (l *limiter) charge(now time.Time, name string, cost int64) {
	due := (cost - 1) / callCost
	if l == nil || due <= 0 {
		return
	}
	r := l.of(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	// At most twice the burst, of which a limiter takes one at once.
	due = min(due, int64(math.Floor(r.TokensAt(now)))+int64(r.Burst()))
	for due > 0 {
		n := min(due, int64(r.Burst()))
		r.ReserveN(now, int(n))
		due -= n
	}
}

// spend notes that the call has looked at so many sites, visits, or what takes as long.
// Once it is answered, its caller is charged for them.
func spend(ctx context.Context, cost int) { scopeOf(ctx).spent.Add(int64(cost)) }
