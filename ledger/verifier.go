package ledger

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// A Verifier checks entries as they are read: that each follows from the one before it,
// by its sequence, its hash and its time, and that what stands beside its record is what
// the record says. It keeps the head of each history and goes on behind what does not
// verify, so that one entry that was changed is one flaw. It must be given the entries
// of each history in their order, once, by one goroutine at a time; those of different
// histories may come from several at once.
//
// A flaw is known before the repair that settles it, which comes later in the history.
// So whoever reads from the beginning asks for the flaws once all is read.
type Verifier struct {
	now    func() time.Time
	shards [64]verifierShard
}

type verifierShard struct {
	mu     sync.Mutex
	chains map[History]*chain
}

// A Flaw is a fault with what a repair has to name to settle it.
type Flaw struct {
	Fault
	Aside Aside
	// beside tells that the entry at the sequence verifies, and that this is another one.
	beside bool
}

// NewVerifier returns a verifier that has been given nothing. A flaw is found when now
// says.
func NewVerifier(now func() time.Time) *Verifier {
	v := &Verifier{now: now}
	for i := range v.shards {
		v.shards[i].chains = map[History]*chain{}
	}
	return v
}

// shard returns what has the chain of the history. The ends of names are as good as random.
func (v *Verifier) shard(h History) *verifierShard {
	at := uint(len(h))
	if n := len(h); n > 1 {
		at = 31*uint(h[n-1]) + uint(h[n-2])
	}
	return &v.shards[at%uint(len(v.shards))]
}

// chain returns the chain of a history. It needs the lock.
func (s *verifierShard) chain(h History) *chain {
	c := s.chains[h]
	if c == nil {
		c = &chain{}
		s.chains[h] = c
	}
	return c
}

// of returns the chain of a history, and unlocks what it is in with the function.
func (v *Verifier) of(h History) (c *chain, unlock func()) {
	s := v.shard(h)
	s.mu.Lock()
	return s.chain(h), s.mu.Unlock
}

// Begin lets the verifier go on behind the head of a history, for whoever has verified
// what comes before, and forgets what it knew of the history. Entries up to there are
// taken as they are.
func (v *Verifier) Begin(h History, at Head) {
	c, unlock := v.of(h)
	defer unlock()
	*c = chain{Head: at, known: at.Sequence}
}

// BeginAside lets the verifier know what repairs have set aside before the head behind
// which it began.
func (v *Verifier) BeginAside(h History, sequences []Sequence) {
	c, unlock := v.of(h)
	defer unlock()
	for _, q := range sequences {
		c.oddly().aside[q] = true
	}
}

// Adopt takes over what another verifier has found that was given more lately the same
// entries, from the beginning: which flaws are none any more, and what was set aside.
// Before are the FlawedHeads of when the other one had been given nothing yet: where a
// history has not moved since, the other knows all of it, also where it has less.
func (v *Verifier) Adopt(other *Verifier, before map[History]Head) {
	flawed := map[History]bool{}
	for _, f := range other.Flaws() {
		flawed[f.History] = true
	}
	aside := other.AllSetAside()
	for _, f := range v.Flaws() {
		head := other.Head(f.History)
		if flawed[f.History] {
			continue
		}
		c, unlock := v.of(f.History)
		if was, flawed := before[f.History]; c.Sequence <= head.Sequence || flawed && c.Head == was {
			*c = chain{Head: head, known: head.Sequence}
		} else {
			c.odd.flaws = slices.DeleteFunc(c.odd.flaws, func(f Flaw) bool { return f.Sequence <= head.Sequence })
		}
		unlock()
	}
	for h, sequences := range aside {
		v.BeginAside(h, sequences)
	}
}

// FlawedHeads returns the newest entries, as far as the verifier was given them, of the
// histories that have flaws.
func (v *Verifier) FlawedHeads() map[History]Head {
	out := map[History]Head{}
	for _, f := range v.Flaws() {
		if _, known := out[f.History]; !known {
			out[f.History] = v.Head(f.History)
		}
	}
	return out
}

// Take checks the next entry of a history and reports whether it verifies. Nobody is to
// count one that does not.
func (v *Verifier) Take(e Entry) (verified bool) {
	s := v.shard(e.History)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.chain(e.History)
	// As nearly all are.
	if c.odd == nil && e.Sequence == c.Sequence+1 && e.Kind != KindRepaired &&
		Chain(c.Hash, e.Record) == e.Hash && e.saysItself() && !e.Time.Before(c.Time) {
		c.Head = e.Head()
		return true
	}
	return c.take(e, v.now)
}

// Unreadable notes that an entry that verifies cannot be read by those who count it.
func (v *Verifier) Unreadable(e Entry, why error) {
	c, unlock := v.of(e.History)
	defer unlock()
	c.flaw(Fault{e.History, e.Sequence, "cannot be read: " + why.Error(), v.now()}, AsideOf(e))
}

// Lacks notes that the store knows of an entry with the sequence, for when all were
// given: those after the last one are missing.
func (v *Verifier) Lacks(h History, until Sequence) {
	c, unlock := v.of(h)
	defer unlock()
	c.missing(h, until, v.now())
}

// Head returns the newest entry of the history, as far as the verifier was given it.
func (v *Verifier) Head(h History) Head {
	c, unlock := v.of(h)
	defer unlock()
	return c.Head
}

// SetAside reports whether a repair has set the entry aside.
func (v *Verifier) SetAside(h History, q Sequence) bool {
	c, unlock := v.of(h)
	defer unlock()
	return c.odd != nil && c.odd.aside[q]
}

// FlawsOf returns the flaws of a history that no repair has settled, by their sequence.
func (v *Verifier) FlawsOf(h History) []Flaw {
	c, unlock := v.of(h)
	defer unlock()
	return c.flaws()
}

// Flaws returns the flaws of all histories that no repair has settled, by history and
// then by sequence.
func (v *Verifier) Flaws() (out []Flaw) {
	byHistory := map[History][]Flaw{}
	for i := range v.shards {
		s := &v.shards[i]
		s.mu.Lock()
		for h, c := range s.chains {
			if f := c.flaws(); len(f) > 0 {
				byHistory[h] = f
			}
		}
		s.mu.Unlock()
	}
	for _, h := range slices.Sorted(maps.Keys(byHistory)) {
		out = append(out, byHistory[h]...)
	}
	return out
}

// AllSetAside returns what repairs have set aside, by history.
func (v *Verifier) AllSetAside() map[History][]Sequence {
	out := map[History][]Sequence{}
	for i := range v.shards {
		s := &v.shards[i]
		s.mu.Lock()
		for h, c := range s.chains {
			if c.odd != nil && len(c.odd.aside) > 0 {
				out[h] = slices.Sorted(maps.Keys(c.odd.aside))
			}
		}
		s.mu.Unlock()
	}
	return out
}

// Publish lets all that is known of the histories be what the verifier has found, after
// it was given all entries. It returns how many places are new that do not verify.
func (v *Verifier) Publish(a *Alterations) (fresh int) {
	flaws := map[History][]Fault{}
	for _, f := range v.Flaws() {
		flaws[f.History] = append(flaws[f.History], f.Fault)
	}
	for _, f := range a.All() {
		if flaws[f.History] == nil {
			flaws[f.History] = []Fault{}
		}
	}
	for h, faults := range flaws {
		fresh += a.Set(h, ByChain, faults)
	}
	aside := v.AllSetAside()
	for h := range a.AllSetAside() {
		if aside[h] == nil {
			aside[h] = []Sequence{}
		}
	}
	for h, sequences := range aside {
		a.PutAside(h, sequences)
	}
	return fresh
}

// PublishOf is Publish for one history.
func (v *Verifier) PublishOf(h History, a *Alterations) (fresh int) {
	c, unlock := v.of(h)
	flaws := c.flaws()
	var aside []Sequence
	if c.odd != nil {
		aside = slices.Sorted(maps.Keys(c.odd.aside))
	}
	unlock()
	faults := make([]Fault, len(flaws))
	for i, f := range flaws {
		faults[i] = f.Fault
	}
	a.PutAside(h, aside)
	return a.Set(h, ByChain, faults)
}

// flaws returns a history's flaws by their sequence.
func (c *chain) flaws() []Flaw {
	if c.odd == nil {
		return nil
	}
	out := slices.Clone(c.odd.flaws)
	if c.odd.unnamed != nil {
		out = append(out, *c.odd.unnamed)
	}
	slices.SortStableFunc(out, func(a, b Flaw) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return out
}
