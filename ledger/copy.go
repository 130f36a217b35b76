package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	// ErrOther means that the target of a copy holds what its source does not.
	ErrOther = errors.New("holds something else")
	// ErrSourceChanged means that somebody wrote to the source of a copy meanwhile.
	ErrSourceChanged = errors.New("the source was written to while it was copied")
)

const (
	// copyPage is how many entries are gathered before they are stored: 30 MB of
	// the longest records that there can be.
	copyPage = 500
	// copyPut is how many entries of one history are stored at once.
	copyPut = 100
	// copiers is how many histories are stored at once, so that their writes
	// share the flushes of the target's disk.
	copiers = 16
	// namedHistories is how many histories an error names.
	namedHistories = 5
)

// A CopyJob copies all histories of one store to another.
type CopyJob struct {
	From, To Store
	// Before is called with each entry before it is stored, and brings over
	// what the entry names and is not in it. It is called from several goroutines,
	// for the entries of one history in their order.
	Before func(context.Context, Entry) error
	// Progress is called, from several goroutines, with the number of entries
	// that were copied or checked and were not before.
	Progress func(entries int)
	// Salvage copies what can be read of histories that do not verify too. Lost is called
	// then with what Before has said of an entry that cannot be read.
	Salvage bool
	Lost    func(Entry, error)
}

// An AsIs is a Store that also shows and keeps what does not verify, as it is.
type AsIs interface {
	Store
	// Stored calls each with every entry, each history's in their order, and goes on
	// behind what cannot be read, with which it calls damage. Nothing is verified, and
	// slices are only lent. It stops at the first error of each, which it returns.
	Stored(ctx context.Context, each func(Entry) error, damage func(why string)) error
	// PutAsIs stores entries of one history as they are, behind all that it has, whether
	// or not they follow from one another, and returns once they would survive a power
	// cut. A failure leaves the first few of them, or none.
	PutAsIs(ctx context.Context, entries []Entry) error
}

// A CopyPlan is what a copy has to do.
type CopyPlan struct {
	Histories int
	// Entries is how many the source has, and Missing how many of them the
	// target lacks.
	Entries, Missing int64

	source map[History]Head
	target map[History]Head
	// after is where Copy's reading of the source has ended, and newer how far those
	// histories have come by then that have more than the plan knows.
	after Cursor
	newer map[History]Sequence
	// odd are the histories of which something does not verify, or did not before a
	// repair; unread is what Before has said of entries that cannot be read.
	odd    map[History]bool
	mu     sync.Mutex
	unread []unread
}

// Plan compares the stores. The error wraps ErrOther where the target has an
// entry that the source does not have at the same place.
func (c CopyJob) Plan(ctx context.Context) (*CopyPlan, error) {
	p := &CopyPlan{
		source: map[History]Head{}, target: map[History]Head{}, newer: map[History]Sequence{},
		odd: map[History]bool{},
	}
	err := c.From.Heads(ctx, func(h History, head Head) error {
		p.source[h] = head
		p.Entries += int64(head.Sequence)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the source: %w", err)
	}
	p.Histories, p.Missing = len(p.source), p.Entries
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

// Copy stores what the target lacks of what the plan has seen. Where it ends
// early, what was stored stays, and a new plan goes on from there. The error wraps
// ErrBroken where something does not verify and no repair has set it aside.
func (c CopyJob) Copy(ctx context.Context, p *CopyPlan) error {
	var page []Entry
	v, after, err := c.walk(ctx, c.From, p, p.noteNewer, func(e Entry, at Head) error {
		if at.Sequence <= p.target[e.History].Sequence {
			return nil
		}
		e.Record = append([]byte(nil), e.Record...) // the feed's is only lent
		if page = append(page, e); len(page) < copyPage {
			return nil
		}
		err := c.store(ctx, p, page)
		page = page[:0]
		return err
	})
	if err != nil {
		return err
	}
	p.after = after
	if err := c.store(ctx, p, page); err != nil {
		return err
	}
	if err := c.readable(p, v); err != nil {
		return err
	}
	return c.complete(p, v)
}

// store puts entries of several histories, of several at once.
func (c CopyJob) store(ctx context.Context, p *CopyPlan, page []Entry) error {
	byHistory := map[History][]Entry{}
	for _, e := range page {
		byHistory[e.History] = append(byHistory[e.History], e)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	turn := make(chan struct{}, copiers)
	var all sync.WaitGroup
	for h, entries := range byHistory {
		put := c.To.Put
		if to, ok := c.To.(AsIs); ok && p.odd[h] {
			put = to.PutAsIs
		}
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			for len(entries) > 0 && ctx.Err() == nil {
				part := entries[:min(copyPut, len(entries))]
				entries = entries[len(part):]
				for _, e := range part {
					if err := c.before(ctx, p, e); err != nil {
						cancel(fmt.Errorf("%s at sequence %d: %w", h, e.Sequence, err))
						return
					}
				}
				if err := put(ctx, part); err != nil {
					cancel(err)
					return
				}
				c.Progress(len(part))
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// before calls Before. That an entry cannot be read is no error yet: a repair that comes
// later may have set it aside.
func (c CopyJob) before(ctx context.Context, p *CopyPlan, e Entry) error {
	err := c.Before(ctx, e)
	if !errors.Is(err, ErrBadRecord) && !errors.Is(err, ErrBroken) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unread = append(p.unread, unread{e, err})
	return nil
}

// unread is an entry that cannot be read.
type unread struct {
	Entry
	err error
}

// readable returns what is wrong with an entry that cannot be read and that no repair has
// set aside.
func (c CopyJob) readable(p *CopyPlan, v *Verifier) error {
	for _, u := range p.unread {
		v.Unreadable(u.Entry, u.err)
		switch {
		case v.SetAside(u.History, u.Sequence):
		case c.Salvage:
			c.Lost(u.Entry, u.err)
		default:
			return fmt.Errorf("%s at sequence %d: %w", u.History, u.Sequence, u.err)
		}
	}
	return nil
}

// Verify reads all that the plan was about from the target, checks every chain,
// and that each has at its end what the source has there. The error wraps
// ErrBroken or ErrOther and names the history and the sequence.
func (c CopyJob) Verify(ctx context.Context, p *CopyPlan) error {
	v, _, err := c.walk(ctx, c.To, p, func(Entry) {}, func(Entry, Head) error {
		c.Progress(1)
		return nil
	})
	if err != nil {
		return err
	}
	return c.complete(p, v)
}

// CheckSource looks whether anything has come to the source since the plan was made. It
// is for the end, after Copy; it reads only what is new since then. The error wraps
// ErrSourceChanged and says how many entries came to which histories.
func (c CopyJob) CheckSource(ctx context.Context, p *CopyPlan) error {
	for e, err := range c.From.Feed(ctx, p.after) {
		if errors.Is(err, ErrWaiting) {
			break // of those that may still come, none has yet
		}
		if err != nil {
			return fmt.Errorf("reading the source: %w", err)
		}
		if e.Sequence > p.source[e.History].Sequence {
			p.noteNewer(e.Entry)
		}
	}
	if len(p.newer) == 0 {
		return nil
	}
	total, named := int64(0), make([]string, 0, namedHistories)
	for i, h := range slices.Sorted(maps.Keys(p.newer)) {
		n := int64(p.newer[h] - p.source[h].Sequence)
		if total += n; i < namedHistories {
			named = append(named, fmt.Sprintf("%s (%d)", h, n))
		}
	}
	if others := len(p.newer) - len(named); others > 0 {
		named = append(named, fmt.Sprintf("%d others", others))
	}
	return fmt.Errorf("%w: entries that came: %d, to %s", ErrSourceChanged, total, strings.Join(named, ", "))
}

// noteNewer notes an entry of the source that the plan does not know.
func (p *CopyPlan) noteNewer(e Entry) { p.newer[e.History] = max(p.newer[e.History], e.Sequence) }

// walk calls f with the entries of the store's feed that the plan is about, each with the
// head that it makes, and verifies them. It calls beyond with those that the plan does
// not know, and returns where the feed has ended.
func (c CopyJob) walk(ctx context.Context, s Store, p *CopyPlan, beyond func(Entry), f func(Entry, Head) error) (*Verifier, Cursor, error) {
	v := NewVerifier(func() time.Time { return time.Time{} })
	end := func() Cursor { return "" }
	past := map[History]bool{} // those of which all that comes is beyond
	for e, err := range s.Feed(ctx, "") {
		if errors.Is(err, ErrWaiting) {
			break // what the plan is about was there before
		}
		if err != nil {
			return nil, "", err
		}
		end = e.After
		last := p.source[e.History]
		if e.Sequence > last.Sequence && (past[e.History] || e.Sequence == v.Head(e.History).Sequence+1) {
			past[e.History] = true
			beyond(e.Entry)
			continue
		}
		verified := v.Take(e.Entry)
		if !verified || e.Kind == KindRepaired {
			p.odd[e.History] = true
		}
		at := v.Head(e.History)
		if verified && at.Sequence == last.Sequence && at.Hash != last.Hash {
			return nil, "", fmt.Errorf("the target %w: %s at sequence %d", ErrOther, e.History, at.Sequence)
		}
		if err := f(e.Entry, at); err != nil {
			return nil, "", err
		}
	}
	return v, end(), nil
}

// complete checks that everything verifies, and that the heads are those of the source.
func (c CopyJob) complete(p *CopyPlan, v *Verifier) error {
	if c.Salvage {
		return nil
	}
	if flaws := v.Flaws(); len(flaws) > 0 {
		f := flaws[0]
		return fmt.Errorf("%w: %s at sequence %d: %s", ErrBroken, f.History, f.Sequence, f.Why)
	}
	for h, last := range p.source {
		if at := v.Head(h).Sequence; at != last.Sequence {
			return fmt.Errorf("%w: %s has no sequence %d", ErrBroken, h, at+1)
		}
	}
	return nil
}
