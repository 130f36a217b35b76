package coverage

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"xuncha/sites"
)

// ErrWindow means that a window does not end after its start.
var ErrWindow = errors.New("window does not end after its start")

// How many views are kept: a few dozen, and fewer where the roster is so large
// that their sites would be more than maxStandings. A view takes some 16 bytes
// a site and 88 a place.
const (
	maxViews     = 32
	maxStandings = 600_000
)

// An Index answers from the roster and the visits that it was given. It is
// safe for concurrent use.
type Index struct {
	layout atomic.Pointer[layout] // of the newest roster; written with mu held

	mu     sync.Mutex
	visits map[sites.SiteID]*history // also of sites that the roster does not have yet
	views  []*view                   // of the newest roster, the one asked for last first
}

// New returns an index of an empty roster without visits.
func New() *Index {
	x := &Index{visits: map[sites.SiteID]*history{}}
	x.layout.Store(newLayout(new(sites.Roster)))
	return x
}

// SetRoster makes r the roster by which is counted from now on, unless a newer one
// is. It returns at once; the next question pays for laying the roster out.
func (x *Index) SetRoster(r *sites.Roster) {
	if x.layout.Load().roster == r {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if now := x.layout.Load().roster; now == r || now.Revision() > r.Revision() {
		return
	}
	x.layout.Store(newLayout(r))
	for len(x.views) > 0 {
		x.drop(len(x.views) - 1)
	}
}

// Add adds a visit. Visits may come in any order. One whose site and sequence
// were added before changes nothing. Sequences above 4,294,967,295 cannot be
// told apart from lower ones.
func (x *Index) Add(w Visit) {
	c := compact(w)
	x.mu.Lock()
	defer x.mu.Unlock()
	h, ok := x.visits[w.Site]
	if !ok {
		h = new(history)
		x.visits[w.Site] = h
	}
	if !h.add(c) {
		return
	}
	for i := len(x.views) - 1; i >= 0; i-- {
		if !x.views[i].see(w.Site, *h, c) {
			x.drop(i)
		}
	}
}

// Last returns when the latest visit of the site before a moment was captured.
func (x *Index) Last(site sites.SiteID, before time.Time) (capture time.Time, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h, ok := x.visits[site]
	if !ok {
		return time.Time{}, false
	}
	last, ok := h.last(nanos(before), math.MaxInt64)
	if !ok {
		return time.Time{}, false
	}
	return moment(last), true
}

// newView returns a view of q's window in which nothing is counted yet.
func (x *Index) newView(q Query) (*view, error) {
	if !q.Start.Before(q.End) {
		return nil, fmt.Errorf("%w: %s to %s", ErrWindow, q.Start.Format(time.RFC3339), q.End.Format(time.RFC3339))
	}
	v := &view{
		layout: x.layout.Load(), visits: x.visits, start: nanos(q.Start), end: nanos(q.End),
		known: math.MaxInt64, asOf: min(nanos(q.Now), nanos(q.End)), until: math.MaxInt64,
	}
	if !q.Known.IsZero() {
		v.known = nanos(q.Known)
		v.asOf = min(v.asOf, v.known)
		if q.Roster != v.layout.roster {
			v.layout = newLayout(q.Roster)
		}
	}
	return v, nil
}

// view returns the view that answers q, complete and at q's moment, and with
// x.mu locked unless there is an error.
func (x *Index) view(q Query) (*view, error) {
	v, err := x.newView(q)
	if err != nil {
		return nil, err
	}
	if _, err := v.layout.roster.LastDivision(q.Division, q.End); err != nil {
		return nil, err
	}
	v.layout.once.Do(v.layout.build)
	now := v.asOf
	x.mu.Lock()
	if q.Known.IsZero() {
		v = x.keep(v)
	}
	if v.sites == nil {
		v.sites = make([]standing, len(v.layout.sites))
	}
	// Check-ins get their turn between the steps. Those of a site that is
	// counted already are seen, the others will be found when it is.
	for !v.build() {
		x.mu.Unlock()
		x.mu.Lock()
	}
	v.advance(now)
	return v, nil
}

// keep returns the kept view that answers the same as v, or else keeps v.
func (x *Index) keep(v *view) *view {
	if x.layout.Load() != v.layout {
		return v // the roster changed since the question was asked
	}
	i := slices.IndexFunc(x.views, func(o *view) bool { return o.start == v.start && o.end == v.end })
	switch {
	case i >= 0 && v.asOf < x.views[i].asOf-clockSlack: // the clock was set back
		x.drop(i)
	case i >= 0:
		v = x.views[i]
		copy(x.views[1:i+1], x.views[:i])
		x.views[0] = v
		return v
	}
	v.version = new(atomic.Uint64)
	x.views = slices.Insert(x.views, 0, v)
	for n := len(x.views); n > 1 && (n > maxViews || n*len(v.layout.sites) > maxStandings); n-- {
		x.drop(n - 1)
	}
	return v
}

// drop gives up the kept view i.
func (x *Index) drop(i int) {
	v := x.views[i]
	v.version.Add(1) // no stamp of it is fresh any more
	v.version = nil
	x.views = slices.Delete(x.views, i, i+1)
}
