package coverage

import (
	"math"
	"sync/atomic"
	"time"

	"xuncha/sites"
)

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

// node is the figures at one place.
type node struct {
	Figures
	last int64 // the latest capture; only where there are check-ins
}

// visit counts a visit.
func (n *node) visit(w visit) {
	d := node{Figures{CheckIns: 1, CancelledEvents: int64(w.cancelled), DispersedPeople: int64(w.dispersed)}, w.capture}
	if w.visitedLate {
		d.VisitedLate = 1
	}
	if w.syncedLate {
		d.SyncedLate = 1
	}
	n.add(&d)
}

// site counts a site in the state s; by is 1, or -1 to take it back.
func (n *node) site(s State, by int64) {
	if s&Due == 0 {
		return
	}
	n.SitesDue += by
	if s&Done != 0 {
		n.SitesInspected += by
	}
	if s&Overdue != 0 {
		n.SitesOverdue += by
	}
	if s&NeverInspected != 0 {
		n.SitesNeverInspected += by
	}
	if s&FoundOpen != 0 {
		n.SitesFoundOpen += by
	}
}

func (n *node) add(d *node) {
	if d.CheckIns > 0 && (n.CheckIns == 0 || d.last > n.last) {
		n.last = d.last
	}
	n.SitesDue += d.SitesDue
	n.SitesInspected += d.SitesInspected
	n.SitesOverdue += d.SitesOverdue
	n.SitesNeverInspected += d.SitesNeverInspected
	n.SitesFoundOpen += d.SitesFoundOpen
	n.CheckIns += d.CheckIns
	n.VisitedLate += d.VisitedLate
	n.SyncedLate += d.SyncedLate
	n.CancelledEvents += d.CancelledEvents
	n.DispersedPeople += d.DispersedPeople
}

// A standing is how one site is counted in a view.
type standing struct {
	until int64 // from this moment on the state may be another
	place int32 // where the site is counted
	state State // Done and FoundOpen also of a site that is not Due
}

// A view is the figures of all divisions for one window. The index's lock
// guards it.
type view struct {
	layout     *layout
	visits     map[sites.SiteID]*history
	start, end int64
	known      int64 // visits received later do not count

	asOf  int64 // how things stood just before this moment is what is counted
	until int64 // from this moment on some site's state may be another

	sites []standing // in the order of the layout's
	built int        // how many sites are counted so far
	nodes []node     // in the order of the layout's places; node makes it longer

	// version changes with each change of the figures that does not come from
	// time alone. It is nil while the index does not keep the view up to date.
	version *atomic.Uint64
}

// node returns the figures at a place.
func (v *view) node(p int32) *node {
	if n := len(v.layout.places) - len(v.nodes); n > 0 {
		v.nodes = append(v.nodes, make([]node, n)...)
	}
	return &v.nodes[p]
}

func (v *view) history(site sites.SiteID) history {
	if h, ok := v.visits[site]; ok {
		return *h
	}
	return nil
}

// window returns the visits of h that were captured in the window.
func (v *view) window(h history) history {
	end := h.before(v.end)
	return h[h[:end].before(v.start):end]
}

// build counts the next sites and reports whether all are counted.
func (v *view) build() bool {
	const step = 1024 // about half a millisecond
	for n := min(v.built+step, len(v.sites)); v.built < n; v.built++ {
		h := v.history(v.layout.sites[v.built].ID)
		v.count(v.built, h, v.window(h))
	}
	return v.built == len(v.sites)
}

// advance lets time pass until now.
func (v *view) advance(now int64) {
	v.asOf = max(v.asOf, min(now, v.end))
	if v.asOf < v.until {
		return
	}
	v.until = math.MaxInt64
	for i := range v.sites {
		if v.sites[i].until <= v.asOf {
			v.count(i, v.history(v.layout.sites[i].ID), nil)
		} else {
			v.until = min(v.until, v.sites[i].until)
		}
	}
}

// see counts a visit that was added to a site's history h. It reports whether
// the view is still right; if not, it has to be made anew.
func (v *view) see(id sites.SiteID, h history, w visit) bool {
	i, ok := v.layout.index[id]
	if !ok || int(i) >= v.built || w.capture >= v.end {
		return true
	}
	v.version.Add(1)
	return v.count(int(i), h, history{w})
}

// count brings what the view says of site i up to its as-of moment. The visits
// in fresh are those of the site's history h that it has not counted yet. It
// reports false where the site would have to leave the place where it was
// counted, which figures that only grow cannot show.
func (v *view) count(i int, h, fresh history) bool {
	was := v.sites[i]
	seen := was.state & (Done | FoundOpen)
	var d node
	for _, w := range fresh {
		if w.capture < v.start || w.capture >= v.end || w.receive > v.known {
			continue
		}
		d.visit(w)
		seen |= Done
		if w.open {
			seen |= FoundOpen
		}
	}
	is := v.stand(i, h, seen)
	if is.place != was.place && was.state != 0 {
		return false
	}
	v.sites[i] = is
	v.until = min(v.until, is.until)
	d.site(is.state, 1)
	d.site(was.state, -1)
	if d != (node{}) {
		for p := is.place; p != 0; p = v.layout.places[p].parent {
			v.node(p).add(&d)
		}
	}
	return true
}

// stand returns how site i stands at the as-of moment, where seen is what its
// visits in the window add to its state.
func (v *view) stand(i int, h history, seen State) standing {
	spans := v.layout.spansOf(i)
	s := standing{state: seen, until: math.MaxInt64}
	final, due := lastDuty(spans, v.start, v.end)
	if !due {
		if last, ok := h.last(v.end, v.known); ok && seen != 0 {
			s.place = v.layout.placeAt(i, moment(last))
		}
		return s
	}
	s.place = final.place
	s.state |= Due
	d := v.duty(i)
	base, visited := h.last(v.asOf, v.known)
	if !visited || base < d.since {
		s.state |= NeverInspected
		base = d.since
	}
	deadline := base + int64(d.order.Interval)
	stillDue := d.end == v.asOf
	if stillDue && v.asOf > deadline {
		s.state |= Overdue
	}
	if v.asOf == v.end {
		return s
	}

	// What holds just before a moment changes one nanosecond after it.
	turn := func(t int64) {
		if t >= v.asOf && t < v.end {
			s.until = min(s.until, t+1)
		}
	}
	turn(v.start)
	for j := range spans {
		turn(spans[j].from)
		turn(spans[j].to)
	}
	if stillDue {
		turn(deadline)
	}
	if n := h.before(v.asOf); n < len(h) {
		turn(h[n].capture)
	}
	return s
}

// duty returns the duty by which site i, which is due in the window, is judged
// at the as-of moment.
func (v *view) duty(i int) duty {
	spans := v.layout.spansOf(i)
	d, ok := lastDuty(spans, v.start, v.asOf)
	if !ok {
		d, _ = lastDuty(spans, v.start, v.end)
	}
	return d
}

// clockSlack is how far behind the latest moment asked about a question may
// lie and still be answered as of that moment. Questions asked at once do not
// arrive in the order of their clocks.
const clockSlack = int64(time.Minute)

// A Stamp tells whether an answer may be given again. The zero Stamp is never
// fresh.
type Stamp struct {
	version     *atomic.Uint64
	seen        uint64
	from, until int64
}

// Fresh reports whether the report would at now be the same as when it was
// stamped, but for the clock running back by less than a minute. It costs some
// nanoseconds and takes no lock.
func (s Stamp) Fresh(now time.Time) bool {
	if s.version == nil || s.version.Load() != s.seen {
		return false
	}
	n := nanos(now)
	return s.from <= n && n < s.until
}

func (v *view) stamp() Stamp {
	if v.version == nil {
		return Stamp{}
	}
	return Stamp{version: v.version, seen: v.version.Load(), from: v.asOf - clockSlack, until: v.until}
}
