package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// ErrOther means that the target of a copy holds what its source does not.
var ErrOther = errors.New("holds something else")

const (
	// copyPage is how many entries are read and stored at once: 7 MB of the
	// longest records that there can be.
	copyPage = 100
	// copiers is how many histories are copied at once, so that their writes
	// share the flushes of the target's disk.
	copiers = 16
)

// A CopyJob copies all histories of one archive to another.
type CopyJob struct {
	From, To Archive
	// Before is called with each entry before it is stored, and brings over
	// what the entry names and is not in it.
	Before func(context.Context, Entry) error
	// Progress is called, from several goroutines, with the number of entries
	// that were copied or checked and were not before.
	Progress func(entries int)
}

// A CopyPlan is what a copy has to do.
type CopyPlan struct {
	Histories int
	// Entries is how many the source has, and Missing how many of them the
	// target lacks.
	Entries, Missing int64

	source map[History]Head
	target map[History]Head
	order  []History
}

// Plan compares the archives. The error wraps ErrOther where the target has an
// entry that the source does not have at the same place.
func (c CopyJob) Plan(ctx context.Context) (*CopyPlan, error) {
	p := &CopyPlan{source: map[History]Head{}, target: map[History]Head{}}
	err := c.From.Heads(ctx, func(h History, head Head) error {
		p.source[h] = head
		p.order = append(p.order, h)
		p.Entries += int64(head.Sequence)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the source: %w", err)
	}
	p.Histories, p.Missing = len(p.order), p.Entries
	err = c.To.Heads(ctx, func(h History, head Head) error {
		p.target[h] = head
		p.Missing -= int64(head.Sequence)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the target: %w", err)
	}
	for h, head := range p.target {
		there, err := c.From.Span(ctx, h, head.Sequence-1, 1)
		if err != nil {
			return nil, fmt.Errorf("reading the source: %w", err)
		}
		if len(there) == 0 || there[0].Sequence != head.Sequence || there[0].Hash != head.Hash {
			return nil, fmt.Errorf("the target %w: the entry %d of %s is not in the source", ErrOther, head.Sequence, h)
		}
	}
	return p, nil
}

// Copy stores what the target lacks. Where it ends early, what was stored stays,
// and a new plan goes on from there.
func (c CopyJob) Copy(ctx context.Context, p *CopyPlan) error {
	return c.each(ctx, p, func(ctx context.Context, h History) error {
		head := p.target[h]
		return c.pages(ctx, c.From, h, head, p.source[h], func(page []Entry) error {
			for _, e := range page {
				if err := c.Before(ctx, e); err != nil {
					return fmt.Errorf("%s at sequence %d: %w", h, e.Sequence, err)
				}
			}
			return c.To.Put(ctx, page)
		})
	})
}

// Verify reads all that the plan was about from the target, checks every chain,
// and that each ends as it does in the source. The error wraps ErrBroken or
// ErrOther and names the history and the sequence.
func (c CopyJob) Verify(ctx context.Context, p *CopyPlan) error {
	return c.each(ctx, p, func(ctx context.Context, h History) error {
		return c.pages(ctx, c.To, h, Head{}, p.source[h], func([]Entry) error { return nil })
	})
}

// pages calls f with the entries of h in a from the one after head to last, and
// checks that they follow from one another and end with last.
func (c CopyJob) pages(ctx context.Context, a Archive, h History, head, last Head, f func([]Entry) error) error {
	for head.Sequence < last.Sequence {
		page, err := a.Span(ctx, h, head.Sequence, int(min(copyPage, last.Sequence-head.Sequence)))
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return fmt.Errorf("%w: %s has no sequence %d", ErrBroken, h, head.Sequence+1)
		}
		for _, e := range page {
			if head, err = head.Follow(e); err != nil {
				return err
			}
		}
		if err := f(page); err != nil {
			return err
		}
		c.Progress(len(page))
	}
	if head.Sequence == last.Sequence && head.Hash != last.Hash {
		return fmt.Errorf("the target %w: %s at sequence %d", ErrOther, h, head.Sequence)
	}
	return nil
}

// each calls f with every history, of several at once, until one fails.
func (c CopyJob) each(ctx context.Context, p *CopyPlan, f func(context.Context, History) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range copiers {
		all.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(p.order) {
					return
				}
				if err := f(ctx, p.order[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}
