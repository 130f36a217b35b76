package sites

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"xuncha/ledger"
)

// MaxReason is how many characters the reason may have for which a change is taken back.
const MaxReason = 500

// Revoke takes back the change that made the revision: from now on, the roster is as if
// that change had never been. What it registered or issued is unknown, and its number
// free; what it changed is as the changes before left it. What was known earlier, and what
// was reported meanwhile, stays.
//
// The error is ErrChangeUnknown where there is no such change or by.May denies one of the
// divisions that it touched, ErrNotRevocable where it was taken back already or is of a
// kind that cannot be, and a *RestedOnError, which names the newest, where later changes
// rest on it. These are the changes that touched the same site, order or division, and
// those that put a site in a division, let an order name one, or put a division below one,
// that would never have been.
func (s *Service) Revoke(ctx context.Context, by By, revision ledger.Sequence, reason string) (*Roster, error) {
	by = by.saying("RevokeChange", func(d *ledger.Digester) { d.Add(strconv.FormatInt(int64(revision), 10), reason) })
	// It must be possible to open places again whatever else fails.
	r, _, err := s.change(ledger.WithReserve(ctx), by, func(r *Roster) (*decision, error) {
		if err := JoinFaults(CheckRevoke(revision, reason), s.checkRevoke(ctx, by, r, revision)); err != nil {
			return nil, err
		}
		return &decision{kind: KindChangeRevoked, content: Content{Revoked: &Revoked{Revision: revision, Reason: reason}}}, nil
	})
	return r, err
}

// noChange is the error for a change that does not exist, and for one that the caller may not
// take back.
func noChange(revision ledger.Sequence) error {
	return &FieldError{"revision", fmt.Errorf("%d: %w", revision, ErrChangeUnknown)}
}

func (s *Service) checkRevoke(ctx context.Context, by By, r *Roster, revision ledger.Sequence) error {
	wrong := func(err error) error { return &FieldError{"revision", err} }
	unknown := noChange(revision)
	if revision < 1 || revision > r.Revision() {
		return unknown
	}
	of, now, rights := r.event(revision), s.Now(), s.rightsOn(r, by)
	mayAll := func(codes iter.Seq[DivisionCode]) bool {
		for code := range codes {
			if !rights.in(code, now) {
				return false
			}
		}
		return true
	}
	// Most that is not the caller's is seen without reading what was before.
	if !mayAll(r.stillTouched(of, now)) {
		return unknown
	}
	if !r.holds(revision) {
		return wrong(fmt.Errorf("%d: %w: %s", revision, ErrNotRevocable, of.whyNot()))
	}
	undo, err := s.undo(ctx, r, revision)
	if err != nil {
		return err
	}
	after := r.apply(change{event: Event{Sequence: r.Revision() + 1, Kind: KindChangeRevoked, Time: now}, undo: undo})
	if !mayAll(r.touchedUntil(after, of, now)) {
		return unknown
	}
	if later := r.restsOn(of, after); later != 0 {
		return wrong(&RestedOnError{Revision: int64(later)})
	}
	return nil
}

// whyNot says why the event's change, which does not hold or never can be, cannot be taken
// back.
func (e *Event) whyNot() string {
	switch {
	case e.RevokedBy != 0:
		return fmt.Sprintf("change %d has taken it back already", e.RevokedBy)
	case e.Revokes != 0:
		return fmt.Sprintf("it takes back change %d; make that change once more", e.Revokes)
	}
	return "it is of a kind that cannot be"
}

// restsOn returns the newest change that rests on the one of the event, or 0. After is the
// roster without that.
func (r *Roster) restsOn(of *Event, after *Roster) (newest ledger.Sequence) {
	see := func(changes ...ledger.Sequence) {
		if q := r.newestOf(changes, of.Sequence); q > of.Sequence {
			newest = max(newest, q)
		}
	}
	switch {
	case ofOrder(of.Kind):
		life, _ := r.orders.Get(of.order.ID)
		see(life.changes...)
	case of.Kind == KindDivisionsImported:
		var touched []ledger.Sequence
		for _, n := range slices.Concat(of.touched, of.named) {
			touched = r.divisions.At(n).appendImports(touched[:0])
			slices.Sort(touched)
			see(touched...)
			if !after.divisions.At(n).known() {
				r.eachIn(n, see)
			}
		}
	default:
		for _, n := range of.touched {
			see(r.site(n).changes...)
		}
	}
	return newest
}

// eachIn calls see with the changes that put divisions right below the division, and with
// those of each site in it and of each order that names it.
func (r *Roster) eachIn(n uint32, see func(...ledger.Sequence)) {
	d := r.divisions.At(n)
	if d.children != nil {
		for _, c := range *d.children {
			child := r.divisions.At(c)
			for v := range child.versions {
				if v.parent == n {
					see(v.from.sequence)
				}
			}
			if child.rare != nil {
				for _, m := range child.rare.marks {
					if m.parent == n {
						see(m.sequence)
					}
				}
			}
		}
	}
	r.listed.Ascend(listing{division: n}, func(l listing) bool {
		if l.division != n {
			return false
		}
		if site := r.site(l.site); slices.ContainsFunc(site.Places, func(p Place) bool { return p.Division == d.code }) {
			see(site.changes...)
		}
		return true
	})
	if of, ok := r.ordersOf.Get(n); ok {
		for _, o := range of.orders {
			life, _ := r.orders.Get(o.ID)
			see(life.changes...)
		}
	}
}

// touchedUntil gives the divisions that the change of the event touched, of which after is
// the roster without it: those in which its sites stand, as they are with it and without
// it, or from which they would come or go; those of its order; or those that it imported,
// with the parents of those whose parent it changed. Some come more than once.
func (r *Roster) touchedUntil(after *Roster, of *Event, now time.Time) iter.Seq[DivisionCode] {
	return func(yield func(DivisionCode) bool) {
		switch {
		case ofOrder(of.Kind):
			for _, code := range of.order.Divisions {
				if !yield(code) {
					return
				}
			}
		case of.Kind == KindDivisionsImported:
			for _, n := range slices.Concat(of.touched, of.named) {
				with, without := r.divisions.At(n), after.divisions.At(n)
				codes := []DivisionCode{with.code}
				if a, b := with.newest.parent, without.newest.parent; a != b {
					codes = append(codes, r.codes(slices.DeleteFunc([]uint32{a, b}, func(n uint32) bool { return n == 0 }))...)
				}
				for _, code := range codes {
					if !yield(code) {
						return
					}
				}
			}
		default:
			for _, n := range of.touched {
				if !sitePlaces(r.site(n), after.site(n), now, yield) {
					return
				}
			}
		}
	}
}

// sitePlaces gives the divisions in which the site stands now or stands last, by either of
// two states, and those of the places that only one of them has.
func sitePlaces(a, b *Site, now time.Time, yield func(DivisionCode) bool) bool {
	for _, s := range []*Site{a, b} {
		if !yield(s.PlaceAt(now).Division) || !yield(s.Places[len(s.Places)-1].Division) {
			return false
		}
	}
	same := 0
	for same < min(len(a.Places), len(b.Places)) && a.Places[same].Division == b.Places[same].Division && a.Places[same].From.Equal(b.Places[same].From) {
		same++
	}
	for _, p := range slices.Concat(a.Places[same:], b.Places[same:]) {
		if !yield(p.Division) {
			return false
		}
	}
	return true
}

// StillTouched gives the divisions that the change of the event touched, as far as the
// roster still tells without reading what was before. Of one that takes another back,
// these are that one's. Each comes once.
func (r *Roster) StillTouched(e Event, now time.Time) iter.Seq[DivisionCode] {
	return r.stillTouched(&e, now)
}

func (r *Roster) stillTouched(e *Event, now time.Time) iter.Seq[DivisionCode] {
	if e.Revokes != 0 {
		e = r.event(e.Revokes)
	}
	seen := make([]uint64, r.divisions.Len()/64+1) // a bit for each division
	fresh := func(n uint32) bool {
		word, bit := &seen[n/64], uint64(1)<<(n%64)
		if n == 0 || *word&bit != 0 {
			return false
		}
		*word |= bit
		return true
	}
	return func(yield func(DivisionCode) bool) {
		each := func(code DivisionCode) bool { return !fresh(r.numberOf(code)) || yield(code) }
		switch {
		case ofOrder(e.Kind):
			for _, code := range e.order.Divisions {
				if !each(code) {
					return
				}
			}
		case e.Kind == KindDivisionsImported:
			for _, n := range slices.Concat(e.touched, e.named) {
				if fresh(n) && !yield(r.divisions.At(n).code) {
					return
				}
				for _, p := range r.divisions.At(n).parentsBy(e.Sequence) {
					if fresh(p) && !yield(r.divisions.At(p).code) {
						return
					}
				}
			}
		default:
			moves := e.Kind == KindSiteMoved || e.Kind == KindSitesImported
			for _, n := range e.touched {
				s := r.site(n)
				places := s.Places[min(s.placeAt(now), len(s.Places)-1):]
				if moves {
					places = s.Places
				}
				for _, p := range places {
					if !each(p.Division) {
						return
					}
				}
			}
		}
	}
}

// parentsBy returns the parents between which the import has moved the division, as far as
// its versions tell; none where it has the same one as before.
func (d *division) parentsBy(q ledger.Sequence) []uint32 {
	before := uint32(0)
	for v := range d.versions {
		if v.from.sequence == q && v.parent != before {
			return []uint32{before, v.parent}
		}
		before = v.parent
	}
	return nil
}

// OrderRevision is the newest change that made the closure order what it is; 0 where all
// were taken back.
func (r *Roster) OrderRevision(id OrderID) ledger.Sequence {
	life, ok := r.orders.Get(id)
	if !ok {
		return 0
	}
	return r.newestOf(life.changes, 0)
}
