package coverage

import (
	"cmp"
	"math"
	"slices"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

// A Visit is what the index needs of a check-in.
type Visit struct {
	Site     sites.SiteID
	Sequence ledger.Sequence
	// Capture is the phone's time, corrected; Receive is the server's.
	Capture, Receive time.Time
	// Open means that the site was found open.
	Open bool
	// VisitedLate and SyncedLate are flags of the check-in's receipt.
	VisitedLate, SyncedLate bool
	CancelledEvents         int32
	DispersedPeople         int32
}

// Times within the index are nanoseconds since 1970. They are held between
// these, in the years 1823 and 2116, so that a sum or a difference of two
// cannot overflow.
const (
	earliest = math.MinInt64 / 2
	latest   = math.MaxInt64 / 2
)

func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s < earliest/int64(time.Second):
		return earliest
	case s > latest/int64(time.Second):
		return latest
	}
	return t.UnixNano()
}

func moment(n int64) time.Time { return time.Unix(0, n).UTC() }

// visit is a Visit as it is kept: a country has tens of millions of them.
type visit struct {
	capture, receive     int64
	sequence             uint32
	cancelled, dispersed int32
	open, visitedLate    bool
	syncedLate           bool
}

func compact(w Visit) visit {
	return visit{
		capture: nanos(w.Capture), receive: nanos(w.Receive), sequence: uint32(w.Sequence),
		cancelled: w.CancelledEvents, dispersed: w.DispersedPeople,
		open: w.Open, visitedLate: w.VisitedLate, syncedLate: w.SyncedLate,
	}
}

func (w visit) compare(o visit) int {
	return cmp.Or(cmp.Compare(w.capture, o.capture), cmp.Compare(o.sequence, w.sequence))
}

// A history is the visits of one site by capture, and of those with the same
// capture the highest sequence first. So it is a list of visits, read backwards.
type history []visit

// add puts w in its place and reports whether it was not there yet.
func (h *history) add(w visit) bool {
	i := len(*h)
	if i > 0 && (*h)[i-1].compare(w) >= 0 {
		var found bool
		if i, found = slices.BinarySearchFunc(*h, w, visit.compare); found {
			return false
		}
	}
	if n := len(*h); n == cap(*h) {
		// Doubling, as append does, would leave a third of the memory unused.
		*h = append(make(history, 0, n+n/4+2), *h...)
	}
	*h = slices.Insert(*h, i, w)
	return true
}

// before returns how many visits were captured before t.
func (h history) before(t int64) int {
	n, _ := slices.BinarySearchFunc(h, t, func(w visit, t int64) int { return cmp.Compare(w.capture, t) })
	return n
}

// last returns the capture of the latest visit captured before t that was
// received by the time known.
func (h history) last(t, known int64) (capture int64, ok bool) {
	for i := h.before(t) - 1; i >= 0; i-- {
		if h[i].receive <= known {
			return h[i].capture, true
		}
	}
	return 0, false
}
