package accounts

import (
	"context"
	"fmt"

	"xuncha/ledger"
)

// A single is held by one who asks the store while others wait for what comes of it. Those
// leave with their own deadlines, and no more than maxAsking wait: a store that does not
// answer keeps nobody else, and a stranger's calls fill nothing.
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
