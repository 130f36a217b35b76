package rpc

import (
	"errors"
	"fmt"
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

// maxLimited is how many callers are remembered. Whoever was longest without a
// call is forgotten first, and has saved up the most anyway.
const maxLimited = 20_000

// A limiter counts the calls of each caller of one kind.
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

// take takes one call of the caller, or says how long to wait for the next.
func (l *limiter) take(now time.Time, name string) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	r, ok := l.caller.Get(name)
	if !ok {
		r = rate.NewLimiter(l.limit, max(1, int(burstSeconds*l.limit)))
		l.caller.Add(name, r)
	}
	l.mu.Unlock()
	if r.AllowN(now, 1) {
		return nil
	}
	missing := 1 - r.TokensAt(now)
	return &limitedError{l.who, max(time.Millisecond, time.Duration(missing/float64(l.limit)*float64(time.Second)))}
}
