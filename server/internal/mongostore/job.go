package mongostore

import (
	"context"
	"fmt"

	"xuncha/ledger"
)

// A job is an entry, or some that follow one another, on their way.
type job struct {
	ctx context.Context
	// A draft is stored after its history's newest entry, or, where after is not
	// nil, only after the one with that sequence.
	draft ledger.Draft
	after *ledger.Sequence
	// sealed are entries to be stored as they are; asIs tells that they need not follow
	// from what is there.
	sealed []ledger.Entry
	asIs   bool
	// settles tells that the job stores nothing, and is only there for what a lane does
	// before it stores anything.
	settles bool

	entry   ledger.Entry
	existed bool
	tries   int
	done    chan error
}

// size is how many entries the job comes to.
func (j *job) size() int { return max(1, len(j.sealed)) }

// wanted returns the sequence after which alone the job's entries may be stored; nil
// for any.
func (j *job) wanted() *ledger.Sequence {
	if len(j.sealed) > 0 && !j.asIs {
		before := j.sealed[0].Sequence - 1
		return &before
	}
	return j.after
}

// seal returns the entries that the job comes to after the head.
func (j *job) seal(head ledger.Head) ([]ledger.Entry, error) {
	if at := j.wanted(); at != nil && head.Sequence != *at {
		return nil, fmt.Errorf("%w: %s is at %d, not at %d", ledger.ErrMoved, j.history(), head.Sequence, *at)
	}
	if len(j.sealed) > 0 {
		return j.sealed, nil
	}
	j.entry = head.Seal(j.draft)
	return []ledger.Entry{j.entry}, nil
}

// isOver ends the job where its caller has left, or where it stores nothing, and
// reports that.
func (j *job) isOver() bool {
	err := j.ctx.Err()
	over := err != nil || j.settles
	if over {
		j.done <- err
	}
	return over
}

// history is that of what the job stores.
func (j *job) history() ledger.History {
	if len(j.sealed) > 0 {
		return j.sealed[0].History
	}
	return j.draft.History
}
