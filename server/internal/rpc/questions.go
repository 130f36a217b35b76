package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

const (
	// maxAsking is how many questions of one account are answered at once. More would
	// not be answered sooner, because the index works on few heavy ones at a time.
	maxAsking = 4
	// maxWaiting is how many more of the account wait for their turn.
	maxWaiting = 60
	// turnLength is for how long a question keeps its turn. One that takes longer waits
	// for the database, or gives others their turn between its steps, so it does no harm
	// beside the next one.
	turnLength = 20 * time.Millisecond
	// crowdedRetry is after how long a question that was refused may find a place.
	crowdedRetry = time.Second
)

// errCrowded means that so many questions of the account are under way that no more
// can wait.
var errCrowded = errors.New("too many questions at once")

// questions sees to it that no account keeps the others from having their questions
// answered, however many it asks at once, and that questions leave a processor to
// everybody else.
type questions struct {
	// turns has an element for each question that has its turn.
	turns chan struct{}

	mu sync.Mutex
	of map[string]*asking
}

// newQuestions returns questions of which half as many as there are processors have
// their turn at once. With more, a check-in would wait in line behind questions each time
// that it is taken up again: once for each step on its way, for some milliseconds each.
func newQuestions() *questions {
	return &questions{turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), of: map[string]*asking{}}
}

// asking is the questions of one account.
type asking struct {
	turn chan struct{} // has an element for each that is being answered
	all  int           // those and the waiting ones; guarded by mu
}

// ask waits until a question of the account has its turn, and returns what ends it.
// The error is errCrowded, or that of the context.
func (q *questions) ask(ctx context.Context, account string) (done func(), err error) {
	a, err := q.enter(account)
	if err != nil {
		return nil, err
	}
	select {
	case a.turn <- struct{}{}:
		return func() { <-a.turn; q.leave(account, a) }, nil
	case <-ctx.Done():
		q.leave(account, a)
		return nil, ctx.Err()
	}
}

func (q *questions) enter(account string) (*asking, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.of[account]
	if !ok {
		a = &asking{turn: make(chan struct{}, maxAsking)}
		q.of[account] = a
	}
	if a.all == maxAsking+maxWaiting {
		return nil, fmt.Errorf("%w: this account has %d under way", errCrowded, a.all)
	}
	a.all++
	return a, nil
}

func (q *questions) leave(account string, a *asking) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a.all--; a.all == 0 {
		delete(q.of, account)
	}
}

// turn waits for a turn, and returns what ends it.
func (q *questions) turn(ctx context.Context) (done func(), err error) {
	select {
	case q.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	end := sync.OnceFunc(func() { <-q.turns })
	late := time.AfterFunc(turnLength, end)
	return func() { late.Stop(); end() }, nil
}

// ask waits until the call's question may be answered, and returns what ends it.
func ask(ctx context.Context) (done func(), err error) {
	s := scopeOf(ctx)
	if s.caller == nil {
		return s.questions.turn(ctx)
	}
	leave, err := s.questions.ask(ctx, s.caller.Account.ID)
	if err != nil {
		return nil, err
	}
	end, err := s.questions.turn(ctx)
	if err != nil {
		leave()
		return nil, err
	}
	return func() { end(); leave() }, nil
}
