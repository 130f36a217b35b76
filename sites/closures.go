package sites

import (
	"slices"
	"time"
)

// A Placement is a time during which a site stands under the same divisions.
type Placement struct {
	// From is the placement's first moment; the zero time in the first one.
	From time.Time
	// To is the first moment after it; zero in the last one.
	To time.Time
	// Path leads from the village up to the widest division.
	Path []DivisionCode
}

// A placement is a Placement with numbers.
type placement struct {
	from, to time.Time
	path     []uint32
}

// Placements returns where the site stood through all time, oldest first and
// without gaps, with a new placement at each moment when the site moved or the
// hierarchy above it changed. Registration does not matter here.
func (r *Roster) Placements(s *Site) []Placement {
	all := r.placements(s)
	out := make([]Placement, len(all))
	for i, p := range all {
		out[i] = Placement{From: p.from, To: p.to, Path: r.codes(p.path)}
	}
	return out
}

func (r *Roster) placements(s *Site) []placement {
	cuts := make([]time.Time, 1, 4)
	for i, p := range s.Places {
		if i > 0 {
			cuts = append(cuts, p.From)
		}
		cuts = r.appendCuts(cuts, r.numberOf(p.Division), 0)
	}
	slices.SortFunc(cuts, time.Time.Compare)
	out := make([]placement, 0, len(cuts))
	for _, t := range cuts {
		path := r.pathFrom(make([]uint32, 0, maxPath), r.numberOf(s.PlaceAt(t).Division), t)
		if n := len(out); n > 0 {
			if slices.Equal(out[n-1].path, path) {
				continue
			}
			if out[n-1].from.Equal(t) {
				out[n-1].path = path
				continue
			}
			out[n-1].to = t
		}
		out = append(out, placement{from: t, path: path})
	}
	return out
}

// appendCuts appends the moments at which the path above the division may change.
func (r *Roster) appendCuts(cuts []time.Time, n uint32, depth int) []time.Time {
	if n == 0 || depth > maxPath {
		return cuts
	}
	var before *version
	for v := range r.divisions.At(n).versions {
		if before == nil || v.parent != before.parent {
			if before != nil {
				cuts = append(cuts, v.from.time)
			}
			cuts = r.appendCuts(cuts, v.parent, depth+1)
		}
		before = v
	}
	return cuts
}

// A Closure is a time during which one order closes one site, which is
// registered and has one placement meanwhile.
type Closure struct {
	Order *ClosureOrder
	// From and To bound the time, [From, To).
	From, To time.Time
	// Path is the placement's.
	Path []DivisionCode
}

// Closures returns when and under which orders the site is closed, by From.
// The site is due at exactly the moments that lie in one of them.
func (r *Roster) Closures(s *Site) []Closure {
	if s.revoked {
		return nil
	}
	var out []Closure
	var orders []*ClosureOrder
	for _, p := range r.placements(s) {
		orders = orders[:0]
		for _, n := range p.path {
			if of, ok := r.ordersOf.Get(n); ok {
				orders = append(orders, of.orders...)
			}
		}
		slices.SortFunc(orders, compareOrders)
		var path []DivisionCode
		for _, o := range slices.Compact(orders) { // one may name two divisions of the path
			from := later(later(p.from, o.Start), s.Registered)
			to := o.End
			for _, t := range []time.Time{p.to, s.Deregistered} {
				if !t.IsZero() && t.Before(to) {
					to = t
				}
			}
			if from.Before(to) {
				if path == nil {
					path = r.codes(p.path)
				}
				out = append(out, Closure{Order: o, From: from, To: to, Path: path})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Closure) int { return a.From.Compare(b.From) })
	return out
}

// OrderAt returns the order that closes the site at t, the one that started
// first where there are several, or nil where none does.
func (r *Roster) OrderAt(s *Site, t time.Time) *ClosureOrder {
	if !s.RegisteredAt(t) {
		return nil
	}
	var first *ClosureOrder
	var path [maxPath]uint32
	for _, n := range r.pathFrom(path[:0], r.numberOf(s.PlaceAt(t).Division), t) {
		of, ok := r.ordersOf.Get(n)
		if !ok {
			continue
		}
		if i := slices.IndexFunc(of.orders, func(o *ClosureOrder) bool { return o.InForce(t) }); i >= 0 {
			if o := of.orders[i]; first == nil || compareOrders(o, first) < 0 {
				first = o
			}
		}
	}
	return first
}
