package slow

import (
	"slices"
	"time"
)

// A stretch is a time in which nothing changes for a site: neither its
// registration, nor its place, nor the divisions above that, nor the orders in
// force there.
type stretch struct {
	// from is the first moment; zero in the first stretch. until is the first moment
	// after it; zero in the last one.
	from, until time.Time
	// path leads from the site's village up to its root.
	path []string
	// closing are the orders that close the site. The site is due in the stretch
	// where there is one.
	closing []*Order
}

// life returns all stretches of the site, oldest first and without gaps.
func (f *facts) life(s *Site) []stretch {
	moments := f.moments(s)
	out := make([]stretch, 0, len(moments)+1)
	from := time.Time{}
	for _, until := range append(moments, time.Time{}) {
		path := f.path(s.village(from), from)
		out = append(out, stretch{from: from, until: until, path: path, closing: f.closing(s, path, from)})
		from = until
	}
	return out
}

// moments returns all moments at which something may change for the site, oldest
// first, each once.
func (f *facts) moments(s *Site) []time.Time {
	out := []time.Time{s.Registered, s.Deregistered}
	for _, p := range s.Places {
		out = append(out, p.From)
	}
	for _, o := range f.orders {
		out = append(out, o.Start, o.End)
	}
	for _, versions := range f.divisions {
		for _, v := range versions {
			out = append(out, v.from, v.until)
		}
	}
	out = slices.DeleteFunc(out, time.Time.IsZero)
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

// closing returns the orders that close the site at t, when it stands under the
// path: it is registered, and the order is in force and names a division of the
// path.
func (f *facts) closing(s *Site, path []string, t time.Time) []*Order {
	if !during(t, s.Registered, s.Deregistered) {
		return nil
	}
	var out []*Order
	for _, o := range f.orders {
		if during(t, o.Start, o.End) && slices.ContainsFunc(path, func(code string) bool { return slices.Contains(o.Divisions, code) }) {
			out = append(out, o)
		}
	}
	return out
}

// stretchAt returns the index of the stretch in which t lies; -1 where the life has
// none, as that of a site that is not on the roster.
func stretchAt(life []stretch, t time.Time) int {
	return slices.IndexFunc(life, func(s stretch) bool { return during(t, s.from, s.until) })
}

// lastDue returns the last moment of [from, to) at which the site is due, and the
// index of its stretch. It is not due in that time where ok is false.
func lastDue(life []stretch, from, to time.Time) (t time.Time, i int, ok bool) {
	for i := len(life) - 1; i >= 0; i-- {
		end := to
		if until := life[i].until; !until.IsZero() && until.Before(end) {
			end = until
		}
		t := end.Add(-1) // time has steps of a nanosecond
		if len(life[i].closing) > 0 && !t.Before(from) && !t.Before(life[i].from) {
			return t, i, true
		}
	}
	return time.Time{}, 0, false
}

// A duty is what the orders ask that close a site in a stretch.
type duty struct {
	// since is when the earliest of them began to close the site without a break.
	since time.Time
	// strictest is the order with the shortest interval.
	strictest *Order
}

// dutyIn returns the duty in a stretch in which the site is due.
func dutyIn(life []stretch, i int) duty {
	var d duty
	for _, o := range life[i].closing {
		if since := closedSince(life, i, o); d.since.IsZero() || since.Before(d.since) {
			d.since = since
		}
		if d.strictest == nil || o.Interval < d.strictest.Interval {
			d.strictest = o
		}
	}
	return d
}

// closedSince returns when the order began to close the site as it does in the
// stretch, without a break. Where the site stood meanwhile does not matter.
func closedSince(life []stretch, i int, o *Order) time.Time {
	for i > 0 && slices.Contains(life[i-1].closing, o) {
		i--
	}
	return life[i].from
}

// visitedLate reports whether the visit came more than the interval after the site
// became due, or after the latest visit before it, if that was later. A visit of a
// site that is not due is not late. Two visits captured at once are not before one
// another.
func (f *facts) visitedLate(life []stretch, c CheckIn) bool {
	i := stretchAt(life, c.Captured)
	if i < 0 || len(life[i].closing) == 0 {
		return false
	}
	d := dutyIn(life, i)
	base := d.since
	for _, other := range f.checkIns[c.Site] {
		if other.Captured.Before(c.Captured) && other.Captured.After(base) {
			base = other.Captured
		}
	}
	return c.Captured.Sub(base) > time.Duration(d.strictest.Interval)
}
