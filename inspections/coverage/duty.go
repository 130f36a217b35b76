package coverage

import (
	"time"

	"xuncha/sites"
)

// A span is a closure of a site.
type span struct {
	from, to int64
	since    int64 // when the order began to close the site without a break
	order    *sites.ClosureOrder
	place    int32
}

// spansOf returns a site's closures, which are by their beginnings, as spans. Where a
// closure lies is found by place.
func spansOf(closures []sites.Closure, place func(path []sites.DivisionCode) int32) []span {
	if len(closures) == 0 {
		return nil
	}
	spans := make([]span, 0, len(closures))
	for _, c := range closures {
		n := span{from: nanos(c.From), to: nanos(c.To), order: c.Order, place: place(c.Path)}
		n.since = n.from
		for _, o := range spans {
			if o.order == n.order && o.to == n.from {
				n.since = o.since
			}
		}
		spans = append(spans, n)
	}
	return spans
}

// A duty is what is asked of a site at one due moment.
type duty struct {
	place int32
	// end is the first moment after the due moment.
	end int64
	// since is when the earliest order in force began to close the site.
	since int64
	// order is the one in force with the shortest interval.
	order *sites.ClosureOrder
}

// lastDuty returns the duty at the last moment of [from, to) that lies in one
// of the spans.
func lastDuty(spans []span, from, to int64) (d duty, ok bool) {
	for i := range spans {
		s := &spans[i]
		end := min(s.to, to)
		if max(s.from, from) >= end || end < d.end && ok {
			continue
		}
		switch {
		case !ok || end > d.end:
			d, ok = duty{place: s.place, end: end, since: s.since, order: s.order}, true
		default: // in force at the same moment
			d.since = min(d.since, s.since)
			if s.order.Interval < d.order.Interval {
				d.order = s.order
			}
		}
	}
	return d, ok
}

// late reports whether a visit at capture comes later than the interval allows after
// the site became due, or after the visit before it, if there is one and that was
// later. A site that is not due is never visited late.
func late(spans []span, capture, before int64, visited bool) bool {
	d, due := lastDuty(spans, capture, capture+1)
	if !due {
		return false
	}
	base := d.since
	if visited && before > base {
		base = before
	}
	return capture-base > int64(d.order.Interval)
}

// VisitedLate reports whether a visit is late as things look now: of a site with these
// closures (sites.Roster.Closures), at the moment at, where last is the capture of the
// latest visit before it; zero where there is none.
func VisitedLate(closures []sites.Closure, at, last time.Time) bool {
	spans := spansOf(closures, func([]sites.DivisionCode) int32 { return 0 })
	return late(spans, nanos(at), nanos(last), !last.IsZero())
}
