package coverage

import (
	"slices"
	"sync"
	"time"

	"xuncha/sites"
)

// A layout is a roster laid out for counting: when each site is due, and the
// places where sites can be counted.
type layout struct {
	roster *sites.Roster
	once   sync.Once // guards build

	sites []*sites.Site
	index map[sites.SiteID]int32 // into sites
	spans []span                 // of all sites, one after the other
	ends  []int32                // of each site's spans

	// places and byCode grow when a site is counted where none was ever due;
	// the index's lock guards them once the layout is built.
	places []place
	byCode map[sites.DivisionCode]int32 // the first place with the code
}

// A span is a closure of a site.
type span struct {
	from, to int64
	since    int64 // when the order began to close the site without a break
	order    *sites.ClosureOrder
	place    int32
}

// A place is a division under one line of parents. A division that got another
// parent has two, so that what was counted before and after stay apart. The
// others are indices into the layout's places; 0, where no site is counted,
// ends each list.
type place struct {
	code    sites.DivisionCode
	parent  int32
	child   int32 // the first place below this one
	sibling int32 // the next place below the same parent
	same    int32 // the next place with the same code
}

func newLayout(r *sites.Roster) *layout { return &layout{roster: r} }

func (l *layout) build() {
	l.sites = slices.Collect(l.roster.Sites())
	l.index = make(map[sites.SiteID]int32, len(l.sites))
	l.spans = make([]span, 0, len(l.sites))
	l.ends = make([]int32, len(l.sites))
	l.places = make([]place, 1)
	l.byCode = map[sites.DivisionCode]int32{}
	for i, s := range l.sites {
		l.index[s.ID] = int32(i)
		first := len(l.spans)
		for _, c := range l.roster.Closures(s) {
			n := span{from: nanos(c.From), to: nanos(c.To), order: c.Order, place: l.intern(c.Path)}
			n.since = n.from
			for _, o := range l.spans[first:] {
				if o.order == n.order && o.to == n.from {
					n.since = o.since
				}
			}
			l.spans = append(l.spans, n)
		}
		l.ends[i] = int32(len(l.spans))
	}
}

// spansOf returns the spans of site i, by from.
func (l *layout) spansOf(i int) []span {
	first := int32(0)
	if i > 0 {
		first = l.ends[i-1]
	}
	return l.spans[first:l.ends[i]]
}

// intern returns the place at the end of a path that leads from a village up.
func (l *layout) intern(path []sites.DivisionCode) int32 {
	at := int32(0)
	for _, code := range slices.Backward(path) {
		p := l.byCode[code]
		for p != 0 && l.places[p].parent != at {
			p = l.places[p].same
		}
		if p == 0 {
			p = int32(len(l.places))
			l.places = append(l.places, place{code: code, parent: at, sibling: l.places[at].child, same: l.byCode[code]})
			l.places[at].child = p
			l.byCode[code] = p
		}
		at = p
	}
	return at
}

// placeAt returns where site i stands at t.
func (l *layout) placeAt(i int, t time.Time) int32 {
	return l.intern(l.roster.Path(l.sites[i].PlaceAt(t).Division, t))
}

// path returns the codes from the place up.
func (l *layout) path(p int32) []sites.DivisionCode {
	var out []sites.DivisionCode
	for ; p != 0; p = l.places[p].parent {
		out = append(out, l.places[p].code)
	}
	return out
}

// within reports whether the place is, or lies below, the division.
func (l *layout) within(p int32, code sites.DivisionCode) bool {
	for ; p != 0; p = l.places[p].parent {
		if l.places[p].code == code {
			return true
		}
	}
	return false
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
