package coverage

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

// A Query is a question about a division and all below it.
type Query struct {
	Division sites.DivisionCode
	// Start and End bound the window, [Start, End).
	Start, End time.Time
	// Now is the server's clock. A question up to a minute behind the latest
	// one about the same window is answered as of that one.
	Now time.Time
	// Known, where it is not zero, asks how things were known then: only visits
	// received by then count, and Roster, the roster as known then, is what
	// they are counted by. Both are left out to ask how things are known now.
	Known  time.Time
	Roster *sites.Roster
	// Depth is how many levels below the division a report goes. The lists do
	// not use it.
	Depth int
}

// A Row is the figures of one division.
type Row struct {
	Division sites.DivisionCode
	// Name and Level are those at the window's last moment, by the rule of
	// sites.Roster.LastDivision.
	Name  string
	Level sites.Level
	Figures
	// LastCapture is the latest capture of the check-ins; zero without any.
	LastCapture time.Time
}

// A Report is the row of a division, with those of its children by code.
type Report struct {
	Row
	Children []Report
}

// Report returns the figures of a division and, down to the depth, of those
// below it. The errors are ErrWindow and sites.ErrDivisionUnknown. A division
// that ended before the window has zeros, unless a site is counted in it.
func (x *Index) Report(q Query) (Report, Stamp, error) {
	v, err := x.view(q)
	if err != nil {
		return Report{}, Stamp{}, err
	}
	defer x.mu.Unlock()
	var places []int32
	for p := v.layout.byCode[q.Division]; p != 0; p = v.layout.places[p].same {
		places = append(places, p)
	}
	return v.report(q.Division, places, q.End.Add(-1), q.Depth), v.stamp(), nil
}

// report sums up the places, all of the division code. The names and the
// children are those at t.
func (v *view) report(code sites.DivisionCode, places []int32, t time.Time, depth int) Report {
	var sum node
	for _, p := range places {
		sum.add(v.node(p))
	}
	r := Report{Row: Row{Division: code, Figures: sum.Figures}}
	if d, err := v.layout.roster.LastDivision(code, t); err == nil {
		r.Name, r.Level = d.Name, d.Level
	}
	if sum.CheckIns > 0 {
		r.LastCapture = moment(sum.last)
	}
	if depth <= 0 {
		return r
	}
	children := map[sites.DivisionCode][]int32{}
	for _, d := range v.layout.roster.Children(code, t) {
		children[d.Code] = nil
	}
	for _, p := range places {
		for c := v.layout.places[p].child; c != 0; c = v.layout.places[c].sibling {
			if n := v.node(c); n.SitesDue+n.CheckIns > 0 {
				children[v.layout.places[c].code] = append(children[v.layout.places[c].code], c)
			}
		}
	}
	for _, c := range slices.Sorted(maps.Keys(children)) {
		r.Children = append(r.Children, v.report(c, children[c], t, depth-1))
	}
	return r
}

// A SiteStatus says how one due site stands.
type SiteStatus struct {
	Site *sites.Site
	// Path is where it is counted, from the village up to the city.
	Path                                          []sites.DivisionCode
	Inspected, Overdue, NeverInspected, FoundOpen bool
	// LastCapture is that of the last visit before the as-of moment, in the
	// window or not; zero where there is none.
	LastCapture time.Time
	// DueSince and Order are those of the duty by which the site is judged. Of
	// orders that overlap, Order is the one with the shortest interval.
	DueSince time.Time
	Order    *sites.ClosureOrder
	// OverdueSince is when the interval had passed; zero where the site is not
	// overdue.
	OverdueSince time.Time
}

// Sites returns the due sites behind a figure, or behind several at once,
// ordered by village and registration number. The errors are those of Report.
func (x *Index) Sites(q Query, state State) ([]SiteStatus, error) {
	v, err := x.view(q)
	if err != nil {
		return nil, err
	}
	defer x.mu.Unlock()
	state |= Due
	var out []SiteStatus
	for i, s := range v.sites {
		if s.state&state == state && v.layout.within(s.place, q.Division) {
			out = append(out, v.status(i))
		}
	}
	// The roster lists them by registration number already.
	slices.SortStableFunc(out, func(a, b SiteStatus) int { return cmp.Compare(a.Path[0], b.Path[0]) })
	return out, nil
}

func (v *view) status(i int) SiteStatus {
	is, d := v.sites[i], v.duty(i)
	s := SiteStatus{
		Site: v.layout.sites[i], Path: v.layout.path(is.place),
		Inspected: is.state&Done != 0, Overdue: is.state&Overdue != 0,
		NeverInspected: is.state&NeverInspected != 0, FoundOpen: is.state&FoundOpen != 0,
		DueSince: moment(d.since), Order: d.order,
	}
	last, ok := v.history(s.Site.ID).last(v.asOf, v.known)
	if ok {
		s.LastCapture = moment(last)
	} else {
		last = d.since
	}
	if s.Overdue {
		s.OverdueSince = moment(max(last, d.since)).Add(time.Duration(d.order.Interval))
	}
	return s
}

// A VisitRef names a check-in.
type VisitRef struct {
	Capture  time.Time
	Site     sites.SiteID
	Sequence ledger.Sequence
}

// A VisitFilter narrows a list of check-ins. Its zero value keeps all.
type VisitFilter struct {
	// Site, where it is not empty, keeps those of one site.
	Site sites.SiteID
	// Each of these that is true keeps those of which it is true.
	Open, VisitedLate, SyncedLate bool
}

func (f VisitFilter) keeps(w visit) bool {
	return (!f.Open || w.open) && (!f.VisitedLate || w.visitedLate) && (!f.SyncedLate || w.syncedLate)
}

// Visits returns up to n of the check-ins behind the figure CheckIns: newest
// capture first, of equal ones by site id, then by sequence. The list begins
// after the check-in given, which need not be in it; the zero VisitRef begins
// at the newest. Where the filter names a site, the division can be empty: then
// the list is of the site's visits in the window, wherever it is counted. The
// errors are those of Report.
func (x *Index) Visits(q Query, f VisitFilter, after VisitRef, n int) ([]VisitRef, error) {
	anywhere := f.Site != "" && q.Division == ""
	var v *view
	var err error
	if anywhere {
		if v, err = x.newView(q); err == nil {
			x.mu.Lock()
		}
	} else {
		v, err = x.view(q)
	}
	if err != nil {
		return nil, err
	}
	defer x.mu.Unlock()
	var rest heads
	gather := func(site sites.SiteID) {
		h := v.window(v.history(site))
		if after != (VisitRef{}) {
			h = h[:h.following(site, after)]
		}
		if h = v.trim(h, f); len(h) > 0 {
			rest = append(rest, head{site, h})
		}
	}
	if anywhere {
		gather(f.Site)
	}
	for i, s := range v.sites {
		site := v.layout.sites[i].ID
		if s.state&Done != 0 && (f.Site == "" || f.Site == site) && v.layout.within(s.place, q.Division) {
			gather(site)
		}
	}
	heap.Init(&rest)
	var out []VisitRef
	for len(rest) > 0 && len(out) < n {
		top := &rest[0]
		w := top.visits[len(top.visits)-1]
		out = append(out, VisitRef{moment(w.capture), top.site, ledger.Sequence(w.sequence)})
		if top.visits = v.trim(top.visits[:len(top.visits)-1], f); len(top.visits) > 0 {
			heap.Fix(&rest, 0)
		} else {
			heap.Pop(&rest)
		}
	}
	return out, nil
}

// trim cuts off the newest visits that are not to be listed.
func (v *view) trim(h history, f VisitFilter) history {
	for len(h) > 0 && (h[len(h)-1].receive > v.known || !f.keeps(h[len(h)-1])) {
		h = h[:len(h)-1]
	}
	return h
}

// following returns how many of the site's visits, the oldest ones, come after
// the check-in given in the order of a list.
func (h history) following(site sites.SiteID, after VisitRef) int {
	at := visit{capture: nanos(after.Capture), sequence: uint32(after.Sequence)}
	switch {
	case site < after.Site:
		return h.before(at.capture)
	case site > after.Site:
		return h.before(at.capture + 1)
	}
	n, _ := slices.BinarySearchFunc(h, at, visit.compare)
	return n
}

// A head is what is left to list of one site's visits; the last comes next.
type head struct {
	site   sites.SiteID
	visits history
}

// heads is a heap of them, the one whose visit comes next on top.
type heads []head

func (s heads) Len() int      { return len(s) }
func (s heads) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *heads) Push(h any)   { *s = append(*s, h.(head)) }
func (s *heads) Pop() any {
	last := len(*s) - 1
	h := (*s)[last]
	*s = (*s)[:last]
	return h
}
func (s heads) Less(i, j int) bool {
	a, b := s[i].visits[len(s[i].visits)-1], s[j].visits[len(s[j].visits)-1]
	return cmp.Or(cmp.Compare(b.capture, a.capture), cmp.Compare(s[i].site, s[j].site)) < 0
}
