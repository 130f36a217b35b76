package sites

import (
	"iter"
	"slices"
	"time"

	"xuncha/ledger"
)

// An Event is an entry of the roster's history, without its record.
type Event struct {
	Sequence ledger.Sequence
	ID       string
	Kind     ledger.Kind
	Time     time.Time

	// Revokes is the change that the entry takes back, and RevokedBy the entry that takes
	// this one back; 0 where there is none.
	Revokes, RevokedBy ledger.Sequence

	order *ClosureOrder // of an order's entry
	// touched are the numbers of the sites that the entry made or changed, or else
	// of the divisions under which it may change when sites are closed.
	touched []uint32
	// named are, of an import of divisions, the numbers of those that it changed in
	// nothing but their names.
	named []uint32
}

// Event returns the entry with the sequence, without its record; the zero Event where the
// roster has none.
func (r *Roster) Event(q ledger.Sequence) Event {
	if q < 1 || q > r.Revision() {
		return Event{}
	}
	return *r.event(q)
}

// event returns the entry with the sequence.
func (r *Roster) event(q ledger.Sequence) *Event { return *r.events.At(uint32(q - 1)) }

// revisionAt returns the sequence of the newest entry that was received until t.
// The times of a history never run backwards.
func (r *Roster) revisionAt(t time.Time) ledger.Sequence {
	low, high := ledger.Sequence(0), r.Revision()
	for low < high {
		if mid := (low + high + 1) / 2; r.event(mid).Time.After(t) {
			high = mid - 1
		} else {
			low = mid
		}
	}
	return low
}

// Touched gives the sites that the roster's entries after the revision since
// may have changed. It promises this: a site is among them if its Registered,
// Deregistered, Placements or Closures differ between r and the roster at that
// revision, also if only one of the two has it. Others may be among them too. Each
// comes once, in no order. None comes if r is not newer.
func (r *Roster) Touched(since ledger.Sequence) iter.Seq[SiteID] {
	return func(yield func(SiteID) bool) {
		seen := make([]uint64, r.sites.Len()/64+1) // a bit for each site
		touch := func(site uint32) bool {
			word, bit := &seen[site/64], uint64(1)<<(site%64)
			if *word&bit != 0 {
				return true
			}
			*word |= bit
			return yield(r.site(site).ID)
		}
		for q := max(since, 0) + 1; q <= r.Revision(); q++ {
			if !r.eachTouched(r.event(q), touch) {
				return
			}
		}
	}
}

// eachTouched calls touch for the sites that the entry touches, by what is known
// of the divisions by now, until it returns false.
func (r *Roster) eachTouched(e *Event, touch func(site uint32) bool) bool {
	if r.ofSites(e) {
		for _, site := range e.touched {
			if !touch(site) {
				return false
			}
		}
		return true
	}
	divisions := e.touched
	if len(divisions) > r.NumSites() {
		divisions = []uint32{0}
	}
	for _, d := range divisions {
		more := true
		r.listed.Ascend(listing{division: d}, func(l listing) bool {
			more = l.division != d || touch(l.site)
			return more && l.division == d
		})
		if !more {
			return false
		}
	}
	return true
}

// ofSites reports whether the entry makes or changes sites.
func (r *Roster) ofSites(e *Event) bool {
	if e.Revokes != 0 {
		e = r.event(e.Revokes)
	}
	return e.Kind != KindDivisionsImported && !ofOrder(e.Kind)
}

// ofOrder reports whether entries of the kind make or change an order.
func ofOrder(k ledger.Kind) bool { return k == KindOrderIssued || k == KindOrderEnded }

// Concerning returns the events that concern the site, oldest first: those
// that made or changed it, the closure orders that close it, and the division
// imports that touched a division on its path. What was taken back is among them, with
// the entry that did so.
func (r *Roster) Concerning(s *Site) []Event {
	found := slices.Clone(s.changes)
	for _, p := range r.placements(s) {
		for _, n := range p.path {
			d := r.divisions.At(n)
			found = d.appendImports(found)
			if d.rare != nil {
				for _, q := range d.rare.revocations {
					found = append(found, q, r.event(q).Revokes)
				}
			}
			of, ok := r.ordersOf.Get(n)
			if !ok {
				continue
			}
			for _, q := range of.events {
				if o := r.orderOf(q); p.from.Before(o.PlannedEnd) && (p.to.IsZero() || p.to.After(o.Start)) {
					found = append(found, q)
				}
			}
		}
	}
	slices.Sort(found)
	out := make([]Event, 0, len(found))
	for _, q := range slices.Compact(found) {
		if q <= r.Revision() { // else the site is of a newer roster
			out = append(out, *r.event(q))
		}
	}
	return out
}

// orderOf returns the order as it is after an entry about one, or, of one that takes
// another back, as it is after that other.
func (r *Roster) orderOf(q ledger.Sequence) *ClosureOrder {
	e := r.event(q)
	if e.Revokes != 0 {
		e = r.event(e.Revokes)
	}
	return e.order
}
