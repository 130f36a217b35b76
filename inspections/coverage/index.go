package coverage

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"

	"xuncha/ledger"
	"xuncha/sites"
)

// limits are what the index keeps at most. Tests set lower ones.
type limits struct {
	// views is how many views are kept: those of a few months, day by day. viewBytes is
	// how much memory they take in all. In a country the view of a past day takes a
	// third of a megabyte, and one whose end is to come takes seven times as much.
	views, viewBytes int
	// pending is how many changes a view notes beside one for every fourth site, before
	// it is made anew.
	pending int
	// layouts is how many layouts of past rosters are kept.
	layouts int
	// refresh is after how many visits the views let go of what they hold of the past.
	refresh int
	few
}

// standard are the limits of every index but those of tests.
var standard = limits{views: 128, viewBytes: 64 << 20, pending: 4096, layouts: 4, refresh: 4096, few: few{places: 4096, sites: 16}}

// nodeBytes and turnBytes are the memory of one each.
const (
	nodeBytes = 104
	turnBytes = 16
)

// An Index answers from the roster and the visits that it was given. It is
// safe for concurrent use. To add a visit never waits for a question.
type Index struct {
	roster atomic.Pointer[sites.Roster] // the newest one
	layout atomic.Pointer[layout]       // of the newest roster asked about; written with mu held

	// layouting is taken by whoever makes a layout.
	layouting chan struct{}
	past      []*layout // of past rosters, the one asked for last first; guarded by layouting

	limits limits
	// heavy has a place for each heavy question that may run at once.
	heavy chan struct{}
	yield func()

	// mu is held for some microseconds at most.
	mu      sync.Mutex
	numbers map[sites.SiteID]int32
	ids     []sites.SiteID              // by number
	visits  vector[history]             // by number; also of sites that the roster does not have yet
	minutes btree.Map[int64, []passing] // what was visited in each minute since 1970, as it came
	views   []*view                     // the one asked for last first
	added   int                         // visits since the views were last refreshed
}

// New returns an index of an empty roster without visits.
func New() *Index {
	x := &Index{
		layouting: make(chan struct{}, 1), heavy: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		limits: standard, yield: runtime.Gosched, numbers: map[sites.SiteID]int32{},
	}
	x.roster.Store(new(sites.Roster))
	x.layout.Store(noLayout())
	return x
}

// OnStep has f called between the steps of long questions, instead of letting others
// have their turn. It is for tests, and must be called before any question.
func (x *Index) OnStep(f func()) { x.yield = f }

// SetRoster makes r the roster by which is counted from now on, unless a newer one
// is. It returns at once; the next question pays for laying out what has changed.
func (x *Index) SetRoster(r *sites.Roster) {
	for {
		now := x.roster.Load()
		if now == r || now.Revision() >= r.Revision() {
			return
		}
		if x.roster.CompareAndSwap(now, r) {
			break
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, v := range x.views {
		if v.revision == 0 {
			v.version.Add(1)
		}
	}
}

// number returns the site's number, by which the index knows it. The caller holds mu.
func (x *Index) number(id sites.SiteID) int32 {
	i, ok := x.numbers[id]
	if !ok {
		i = int32(len(x.ids))
		x.numbers[id] = i
		x.ids = append(x.ids, id)
	}
	return i
}

const minute = int64(time.Minute)

// minuteOf returns the minute since 1970 in which t lies.
func minuteOf(t int64) int64 {
	m := t / minute
	if t < m*minute {
		m--
	}
	return m
}

// Add adds a visit. Visits may come in any order. One whose site and sequence
// were added before changes nothing. Sequences above 4,294,967,295 cannot be
// told apart from lower ones.
func (x *Index) Add(w Visit) {
	c := compact(w)
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.number(w.Site)
	h, fresh := x.visits.at(i).with(c)
	if !fresh {
		return
	}
	x.visits.set(i, h)
	x.added++
	in := minuteOf(c.capture)
	list, _ := x.minutes.Get(in)
	x.minutes.Set(in, append(list, passingOf(i, c)))
	for _, v := range x.views {
		if c.capture < v.end && c.receive <= v.known && x.layout.Load().ofSite(i).site != nil {
			x.note(v, i)
		}
	}
}

// Remove takes a visit back, whose entry was set aside. One that is not there changes
// nothing.
func (x *Index) Remove(site sites.SiteID, q ledger.Sequence) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, ok := x.numbers[site]
	if !ok {
		return
	}
	h := x.visits.at(i)
	at := slices.IndexFunc(h, func(w visit) bool { return w.sequence == uint32(q) })
	if at < 0 {
		return
	}
	c := h[at]
	// Whoever answers a question just now has the lists as they are.
	x.visits.set(i, slices.Concat(h[:at], h[at+1:]))
	in := minuteOf(c.capture)
	list, _ := x.minutes.Get(in)
	if m := slices.Index(list, passingOf(i, c)); m >= 0 {
		list = slices.Concat(list[:m], list[m+1:])
	}
	if x.minutes.Set(in, list); len(list) == 0 {
		x.minutes.Delete(in)
	}
	for _, v := range x.views {
		if c.capture < v.end && c.receive <= v.known && x.layout.Load().ofSite(i).site != nil {
			x.note(v, i)
		}
	}
}

// note notes that a site of the view has changed. The caller holds mu.
func (x *Index) note(v *view, site int32) {
	v.version.Add(1)
	switch n := len(v.pending); {
	case v.stale || n > 0 && v.pending[n-1] == site:
	case n >= x.limits.pending+len(x.ids)/4:
		v.pending, v.stale = nil, true
	default:
		v.pending = append(v.pending, site)
	}
}

// Last returns when the latest visit of the site before a moment was captured.
func (x *Index) Last(site sites.SiteID, before time.Time) (capture time.Time, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, ok := x.numbers[site]
	if !ok {
		return time.Time{}, false
	}
	last, ok := x.visits.at(i).last(nanos(before), math.MaxInt64)
	if !ok {
		return time.Time{}, false
	}
	return moment(last), true
}

// acquireLayouting lets the caller make a layout, unless the context ends before.
func (x *Index) acquireLayouting(ctx context.Context) error {
	select {
	case x.layouting <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newest returns the layout of the newest roster.
func (x *Index) newest(m *meter) (*layout, error) {
	r := x.roster.Load()
	if l := x.layout.Load(); l.roster == r {
		return l, nil
	}
	if err := x.acquireLayouting(m.ctx); err != nil {
		return nil, err
	}
	defer func() { m.rest(); <-x.layouting }()
	return x.layOutNewest(m)
}

// layOutNewest is newest for whoever has acquired layouting.
func (x *Index) layOutNewest(m *meter) (*layout, error) {
	r, l := x.roster.Load(), x.layout.Load()
	if l.roster == r {
		return l, nil
	}
	next, changed, err := x.layOut(l, r, l.revision(), m)
	if err != nil {
		return nil, err
	}
	x.keepLayout(l)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.layout.Store(next)
	for _, v := range x.views {
		if v.revision != 0 {
			continue
		}
		if v.version.Add(1); len(changed) > x.limits.pending {
			v.pending, v.stale = nil, true
			continue
		}
		for _, i := range changed {
			x.note(v, i)
		}
	}
	return next, nil
}

// layOut makes the layout of the roster r of another one. The sites that have changed
// are those that the later of the two rosters says were touched since the revision of
// the earlier one.
func (x *Index) layOut(from *layout, r *sites.Roster, since ledger.Sequence, m *meter) (*layout, []int32, error) {
	later := r
	if from.revision() > since {
		later = from.roster
	}
	next := from.relayoutFor(r, x.limits.few)
	var changed []int32
	one := func(id sites.SiteID, s *sites.Site) error {
		x.mu.Lock()
		i := x.number(id)
		x.mu.Unlock()
		next.site(i, s)
		changed = append(changed, i)
		return m.spend(8) // it takes as long as to count that many
	}
	if since == 0 && later == r { // all, in the order that takes the least time
		next.whole = true
		for s := range r.Sites() {
			if err := one(s.ID, s); err != nil {
				return nil, nil, err
			}
		}
		next.settleAll()
		return next.layout, changed, nil
	}
	for id := range later.Touched(since) {
		s, err := r.Site(id)
		if err != nil {
			s = nil // it was registered later
		}
		if err := one(id, s); err != nil {
			return nil, nil, err
		}
	}
	return next.layout, changed, nil
}

// keepLayout keeps a layout of a past roster. The caller has acquired layouting.
func (x *Index) keepLayout(l *layout) {
	x.past = slices.Insert(x.past, 0, l)
	if len(x.past) > x.limits.layouts {
		x.past = slices.Delete(x.past, x.limits.layouts, len(x.past))
	}
}

// layoutOf returns the layout of a past roster, of which newest is a later version.
func (x *Index) layoutOf(r *sites.Roster, m *meter) (*layout, error) {
	if err := x.acquireLayouting(m.ctx); err != nil {
		return nil, err
	}
	defer func() { m.rest(); <-x.layouting }()
	newest, err := x.layOutNewest(m)
	if err != nil || newest.revision() == r.Revision() {
		return newest, err
	}
	if i := slices.IndexFunc(x.past, func(l *layout) bool { return l.revision() == r.Revision() }); i >= 0 {
		l := x.past[i]
		x.past = slices.Insert(slices.Delete(x.past, i, i+1), 0, l)
		return l, nil
	}
	l, _, err := x.layOut(newest, r, r.Revision(), m)
	if err == nil {
		x.keepLayout(l)
	}
	return l, err
}

// figures returns the figures that answer q, and a stamp that tells how long they do.
func (x *Index) figures(q Query, m *meter) (*figures, Stamp, error) {
	if err := q.Check(); err != nil {
		return nil, Stamp{}, err
	}
	defer m.rest()
	l, err := x.newest(m)
	v := &view{start: nanos(q.Start), end: nanos(q.End), known: math.MaxInt64, lock: make(chan struct{}, 1), kept: true}
	if err == nil && !q.Known.IsZero() {
		v.known = nanos(q.Known)
		v.revision = q.Roster.Revision()
		l, err = x.layoutOf(q.Roster, m)
	}
	if err != nil {
		return nil, Stamp{}, err
	}
	if _, err := l.roster.LastDivision(q.Division, q.End); err != nil {
		return nil, Stamp{}, err
	}
	m.rest()
	v = x.keep(v)
	if err := v.acquire(m.ctx); err != nil {
		return nil, Stamp{}, err
	}
	defer func() { m.rest(); v.release() }()
	return x.bring(v, l, min(nanos(q.Now), v.end, v.known), m)
}

// keep returns the kept view of the same window, or else keeps v.
func (x *Index) keep(v *view) *view {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := slices.IndexFunc(x.views, func(o *view) bool {
		return o.start == v.start && o.end == v.end && o.known == v.known && o.revision == v.revision
	})
	if i >= 0 {
		v = x.views[i]
		copy(x.views[1:i+1], x.views[:i])
		x.views[0] = v
		return v
	}
	x.views = slices.Insert(x.views, 0, v)
	x.trim()
	return v
}

// bring brings the view up to date, as of a moment. The layout is that of a past
// roster where the view is of one. The caller has the view's lock.
func (x *Index) bring(v *view, past *layout, asOf int64, m *meter) (*figures, Stamp, error) {
	before := v.now
	if before != nil && asOf < before.asOf-clockSlack {
		before = nil // the clock was set back
	}
	if before != nil {
		asOf = max(asOf, before.asOf)
	}
	x.mu.Lock()
	f := &figures{layout: x.layout.Load(), visits: x.visits.share(), start: v.start, end: v.end, known: v.known, asOf: asOf}
	if v.revision != 0 {
		f.layout = past
	}
	changed, stale, seen, kept := v.pending, v.stale, v.version.Load(), v.kept
	// A newer roster may have come since the question had its layout.
	lasts := kept && v.revision == 0 && f.layout.roster == x.roster.Load()
	v.pending, v.stale, v.idle = nil, false, false
	x.mu.Unlock()

	var err error
	if before == nil || stale || !kept { // nothing is noted of a view that was given up
		err = v.build(f, m)
	} else if len(changed) == 0 && v.turns.next() > asOf { // all else has changed nothing here
		f.nodes, f.counted = before.nodes, before.counted
	} else {
		err = v.follow(before, f, changed, m)
	}
	if err != nil {
		x.mu.Lock()
		v.pending, v.stale = nil, true
		x.mu.Unlock()
		return nil, Stamp{}, err
	}
	v.now = f
	x.limit(v, int(f.counted)*nodeBytes+cap(v.turns)*turnBytes)
	if !lasts {
		return f, Stamp{}, nil
	}
	return f, Stamp{version: &v.version, seen: seen, from: f.asOf - clockSlack, until: v.turns.next()}, nil
}

// limit notes how much memory a view takes, and gives up those asked for longest ago
// where they are too many. The caller has the view's lock.
func (x *Index) limit(v *view, bytes int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	v.bytes = bytes
	x.trim()
	if x.added > x.limits.refresh+len(x.ids)/4 {
		x.added = 0
		x.refresh()
	}
}

// trim gives up views where they are too many. The caller holds mu.
func (x *Index) trim() {
	bytes := 0
	for i, v := range x.views {
		bytes += v.bytes
		if i > 0 && (i >= x.limits.views || bytes > x.limits.viewBytes) {
			for _, v := range x.views[i:] {
				v.kept = false
				v.version.Add(1) // no stamp of it is fresh any more
			}
			x.views = slices.Delete(x.views, i, len(x.views))
			return
		}
	}
}

// refresh lets the views that nobody is asking have today's visits and layout, because
// they hold on to the memory of what has been replaced since. Of a view for which nothing
// is noted, nothing that it counts has changed. One that has changed, and was not asked
// for since the last refresh, is made anew if somebody asks for it again. The caller holds
// mu.
func (x *Index) refresh() {
	visits := x.visits.share()
	for _, v := range x.views {
		select {
		case v.lock <- struct{}{}:
		default:
			continue
		}
		switch {
		case v.now == nil:
		case len(v.pending) == 0 && !v.stale:
			now := *v.now
			now.visits = visits
			if v.revision == 0 {
				now.layout = x.layout.Load()
			}
			v.now = &now
		case v.idle:
			v.now, v.pending, v.stale = nil, nil, true
		default:
			v.idle = true
		}
		v.release()
	}
}

// Check returns what is wrong with the question's window.
func (q *Query) Check() error {
	span := func() string {
		return fmt.Sprintf("%s to %s", q.Start.Format(time.RFC3339), q.End.Format(time.RFC3339))
	}
	switch {
	case !q.Start.Before(q.End):
		return fmt.Errorf("%w: %s", ErrWindow, span())
	case q.End.Sub(q.Start) > MaxWindow:
		return fmt.Errorf("%w: %s is more than %d days", ErrWindowTooLong, span(), MaxWindow/(24*time.Hour))
	}
	return nil
}
