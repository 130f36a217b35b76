package coverage

import "math"

// A State is how a site stands in a window. States can be joined with |.
type State uint8

// The states, each with the figure that counts it.
const (
	Due            State = 1 << iota // SitesDue
	Done                             // SitesInspected
	Overdue                          // SitesOverdue
	NeverInspected                   // SitesNeverInspected
	FoundOpen                        // SitesFoundOpen
)

// Figures are what is counted of a division. All are 0 or more.
type Figures struct {
	SitesDue, SitesInspected, SitesOverdue, SitesNeverInspected, SitesFoundOpen int64
	CheckIns, VisitedLate, SyncedLate                                           int64
	CancelledEvents, DispersedPeople                                            int64
}

// count returns how many sites are in the state, which is Due or one other.
func (f *Figures) count(s State) int64 {
	switch s &^ Due {
	case Done:
		return f.SitesInspected
	case Overdue:
		return f.SitesOverdue
	case NeverInspected:
		return f.SitesNeverInspected
	case FoundOpen:
		return f.SitesFoundOpen
	}
	return f.SitesDue
}

// node is the figures at one place.
type node struct {
	Figures
	open int64 // check-ins that found their site open
	last int64 // the latest capture; only where there are check-ins
}

// site counts a site in the state s.
func (n *node) site(s State) {
	if s&Due == 0 {
		return
	}
	one := func(of State) int64 {
		if s&of != 0 {
			return 1
		}
		return 0
	}
	n.SitesDue++
	n.SitesInspected += one(Done)
	n.SitesOverdue += one(Overdue)
	n.SitesNeverInspected += one(NeverInspected)
	n.SitesFoundOpen += one(FoundOpen)
}

// add counts what d counts, by times. Where by is -1 it takes it back, but for the
// latest capture.
func (n *node) add(d *node, by int64) {
	if by > 0 && d.CheckIns > 0 && (n.CheckIns == 0 || d.last > n.last) {
		n.last = d.last
	}
	n.SitesDue += by * d.SitesDue
	n.SitesInspected += by * d.SitesInspected
	n.SitesOverdue += by * d.SitesOverdue
	n.SitesNeverInspected += by * d.SitesNeverInspected
	n.SitesFoundOpen += by * d.SitesFoundOpen
	n.CheckIns += by * d.CheckIns
	n.VisitedLate += by * d.VisitedLate
	n.SyncedLate += by * d.SyncedLate
	n.CancelledEvents += by * d.CancelledEvents
	n.DispersedPeople += by * d.DispersedPeople
	n.open += by * d.open
}

// figures are those of all divisions for one window at one moment. They never change
// once made, so that a question is answered from them while visits come in.
type figures struct {
	layout     *layout
	visits     vector[history] // by the site's number
	start, end int64
	known      int64 // visits received later do not count
	asOf       int64 // how things stood just before this moment is what is counted

	// nodes are the figures of the places that have some of their own, as far as their
	// numbers are less than counted.
	nodes   vector[node]
	counted int32
}

// A share is what one site adds to the figures.
type share struct {
	node
	place int32 // where the site is counted; 0 where it is not
	state State // Done and FoundOpen also of a site that is not Due
}

// cost is how much it took to count the site.
func (s *share) cost() int { return 1 + int(s.CheckIns/16) }

// share counts the site with the number.
func (f *figures) share(number int32) share {
	var s share
	site := f.layout.ofSite(number)
	if site.site == nil {
		return s
	}
	h := f.visits.at(number)
	s.node, s.state = f.visited(site.spans, h)
	final, due := lastDuty(site.spans, f.start, f.end)
	if !due {
		if s.state != 0 {
			s.place = site.placeAt(s.last)
		}
		return s
	}
	s.place = final.place
	s.state |= Due
	d := f.duty(site.spans, final)
	base, visited := h.last(f.asOf, f.known)
	if !visited || base < d.since {
		s.state |= NeverInspected
		base = d.since
	}
	if d.end == f.asOf && f.asOf > base+int64(d.order.Interval) {
		s.state |= Overdue
	}
	s.node.site(s.state)
	return s
}

// visited counts the visits in the window, and returns what they add to the site's
// state.
func (f *figures) visited(spans []span, h history) (n node, s State) {
	window := h.window(f.start, f.end)
	if len(window) == 0 {
		return n, s
	}
	before, visited := h.last(f.start, f.known)
	for i := range window {
		w := &window[i]
		if w.receive > f.known {
			continue
		}
		if n.CheckIns > 0 && w.capture > n.last {
			before, visited = n.last, true
		}
		n.CheckIns++
		n.last = w.capture
		n.CancelledEvents += w.cancelled()
		n.DispersedPeople += w.dispersed()
		if late(spans, w.capture, before, visited) {
			n.VisitedLate++
		}
		if w.syncedLate() {
			n.SyncedLate++
		}
		s |= Done
		if w.open() {
			n.open++
			s |= FoundOpen
		}
	}
	return n, s
}

// duty returns the duty by which a site, which is due in the window, is judged
// at the as-of moment. The final duty is its last in the window.
func (f *figures) duty(spans []span, final duty) duty {
	if f.asOf >= f.end {
		return final
	}
	if d, ok := lastDuty(spans, f.start, f.asOf); ok {
		return d
	}
	return final
}

// turn returns the moment from which on the site's state may be another than at the
// as-of moment, if no visit comes in and the roster stays the same.
func (f *figures) turn(number int32) int64 {
	until := int64(math.MaxInt64)
	site := f.layout.ofSite(number)
	if f.asOf >= f.end || len(site.spans) == 0 {
		return until
	}
	final, due := lastDuty(site.spans, f.start, f.end)
	if !due {
		return until
	}
	// What holds just before a moment changes one nanosecond after it.
	turn := func(t int64) {
		if t >= f.asOf && t < f.end {
			until = min(until, t+1)
		}
	}
	turn(f.start)
	for i := range site.spans {
		turn(site.spans[i].from)
		turn(site.spans[i].to)
	}
	h := f.visits.at(number)
	if d := f.duty(site.spans, final); d.end == f.asOf {
		base, visited := h.last(f.asOf, f.known)
		if !visited || base < d.since {
			base = d.since
		}
		turn(base + int64(d.order.Interval))
	}
	if n := h.before(f.asOf); n < len(h) {
		turn(h[n].capture)
	}
	return until
}

// placeOf returns where the site is counted; 0 where it is not.
func (f *figures) placeOf(number int32) int32 {
	site := f.layout.ofSite(number)
	if final, due := lastDuty(site.spans, f.start, f.end); due {
		return final.place
	}
	if site.site == nil {
		return 0
	}
	last, ok := f.visits.at(number).last(f.end, f.known)
	if !ok || last < f.start {
		return 0
	}
	return site.placeAt(last)
}

// lateVisit reports whether a visit of the site was late.
func (f *figures) lateVisit(number int32, w visit) bool {
	before, visited := f.visits.at(number).last(w.capture, f.known)
	return late(f.layout.ofSite(number).spans, w.capture, before, visited)
}

// count adds a site to the figures of the places where it is counted, by times.
func (f *figures) count(s *share, by int64) {
	for p := s.place; p != 0; {
		at := f.layout.places.ref(p)
		if at.own >= 0 && at.own < f.counted {
			f.nodes.change(at.own).add(&s.node, by)
		}
		p = at.parent
	}
}

// at returns the figures at a place. Those of a place that has none of its own are
// counted from the few sites that it has.
func (f *figures) at(p int32, m *meter) (node, error) {
	if own := f.layout.places.ref(p).own; own >= 0 && own < f.counted {
		return f.nodes.at(own), nil
	}
	return f.sum(p, m)
}

// sum counts the figures at a place from the sites that stand there and the places
// below it.
func (f *figures) sum(p int32, m *meter) (n node, err error) {
	at := f.layout.places.ref(p)
	for _, i := range at.sites {
		s := f.share(i)
		if s.place == p {
			n.add(&s.node, 1)
		}
		if err := m.spend(s.cost()); err != nil {
			return n, err
		}
	}
	for _, c := range at.children {
		below, err := f.at(c, m)
		if err != nil {
			return n, err
		}
		n.add(&below, 1)
	}
	return n, nil
}
