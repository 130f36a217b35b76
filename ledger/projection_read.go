package ledger

import (
	"context"
	"errors"
	"fmt"
)

// refresh needs the lock.
func (p *Projection[S]) refresh(ctx context.Context) error {
	if p.stopped.Load() != nil {
		return p.reread(ctx)
	}
	for {
		page, err := p.store.Span(ctx, p.history, p.current.Load().sequence, projectionPage)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := p.takeIn(ctx, page); err != nil || p.stopped.Load() != nil || len(page) < projectionPage {
			return err
		}
	}
}

// takeIn applies entries that follow the state. It needs the lock.
func (p *Projection[S]) takeIn(ctx context.Context, entries []Entry) error {
	at := p.current.Load()
	whole, err := p.begin(ctx, at.sequence)
	if err != nil {
		return err
	}
	for _, e := range entries {
		// What a repair sets aside may be in the state already.
		whole = whole && p.verifier.Take(e) && e.Kind != KindRepaired
	}
	if !whole {
		return p.reread(ctx)
	}
	state, err := p.apply(ctx, at.state, entries)
	if err != nil {
		p.verifier = nil // it is ahead of the state
		if passes(err) {
			return err
		}
		return p.reread(ctx)
	}
	last := entries[len(entries)-1].Sequence
	p.current.Store(&projected[S]{state, last})
	p.seen.Store(int64(last))
	return nil
}

// begin brings the verifier to where the state is, and reports whether it could.
func (p *Projection[S]) begin(ctx context.Context, at Sequence) (bool, error) {
	if p.verifier != nil {
		return true, nil
	}
	p.verifier = NewVerifier(p.now)
	if at == 0 {
		return true, nil
	}
	there, err := p.store.Span(ctx, p.history, at-1, 1)
	if err != nil {
		p.verifier = nil
		return false, err
	}
	if len(there) == 0 || there[0].Sequence != at {
		return false, nil
	}
	p.verifier.Begin(p.history, there[0].Head())
	return true, nil
}

// passes reports whether what failed may succeed later.
func passes(err error) bool {
	return errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrDamaged) || errors.Is(err, ErrFull) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// reread verifies the whole history, for which an entry that does not verify is a
// reason, and applies what stands before the first one that no repair settles. It needs
// the lock.
func (p *Projection[S]) reread(ctx context.Context) error {
	p.verifier = nil
	v := NewVerifier(p.now)
	for after := Sequence(0); ; {
		page, err := p.store.Span(ctx, p.history, after, projectionPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			v.Take(e)
		}
		if len(page) == 0 || page[len(page)-1].Sequence <= after {
			break // an index that leads backwards leads nowhere
		}
		after = page[len(page)-1].Sequence
	}
	for {
		flaws, until := v.FlawsOf(p.history), v.Head(p.history).Sequence
		p.seen.Store(int64(until))
		if len(flaws) > 0 {
			until = flaws[0].Sequence - 1
		}
		err := p.applyUntil(ctx, v, until)
		var unfit *unfitError
		switch {
		case errors.As(err, &unfit):
			v.Unreadable(unfit.entry, unfit.error) // which may be set aside already
			continue
		case err != nil:
			return err
		}
		faults := make([]Fault, len(flaws))
		for i, f := range flaws {
			faults[i] = f.Fault
		}
		if p.altered.Set(p.history, ByState, faults); len(faults) > 0 {
			p.stopped.Store(&AlteredError{faults[0]})
			return nil
		}
		p.verifier = v
		p.stopped.Store(nil)
		return nil
	}
}

// An unfitError is of an entry that verifies and with which apply fails.
type unfitError struct {
	entry Entry
	error
}

func (e *unfitError) Unwrap() error { return e.error }

// applyUntil brings the state up to the sequence, but for what was set aside. Where
// something was that the state holds, the state is made anew.
func (p *Projection[S]) applyUntil(ctx context.Context, v *Verifier, until Sequence) error {
	at := p.current.Load()
	aside := map[Sequence]bool{}
	for _, q := range v.AllSetAside()[p.history] {
		aside[q] = true
		if q <= at.sequence && !p.aside[q] {
			at = &projected[S]{state: p.empty}
		}
	}
	for at.sequence < until {
		page, err := p.store.Span(ctx, p.history, at.sequence, int(min(until-at.sequence, projectionPage)))
		if err != nil {
			return err
		}
		if page, err = p.withAside(page, at.sequence, min(until, at.sequence+projectionPage), func(q Sequence) bool { return aside[q] }); err != nil {
			return err
		}
		if at, err = p.applyEach(ctx, at, page); err != nil {
			return err
		}
	}
	p.aside = aside
	p.current.Store(at)
	return nil
}

// applyEach applies entries, one after the other where one of them may fail.
func (p *Projection[S]) applyEach(ctx context.Context, at *projected[S], entries []Entry) (*projected[S], error) {
	state, err := p.apply(ctx, at.state, entries)
	switch {
	case err == nil:
		return &projected[S]{state, entries[len(entries)-1].Sequence}, nil
	case passes(err):
		return at, err
	case len(entries) == 1:
		return at, &unfitError{entries[0], err}
	}
	for i := range entries {
		if at, err = p.applyEach(ctx, at, entries[i:i+1]); err != nil {
			return at, err
		}
	}
	return at, nil
}

// withAside returns the entries with the sequences after one up to another, as apply is
// given them. page are those that the store has.
func (p *Projection[S]) withAside(page []Entry, after, until Sequence, aside func(Sequence) bool) ([]Entry, error) {
	there := map[Sequence]Entry{}
	for _, e := range page {
		there[e.Sequence] = e
	}
	out := make([]Entry, 0, until-after)
	for q := after + 1; q <= until; q++ {
		e, ok := there[q]
		switch {
		case aside(q):
			hollow := Entry{History: p.history, Sequence: q, Kind: KindSetAside}
			if len(out) > 0 {
				hollow.Time = out[len(out)-1].Time
			}
			out = append(out, hollow)
		case ok:
			out = append(out, e)
		default:
			return nil, fmt.Errorf("%w: %s has no sequence %d", ErrBroken, p.history, q)
		}
	}
	return out, nil
}
