package accounts

import (
	"context"
	"fmt"

	"xuncha/ledger"
)

// A single is a lock that one call holds while it asks the store, and the others wait for
// the outcome. Each waits no longer than its own deadline, and at most maxAsking wait, so that
// strangers' calls cannot fill a connection while a store does not answer.
type single struct{ held, waiting chan struct{} }

func newSingle() single {
	return single{make(chan struct{}, 1), make(chan struct{}, maxAsking)}
}

// take takes it, and returns what gives it back.
func (t single) take(ctx context.Context) (done func(), err error) {
	done = func() { <-t.held }
	select {
	case t.held <- struct{}{}:
		return done, nil
	default:
	}
	select {
	case t.waiting <- struct{}{}:
		defer func() { <-t.waiting }()
	default:
		return nil, fmt.Errorf("%w: too many calls wait for it", ledger.ErrUnavailable)
	}
	select {
	case t.held <- struct{}{}:
		return done, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
