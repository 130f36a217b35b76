package ledger

import (
	"fmt"
	"slices"
	"time"
)

// Farthest is how many entries may be missing in one place. What stands farther ahead
// has a sequence that was changed.
const Farthest = 50_000

// maxFlaws is how many flaws of one history are named.
const maxFlaws = 2 * Farthest

// A chain is a history on its way through a verifier. Its Head is that of the newest
// entry.
type chain struct {
	Head
	// known is up to where the entries are taken as they are.
	known Sequence
	// odd is nil while everything verifies and nothing was repaired.
	odd *oddities
}

// oddities are what is known of a history that does not verify, or was repaired.
type oddities struct {
	// maybe are what the hash of the newest entry may be, where that entry does not
	// verify: what follows from its record and what came before, and last what is
	// stored. The one from which the next entry follows is right. None is right where
	// the newest entry is missing.
	maybe []Hash
	// before is the place before the last one that did not verify: an entry that follows
	// from there was pushed behind its place.
	before place
	// stored is the newest hash that was stored, wherever it stood.
	stored Hash
	flaws  []Flaw
	// unnamed is the first flaw for which there was no room.
	unnamed *Flaw
	// aside are the sequences of the entries that repairs have set aside, and named what
	// repairs name.
	aside map[Sequence]bool
	named map[Aside]bool
}

// A place is a sequence with what its hash may be.
type place struct {
	Sequence
	maybe []Hash
}

// follows returns which of the hashes the entry follows from, or -1.
func (p place) follows(e Entry) int {
	return slices.IndexFunc(p.maybe, func(before Hash) bool { return Chain(before, e.Record) == e.Hash })
}

// oddly returns the history's oddities, for whoever has found the first.
func (c *chain) oddly() *oddities {
	if c.odd == nil {
		c.odd = &oddities{maybe: []Hash{c.Hash}, stored: c.Hash, before: place{-1, nil}, aside: map[Sequence]bool{}, named: map[Aside]bool{}}
	}
	return c.odd
}

// take is Verifier.Take for an entry that is not as nearly all are.
func (c *chain) take(e Entry, now func() time.Time) (verified bool) {
	if e.Sequence <= c.known {
		if q, moved := e.home(); !moved || q <= c.known {
			return c.takeKnown(e, now)
		}
	}
	odd := c.oddly()
	at := place{c.Sequence, odd.maybe}
	defer func() {
		if e.Hash != (Hash{}) {
			odd.stored = e.Hash
		}
	}()
	if e.Kind == KindRepaired && e.Sequence > c.Sequence && e.saysItself() &&
		(at.follows(e) >= 0 || odd.before.follows(e) >= 0 || Chain(odd.stored, e.Record) == e.Hash) {
		// A repair may step over entries that are missing, which it names.
		c.explain(at.follows(e))
		c.missing(e.History, e.Sequence-1, now())
		c.moveTo(e)
		c.settle(e, now())
		return true
	}
	if i := at.follows(e); i >= 0 {
		c.explain(i)
		return c.fits(e, c.Sequence+1, now())
	}
	if odd.before.follows(e) >= 0 {
		return c.pushed(e, now())
	}
	c.doesNotFit(e, at, now())
	return false
}

// takeKnown takes an entry that somebody has verified before, whose chain is not known
// up to there.
func (c *chain) takeKnown(e Entry, now func() time.Time) bool {
	why := ""
	if !e.saysItself() {
		why = e.differs()
	} else if e.Sequence == c.known && c.Sequence == c.known && e.Hash != c.Hash {
		why = "its hash is not the one that was verified before"
	}
	if why == "" {
		return true
	}
	aside := AsideOf(e)
	if q, moved := e.home(); moved {
		// It is known by its place, where those who read the history meet it.
		e.Sequence, aside.Sequence = q, q
	}
	c.flaw(Fault{e.History, e.Sequence, why, now()}, aside)
	return false
}

// moveTo makes the entry the newest, with a hash that is right.
func (c *chain) moveTo(e Entry) {
	c.Sequence, c.Hash = e.Sequence, e.Hash
	if e.Time.After(c.Time) {
		c.Time = e.Time
	}
	c.odd.maybe = []Hash{e.Hash}
}

// fits takes an entry whose record and hash are right, at the sequence that is its
// place.
func (c *chain) fits(e Entry, q Sequence, now time.Time) (verified bool) {
	why := ""
	switch {
	case e.Sequence != q || !e.saysItself():
		why = e.differs()
	case e.Time.Before(c.Time):
		why = "its time lies before that of the entry before"
	}
	aside := AsideOf(e)
	e.Sequence, aside.Sequence = q, q
	if why != "" {
		e.Time = provenTime(e)
	}
	c.moveTo(e)
	if why != "" {
		c.flaw(Fault{e.History, q, why, now}, aside)
	}
	return why == ""
}

// provenTime returns the time in the record, which the hash proves, or zero. What stands
// beside it may be any time at all, and nothing after it is to be held to that.
func provenTime(e Entry) time.Time {
	read, err := Parse(e.Record)
	if err != nil {
		return time.Time{}
	}
	return read.Time
}

// explain says of the newest entry, which did not verify, what was changed of it, once
// an entry follows from it.
func (c *chain) explain(which int) {
	if which < 0 || len(c.odd.maybe) < 2 {
		return
	}
	for i := range c.odd.flaws {
		f := &c.odd.flaws[i]
		switch {
		case f.Sequence != c.Sequence:
		case which == len(c.odd.maybe)-1:
			f.Why = "its record was changed: its hash, which the next entry proves, is that of another one"
		default:
			f.Why = "the hash stored with it was changed: the next entry proves its record"
		}
	}
}

// pushed takes an entry that follows from the place before the last one that did not
// verify: something stands before it that does not belong there.
func (c *chain) pushed(e Entry, now time.Time) (verified bool) {
	odd := c.odd
	q := odd.before.Sequence + 1
	if q == c.Sequence {
		for i := range odd.flaws {
			if odd.flaws[i].Sequence == q {
				odd.flaws[i].Why = "a second entry with this sequence was put in"
			}
		}
		odd.before = place{-1, nil}
		verified := c.fits(e, q, now)
		for i := range odd.flaws {
			odd.flaws[i].beside = odd.flaws[i].beside || verified && odd.flaws[i].Sequence == q
		}
		return verified
	}
	aside := AsideOf(e)
	aside.Sequence = q
	odd.flaws = slices.DeleteFunc(odd.flaws, func(f Flaw) bool { return f.Sequence == q && f.Aside.Hash == "" })
	c.flaw(Fault{e.History, q, fmt.Sprintf("it stands behind the entry with the sequence %d", c.Sequence), now}, aside)
	odd.before = place{q, []Hash{e.Hash}}
	return false
}

// doesNotFit takes an entry that follows from nothing.
func (c *chain) doesNotFit(e Entry, at place, now time.Time) {
	odd := c.odd
	if e.Hash == (Hash{}) && len(e.Record) == 0 && e.Sequence > c.Sequence && e.Sequence <= c.Sequence+Farthest {
		c.missing(e.History, e.Sequence-1, now)
		c.flaw(Fault{e.History, e.Sequence, "it cannot be read from the disk", now}, Aside{Sequence: e.Sequence})
		odd.before, odd.maybe, c.Sequence = at, nil, e.Sequence
		return
	}
	aside := AsideOf(e)
	if read, err := Parse(e.Record); err == nil && read.History == e.History && (e.Sequence < 1 || e.Sequence > c.Sequence+Farthest) && read.Sequence <= c.Sequence {
		// It was moved, and is known by its place: where it is read depends on what has come
		// since.
		e.Sequence, aside.Sequence = read.Sequence, read.Sequence
	}
	if e.Sequence >= 1 && e.Sequence <= c.Sequence {
		alone := !odd.aside[e.Sequence] && !slices.ContainsFunc(odd.flaws, func(f Flaw) bool { return f.Sequence == e.Sequence && !f.beside })
		c.flaw(Fault{e.History, e.Sequence, "a second entry with this sequence, or one out of its order", now}, aside)
		if n := len(odd.flaws); n > 0 && odd.flaws[n-1].Aside == aside {
			odd.flaws[n-1].beside = alone
		}
		return
	}
	if e.Sequence > c.Sequence+1 && e.Sequence <= c.Sequence+Farthest {
		c.missing(e.History, e.Sequence-1, now)
	}
	why := "its hash does not follow from its record and the entry before"
	switch {
	case c.Sequence+1 != e.Sequence:
		why = fmt.Sprintf("it is stored with the sequence %d, and its hash does not follow from its record and the entry before", e.Sequence)
	case len(odd.maybe) == 0:
		why = "it cannot be proven, because the entry before it is missing"
	}
	aside.Sequence = c.Sequence + 1
	c.flaw(Fault{e.History, c.Sequence + 1, why, now}, aside)
	next := []Hash{e.Hash}
	if n := len(odd.maybe); n > 0 {
		// The first is right where only hashes were changed, however many; the last where
		// a record was, and then a hash.
		next = []Hash{Chain(odd.maybe[0], e.Record), Chain(odd.maybe[n-1], e.Record), e.Hash}
	}
	odd.before, odd.maybe = at, next
	c.Sequence, c.Hash = c.Sequence+1, e.Hash
}

// missing notes that the entries up to a sequence are missing.
func (c *chain) missing(h History, until Sequence, now time.Time) {
	if until <= c.Sequence {
		return
	}
	odd := c.oddly()
	odd.before = place{c.Sequence, odd.maybe}
	for q := c.Sequence + 1; q <= until && odd.unnamed == nil; q++ {
		c.flaw(Fault{h, q, "it is missing", now}, Aside{Sequence: q})
	}
	c.Sequence, odd.maybe = until, nil
}

// flaw notes a flaw, unless there are very many or a repair has settled it before.
func (c *chain) flaw(f Fault, aside Aside) {
	odd := c.oddly()
	if odd.named[aside] {
		odd.aside[f.Sequence] = true
		return
	}
	if len(odd.flaws) < maxFlaws {
		odd.flaws = append(odd.flaws, Flaw{Fault: f, Aside: aside})
	} else if odd.unnamed == nil {
		f.Why = "here and behind it are more flaws than can be named"
		odd.unnamed = &Flaw{Fault: f}
	}
}

// settle lets a repair set aside the flaws that it names as they are.
func (c *chain) settle(e Entry, now time.Time) {
	r, err := ParseRepair(e)
	if err != nil {
		c.flaw(Fault{e.History, e.Sequence, "cannot be read: " + err.Error(), now}, AsideOf(e))
		return
	}
	for _, a := range r.SetAside {
		c.odd.named[a] = true
	}
	c.odd.flaws = slices.DeleteFunc(c.odd.flaws, func(f Flaw) bool {
		if c.odd.named[f.Aside] {
			if !f.beside {
				c.odd.aside[f.Sequence] = true
			}
			return true
		}
		return false
	})
}
