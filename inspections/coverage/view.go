package coverage

import (
	"cmp"
	"container/heap"
	"context"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"xuncha/ledger"
)

// A view is a window of which the figures are kept. They are brought up to date when
// somebody asks for them, from the sites that have changed since.
type view struct {
	start, end, known int64
	// revision is that of the roster by which is counted where the view is of a past
	// one. It is 0 for the newest.
	revision ledger.Sequence

	// lock is taken by whoever brings the figures up to date, and given up by taking
	// it out.
	lock  chan struct{}
	now   *figures // nil before the first question
	turns turns    // when the states of sites may change as time passes

	// The rest is guarded by the index's mu.

	// pending are the sites that have changed since now was made. Where too many have,
	// stale is true instead.
	pending []int32
	stale   bool
	kept    bool
	idle    bool          // has changes that nobody has asked for since the last refresh
	bytes   int           // of memory
	version atomic.Uint64 // changes with whatever changes the figures but time
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

// A turnAt is a moment from which on a site's state may be another.
type turnAt struct {
	at   int64
	site int32
}

// turns is a heap of moments, the next on top. A site may have several, of which all
// but the first are out of date.
type turns []turnAt

func (s turns) Len() int           { return len(s) }
func (s turns) Less(i, j int) bool { return s[i].at < s[j].at }
func (s turns) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *turns) Push(t any)        { *s = append(*s, t.(turnAt)) }
func (s *turns) Pop() any {
	last := len(*s) - 1
	t := (*s)[last]
	*s = (*s)[:last]
	return t
}

// next returns the next moment.
func (s turns) next() int64 {
	if len(s) == 0 {
		return math.MaxInt64
	}
	return s[0].at
}

// acquire takes the view's lock, unless the context ends before.
func (v *view) acquire(ctx context.Context) error {
	select {
	case v.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *view) release() { <-v.lock }

// build counts all sites into f.
func (v *view) build(f *figures, m *meter) error {
	v.turns = v.turns[:0]
	f.counted = f.layout.counts
	for i := range int32(f.layout.sites.len()) {
		s := f.share(i)
		f.count(&s, 1)
		if t := f.turn(i); t < math.MaxInt64 {
			v.turns = append(v.turns, turnAt{t, i})
		}
		if err := m.spend(s.cost()); err != nil {
			return err
		}
	}
	heap.Init(&v.turns)
	return nil
}

// follow makes f, which has no figures yet, of the figures before, where only the
// changed sites and those of which the time has come differ.
func (v *view) follow(before, f *figures, changed []int32, m *meter) error {
	for v.turns.next() <= f.asOf {
		changed = append(changed, heap.Pop(&v.turns).(turnAt).site)
	}
	slices.Sort(changed)
	f.nodes, f.counted = before.nodes.edit(), before.counted
	past := map[int32]struct{}{} // places whose latest visit is no longer known
	for _, i := range slices.Compact(changed) {
		was, is := before.share(i), f.share(i)
		if err := m.spend(was.cost() + is.cost()); err != nil {
			return err
		}
		if t := f.turn(i); t < math.MaxInt64 {
			heap.Push(&v.turns, turnAt{t, i})
		}
		if was == is {
			continue
		}
		f.count(&was, -1)
		f.count(&is, 1)
		if was.CheckIns > 0 && (is.place != was.place || is.last < was.last) {
			for p := was.place; p != 0; p = f.layout.places.ref(p).parent {
				past[p] = struct{}{}
			}
		}
	}
	if err := f.recount(past, m); err != nil {
		return err
	}
	return v.thin(f, m)
}

// recount finds the latest visits of places that a site has left, and the figures of
// places that have got some of their own since.
func (f *figures) recount(past map[int32]struct{}, m *meter) error {
	depth := func(p int32) (n int) {
		for ; p != 0; p = f.layout.places.ref(p).parent {
			n++
		}
		return n
	}
	deepest := slices.SortedFunc(maps.Keys(past), func(a, b int32) int { return cmp.Compare(depth(b), depth(a)) })
	for _, p := range deepest {
		own := f.layout.places.ref(p).own
		if own < 0 || own >= f.counted {
			continue
		}
		// Each of the places below is right by now.
		n, err := f.sum(p, m)
		if err != nil {
			return err
		}
		f.nodes.change(own).last = n.last
	}
	if f.counted == f.layout.counts {
		return nil
	}
	for p := range int32(f.layout.places.len()) {
		own := f.layout.places.ref(p).own
		if own < f.counted {
			continue
		}
		n, err := f.sum(p, m)
		if err != nil {
			return err
		}
		f.nodes.set(own, n)
	}
	f.counted = f.layout.counts
	return nil
}

// thin makes the turns anew where most are out of date.
func (v *view) thin(f *figures, m *meter) error {
	if len(v.turns) <= 2*f.layout.sites.len()+1024 {
		return nil
	}
	v.turns = v.turns[:0]
	for i := range int32(f.layout.sites.len()) {
		if t := f.turn(i); t < math.MaxInt64 {
			v.turns = append(v.turns, turnAt{t, i})
		}
		if err := m.spend(1); err != nil {
			return err
		}
	}
	heap.Init(&v.turns)
	return nil
}
