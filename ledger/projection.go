package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// projectionPage is how many entries a projection reads at once.
const projectionPage = 500

// A Projection is what the entries of one history add up to, and the one way to
// add to that history: decide on the state, append, apply. A state never changes
// once it is there, so readers share it without a lock. It is safe for concurrent
// use.
type Projection[S any] struct {
	store   Store
	history History
	apply   func(context.Context, S, []Entry) (S, error)
	current atomic.Pointer[projected[S]]
	empty   S
	// offered is the greatest sequence that the feed is known to have, and seen up to
	// where the history was read.
	offered, seen atomic.Int64
	// lock is taken by whoever moves current, and given up by taking it out.
	lock chan struct{}

	altered *Alterations
	now     func() time.Time
	// verifier is where current is; nil where it has to be brought there. stopped is why
	// current stays where it is, although the history goes on.
	verifier *Verifier
	stopped  atomic.Pointer[AlteredError]
	// aside are the sequences that current holds as set aside.
	aside map[Sequence]bool
}

// projected is a state with the sequence of the newest entry in it.
type projected[S any] struct {
	state    S
	sequence Sequence
}

// NewProjection returns a projection of the history that holds the empty state
// until Refresh or CatchUp is called. Of apply is asked to return the state after
// some entries, which follow one another, without changing the state before; it
// may read what is stored beside them. Two calls of apply never run at once with
// the newest state.
//
// The chain is verified as it is read. Where an entry does not verify, or apply fails
// with it for good, the state stays at the entry before, until a repair sets it aside or
// it is put right. In the place of an entry that was set aside, apply is given one of
// the kind KindSetAside that has its sequence alone, and perhaps the time of the one
// before.
func NewProjection[S any](store Store, h History, empty S, apply func(ctx context.Context, before S, entries []Entry) (S, error)) *Projection[S] {
	p := &Projection[S]{
		store: store, history: h, apply: apply, empty: empty, lock: make(chan struct{}, 1),
		now: func() time.Time { return time.Time{} },
	}
	p.current.Store(&projected[S]{state: empty})
	return p
}

// Report lets the projection tell what does not verify, with the time that now gives. A
// change is refused too where somebody else has found something in its history. It must
// be called before anybody uses the projection.
func (p *Projection[S]) Report(to *Alterations, now func() time.Time) { p.altered, p.now = to, now }

// Altered returns an *AlteredError where the history does not verify, as far as is
// known.
func (p *Projection[S]) Altered() error {
	if e := p.stopped.Load(); e != nil {
		return e
	}
	return p.altered.Of(p.history)
}

// State returns the state as it is now.
func (p *Projection[S]) State() S { return p.current.Load().state }

// acquire takes the lock, unless the context ends before.
func (p *Projection[S]) acquire(ctx context.Context) error {
	select {
	case p.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Projection[S]) release() { <-p.lock }

// Take notes an entry of the feed, and returns at once. CatchUp applies it.
// Entries of other histories are none of its business.
func (p *Projection[S]) Take(e Entry) error {
	if e.History != p.history {
		return nil
	}
	for {
		known := p.offered.Load()
		if int64(e.Sequence) <= known || p.offered.CompareAndSwap(known, int64(e.Sequence)) {
			return nil
		}
	}
}

// Begun reports whether the history is known to have entries, also where none of them
// can be read.
func (p *Projection[S]) Begun() bool { return p.offered.Load() > 0 || p.seen.Load() > 0 }

// CatchUp applies the entries that Take has noted.
func (p *Projection[S]) CatchUp(ctx context.Context) error {
	if p.offered.Load() <= p.seen.Load() {
		return nil
	}
	return p.Refresh(ctx)
}

// Refresh applies the entries of the history that are in the store by now. Those that
// do not verify are no error: Altered tells of them.
func (p *Projection[S]) Refresh(ctx context.Context) error {
	if err := p.acquire(ctx); err != nil {
		return err
	}
	defer p.release()
	return p.refresh(ctx)
}

// Change lets decide look at the state and appends the draft that it returns,
// whose history need not be set. Where another writer was first, decide is asked
// again with the newer state. A nil draft changes nothing. It returns the state
// afterwards. Where the history does not verify, nothing is added to it, and the error
// is an *AlteredError.
//
// The first decision is made beside others' changes, because it may take long. A
// caller whose deadline comes while it waits for another change leaves with that.
func (p *Projection[S]) Change(ctx context.Context, decide func(S) (*Draft, error)) (S, error) {
	at := p.current.Load()
	if err := p.Altered(); err != nil {
		return at.state, err
	}
	d, err := decide(at.state)
	if err != nil || d == nil {
		return at.state, err
	}
	if err := p.acquire(ctx); err != nil {
		return at.state, err
	}
	defer p.release()
	for {
		if err := p.Altered(); err != nil {
			return p.State(), err
		}
		if now := p.current.Load(); now != at {
			at = now
			if d, err = decide(at.state); err != nil || d == nil {
				return at.state, err
			}
		}
		d.History = p.history
		e, err := p.store.AppendAfter(ctx, at.sequence, *d)
		// What is stored has to be applied, whether or not the caller waits.
		after := context.WithoutCancel(ctx)
		switch {
		case err == nil:
			if d.Stored != nil {
				d.Stored()
			}
			if err = p.takeIn(after, []Entry{e}); err == nil {
				err = p.Altered()
			}
			return p.State(), err
		case !errors.Is(err, ErrMoved):
			// It may be stored all the same, and then readers should see it. Where the
			// store does not answer, the next change finds it.
			known, cancel := context.WithTimeout(after, lostReplyTimeout)
			_ = p.refresh(known)
			cancel()
			return p.State(), err
		}
		if err := p.refresh(ctx); err != nil {
			return p.State(), err
		}
		if p.current.Load() == at && p.Altered() == nil {
			return at.state, fmt.Errorf("%w: %s refuses an entry after %d, which is its newest", ErrMoved, p.history, at.sequence)
		}
	}
}

// lostReplyTimeout is how long is looked for an entry whose reply was lost.
const lostReplyTimeout = time.Second

// Begin puts a state that holds the history's entries up to the sequence in place
// of the empty one, so that Refresh reads only what comes after. It is for one that
// was kept from an earlier run, and must be done before anybody uses the projection.
func (p *Projection[S]) Begin(state S, at Sequence) {
	p.current.Store(&projected[S]{state, at})
	p.verifier, p.aside = nil, nil
	p.seen.Store(int64(at))
}

// Replay returns the state after the history's entry with the sequence until. It
// is made anew from one that holds the entries up to after, which is less. Several
// calls may run at once.
func (p *Projection[S]) Replay(ctx context.Context, from S, after, until Sequence) (S, error) {
	for after < until {
		page, err := p.store.Span(ctx, p.history, after, int(min(until-after, projectionPage)))
		if err != nil {
			return from, err
		}
		page, err = p.withAside(page, after, min(until, after+projectionPage), func(q Sequence) bool { return p.altered.SetAside(p.history, q) })
		if err == nil {
			from, err = p.apply(ctx, from, page)
		}
		if err != nil {
			return from, err
		}
		after += Sequence(len(page))
	}
	return from, nil
}

// Entry returns the entry of the history with the sequence.
func (p *Projection[S]) Entry(ctx context.Context, q Sequence) (Entry, error) {
	e, err := p.store.Entries(ctx, []Key{{p.history, q}})
	if errors.Is(err, ErrNotFound) {
		return Entry{}, fmt.Errorf("%w: %s has no sequence %d", ErrBroken, p.history, q)
	}
	if err != nil {
		return Entry{}, err
	}
	return e[0], nil
}
