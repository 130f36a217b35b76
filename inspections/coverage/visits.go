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
	// Capture is when the visit was, by the rules for check-ins; Receive is when the
	// server heard of it.
	Capture, Receive time.Time
	// Open means that the site was found open.
	Open bool
	// SyncedLate is a flag of the check-in's receipt. Whether the site was visited
	// late is no fact of one check-in: it follows from all that are known.
	SyncedLate bool
	// CancelledEvents is 0 to 4,095 and DispersedPeople 0 to 262,143; what lies beyond
	// counts as the nearest of them. A check-in cannot say as much.
	CancelledEvents, DispersedPeople int32
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

// visit is a Visit as it is kept, in 24 bytes: a country has tens of millions of them.
type visit struct {
	capture, receive int64
	sequence         uint32
	report           report
}

// A report is what a check-in says that is counted: whether the site was open, whether
// it was synced late, the cancelled events in 12 bits and the dispersed people in 18.
type report uint32

const (
	reportOpen report = 1 << (31 - iota)
	reportSynced

	cancelledBits = 12
	dispersedBits = 18
)

func compact(w Visit) visit {
	within := func(n int32, bits int) report { return report(min(max(n, 0), 1<<bits-1)) }
	r := within(w.CancelledEvents, cancelledBits)<<dispersedBits | within(w.DispersedPeople, dispersedBits)
	if w.Open {
		r |= reportOpen
	}
	if w.SyncedLate {
		r |= reportSynced
	}
	return visit{capture: nanos(w.Capture), receive: nanos(w.Receive), sequence: uint32(w.Sequence), report: r}
}

func (w visit) open() bool       { return w.report&reportOpen != 0 }
func (w visit) syncedLate() bool { return w.report&reportSynced != 0 }
func (w visit) cancelled() int64 { return int64(w.report >> dispersedBits & (1<<cancelledBits - 1)) }
func (w visit) dispersed() int64 { return int64(w.report & (1<<dispersedBits - 1)) }

func (w visit) compare(o visit) int {
	return cmp.Or(cmp.Compare(w.capture, o.capture), cmp.Compare(o.sequence, w.sequence))
}

// A passing says that a site was visited, and what is often asked about visits: it is the
// site's number with the bits reportOpen and reportSynced of what was reported.
type passing uint32

const passingBits = passing(reportOpen | reportSynced)

func passingOf(site int32, w visit) passing { return passing(site) | passing(w.report)&passingBits }

// site returns the site's number.
func (p passing) site() int32 { return int32(p &^ passingBits) }

// A history is the visits of one site by capture, and of those with the same
// capture the highest sequence first. So it is a list of visits, read backwards.
type history []visit

// with returns the history with w in its place, and whether it was not there yet. The
// history itself stays as it is. Only the newest one that was returned may be added
// to, because a visit that comes last is put into the memory behind it.
func (h history) with(w visit) (history, bool) {
	i := len(h)
	if i > 0 && h[i-1].compare(w) >= 0 {
		var found bool
		if i, found = slices.BinarySearchFunc(h, w, visit.compare); found {
			return h, false
		}
	}
	if n := len(h); i == n && n < cap(h) {
		return append(h, w), true
	}
	// Doubling, as append does, would leave a third of the memory unused.
	n := len(h)
	out := make(history, n+1, n+2+n/8)
	copy(out, h[:i])
	out[i] = w
	copy(out[i+1:], h[i:])
	return out, true
}

// before returns how many visits were captured before t.
func (h history) before(t int64) int {
	// Most questions are about the newest visits, or lie behind all of them.
	n := len(h)
	if n == 0 || h[n-1].capture < t {
		return n
	}
	i, _ := slices.BinarySearchFunc(h, t, func(w visit, t int64) int { return cmp.Compare(w.capture, t) })
	return i
}

// window returns the visits captured in [start, end).
func (h history) window(start, end int64) history {
	h = h[:h.before(end)]
	return h[h.before(start):]
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
