package coverage

import (
	"cmp"
	"container/heap"
	"context"
	"math"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"xuncha/ledger"
	"xuncha/sites"
)

// A VisitRef names a check-in.
type VisitRef struct {
	Capture  time.Time
	Site     sites.SiteID
	Sequence ledger.Sequence
}

// compare orders check-ins as they are listed.
func (r VisitRef) compare(o VisitRef) int {
	return cmp.Or(o.Capture.Compare(r.Capture), cmp.Compare(r.Site, o.Site), cmp.Compare(r.Sequence, o.Sequence))
}

// A VisitFilter narrows a list of check-ins. Its zero value keeps all.
type VisitFilter struct {
	// Site, where it is not empty, keeps those of one site.
	Site sites.SiteID
	// Each of these that is true keeps those of which it is true.
	Open, VisitedLate, SyncedLate bool
}

// total returns how many of the check-ins behind the figures the filter keeps, or more
// where it asks for several things.
func (f VisitFilter) total(n *node) int64 {
	total := n.CheckIns
	if f.Open {
		total = min(total, n.open)
	}
	if f.VisitedLate {
		total = min(total, n.VisitedLate)
	}
	if f.SyncedLate {
		total = min(total, n.SyncedLate)
	}
	return total
}

// Visits returns up to n of the check-ins behind the figure CheckIns: newest
// capture first, of equal ones by site id, then by sequence. The list begins
// after the check-in given, which need not be in it; the zero VisitRef begins
// at the newest. Where the filter names a site, the division can be empty: then
// the list is of the site's visits in the window, wherever it is counted. The
// errors are those of Report.
func (x *Index) Visits(ctx context.Context, q Query, f VisitFilter, after VisitRef, n int) ([]VisitRef, Cost, error) {
	m := x.newMeter(ctx)
	defer m.rest()
	l := visitLister{filter: f, meter: m, after: after, n: n}
	var err error
	if f.Site != "" && q.Division == "" {
		l.figures, err = x.window(q, m)
	} else {
		l.figures, _, err = x.figures(q, m)
	}
	if err != nil {
		return nil, m.cost, err
	}
	x.mu.Lock()
	l.ids, l.minutes = x.ids, x.minutes.Copy()
	site, known := x.numbers[f.Site]
	x.mu.Unlock()
	switch {
	case f.Site == "":
		err = l.division(q.Division)
	case known && (q.Division == "" || l.layout.within(l.placeOf(site), q.Division)):
		err = l.merge([]int32{site})
	}
	return l.out, m.cost, err
}

// window returns what is known of visits and closures, without figures.
func (x *Index) window(q Query, m *meter) (*figures, error) {
	if err := q.Check(); err != nil {
		return nil, err
	}
	defer m.rest()
	l, err := x.newest(m)
	known := int64(math.MaxInt64)
	if err == nil && !q.Known.IsZero() {
		known = nanos(q.Known)
		l, err = x.layoutOf(q.Roster, m)
	}
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return &figures{layout: l, visits: x.visits.share(), start: nanos(q.Start), end: nanos(q.End), known: known}, nil
}

// A visitLister lists check-ins.
type visitLister struct {
	*figures
	meter   *meter
	ids     []sites.SiteID
	minutes *btree.Map[int64, []passing]
	filter  VisitFilter
	after   VisitRef
	n       int
	out     []VisitRef
}

// division lists the check-ins behind the figures of a division. There are two ways. To
// go back through all check-ins, minute by minute, is quick where most are to be
// listed. To look at the sites of the division is quick where those are few.
func (l *visitLister) division(code sites.DivisionCode) error {
	places := l.layout.of(code)
	sum, err := l.sumOf(places)
	if err != nil {
		return err
	}
	all, err := l.sumOf(l.layout.places.ref(0).children)
	if err != nil {
		return err
	}
	total := l.filter.total(&sum)
	if total == 0 {
		return nil
	}
	standing := 0
	for _, p := range places {
		standing += int(l.layout.places.ref(p).count)
	}
	// How many check-ins lie between two that are listed, if they lie evenly.
	if gap := float64(all.CheckIns) / float64(total); gap*float64(l.n) <= float64(4*standing) {
		done, err := l.back(code, 8*standing+stepCost)
		if done || err != nil {
			return err
		}
	}
	l.out = nil
	list := l.layout.sitesUnder(places, func(p int32) bool {
		own := l.layout.places.ref(p).own
		if own < 0 {
			return false
		}
		n := l.nodes.at(own)
		return l.filter.total(&n) == 0
	})
	if err := l.meter.spend(len(list)); err != nil {
		return err
	}
	return l.merge(slices.DeleteFunc(list, func(i int32) bool { return !l.layout.within(l.placeOf(i), code) }))
}

// sumOf returns the figures of some places together.
func (l *visitLister) sumOf(places []int32) (sum node, err error) {
	for _, p := range places {
		n, err := l.at(p, l.meter)
		if err != nil {
			return sum, err
		}
		sum.add(&n, 1)
	}
	return sum, nil
}

// back lists the check-ins by going back minute by minute. It gives up, and reports
// false, after looking at as many as patience says.
func (l *visitLister) back(code sites.DivisionCode, patience int) (done bool, err error) {
	last := l.end - 1
	if l.after != (VisitRef{}) {
		last = min(last, nanos(l.after.Capture))
	}
	done = true
	l.minutes.Descend(minuteOf(last), func(in int64, visited []passing) bool {
		if (in+1)*minute <= l.start {
			return false
		}
		if patience -= len(visited); patience < 0 {
			done = false
			return false
		}
		if err = l.meter.spend(len(visited)); err != nil {
			return false
		}
		l.between(code, visited, max(in*minute, l.start), min((in+1)*minute, last+1))
		return len(l.out) < l.n
	})
	return done, err
}

// between lists the check-ins captured in [from, to) of those that passed.
func (l *visitLister) between(code sites.DivisionCode, passed []passing, from, to int64) {
	var must passing
	if l.filter.Open {
		must |= passing(reportOpen)
	}
	if l.filter.SyncedLate {
		must |= passing(reportSynced)
	}
	var visited []int32
	for _, p := range passed {
		if p&must == must {
			visited = append(visited, p.site())
		}
	}
	slices.Sort(visited)
	var found []VisitRef
	for _, i := range slices.Compact(visited) {
		before := len(found)
		for _, w := range l.behind(i, l.visits.at(i).window(from, to)) {
			if l.keeps(i, w) {
				found = append(found, l.refOf(i, w))
			}
		}
		if len(found) > before && !l.layout.within(l.placeOf(i), code) {
			found = found[:before]
		}
	}
	slices.SortFunc(found, VisitRef.compare)
	l.out = append(l.out, found[:min(len(found), l.n-len(l.out))]...)
}

// refOf names a check-in.
func (l *visitLister) refOf(site int32, w visit) VisitRef {
	return VisitRef{moment(w.capture), l.ids[site], ledger.Sequence(w.sequence)}
}

// keeps reports whether the check-in is to be listed.
func (l *visitLister) keeps(site int32, w visit) bool {
	f := l.filter
	return w.receive <= l.known && (!f.Open || w.open()) && (!f.SyncedLate || w.syncedLate()) &&
		(!f.VisitedLate || l.lateVisit(site, w))
}

// behind returns the visits of a site, the oldest ones, that come after where the list
// begins.
func (l *visitLister) behind(site int32, h history) history {
	if l.after == (VisitRef{}) {
		return h
	}
	at := visit{capture: nanos(l.after.Capture), sequence: uint32(l.after.Sequence)}
	switch id := l.ids[site]; {
	case id < l.after.Site:
		return h[:h.before(at.capture)]
	case id > l.after.Site:
		return h[:h.before(at.capture+1)]
	}
	n, _ := slices.BinarySearchFunc(h, at, visit.compare)
	return h[:n]
}

// merge lists the check-ins of some sites, which have no others in the list.
func (l *visitLister) merge(list []int32) error {
	var rest heads
	for _, i := range list {
		h := l.trim(i, l.behind(i, l.visits.at(i).window(l.start, l.end)))
		if err := l.meter.spend(1); err != nil {
			return err
		}
		if len(h) > 0 {
			rest = append(rest, head{i, l.ids[i], h})
		}
	}
	heap.Init(&rest)
	for len(rest) > 0 && len(l.out) < l.n {
		top := &rest[0]
		l.out = append(l.out, l.refOf(top.site, top.visits[len(top.visits)-1]))
		if top.visits = l.trim(top.site, top.visits[:len(top.visits)-1]); len(top.visits) > 0 {
			heap.Fix(&rest, 0)
		} else {
			heap.Pop(&rest)
		}
		if err := l.meter.spend(1); err != nil {
			return err
		}
	}
	return nil
}

// trim cuts off the newest visits that are not to be listed.
func (l *visitLister) trim(site int32, h history) history {
	for len(h) > 0 && !l.keeps(site, h[len(h)-1]) {
		h = h[:len(h)-1]
	}
	return h
}

// A head is what is left to list of one site's visits; the last comes next.
type head struct {
	site   int32
	id     sites.SiteID
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
	return cmp.Or(cmp.Compare(b.capture, a.capture), cmp.Compare(s[i].id, s[j].id)) < 0
}
