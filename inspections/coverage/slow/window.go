package slow

import (
	"errors"
	"slices"
	"time"
)

var (
	// ErrWindow means that a window does not end after its start.
	ErrWindow = errors.New("window does not end after its start")
	// ErrDivisionUnknown means that the code never was a division's, as far as is
	// known.
	ErrDivisionUnknown = errors.New("division is unknown")
)

// A Window says how every site stands in the window of time [start, end).
type Window struct {
	facts      *facts
	start, end time.Time
	// asOf is the moment just before which things are judged.
	asOf    time.Time
	counted []standing // by registration number
}

// A standing is a site that is counted: it is due in the window, or has check-ins
// in it, or both.
type standing struct {
	due bool
	// SiteStatus has only Path where the site is not due.
	SiteStatus
	checkIns []CheckIn // those captured in the window
}

// A SiteStatus says how one due site stands.
type SiteStatus struct {
	Site *Site
	// Path is where the site is counted, from the village up to the root.
	Path                                          []string
	Inspected, Overdue, NeverInspected, FoundOpen bool
	// LastCapture is that of the last visit before the as-of moment, in the window or
	// not; zero where there is none.
	LastCapture time.Time
	// DueSince and Order are those of the duty by which the site is judged. Order is
	// the one with the shortest interval.
	DueSince time.Time
	Order    *Order
	// OverdueSince is when the interval had passed; zero where the site is not overdue.
	OverdueSince time.Time
}

// Window looks at all sites in the window [start, end), with the clock at now, as
// was known at a time. A known that is zero, or not before now, means now.
func (w *World) Window(start, end, now, known time.Time) (*Window, error) {
	if !end.After(start) {
		return nil, ErrWindow
	}
	if !known.Before(now) {
		known = time.Time{}
	}
	win := &Window{facts: w.known(known), start: start, end: end, asOf: earlier(now, end)}
	if !known.IsZero() {
		win.asOf = earlier(win.asOf, known)
	}
	for _, s := range win.facts.sites {
		if n := win.judge(s); n.due || len(n.checkIns) > 0 {
			win.counted = append(win.counted, n)
		}
	}
	return win, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// judge says how the site stands.
func (w *Window) judge(s *Site) standing {
	n := standing{SiteStatus: SiteStatus{Site: s}}
	life := w.facts.life(s)

	n.checkIns = w.checkInsOf(s.ID, life)
	var lastInWindow time.Time
	for _, c := range n.checkIns {
		if c.Captured.After(lastInWindow) {
			lastInWindow = c.Captured
		}
	}

	// The site is counted where it stood at its last due moment of the window, or, if
	// it was not due, at its last check-in of the window.
	_, counted, due := lastDue(life, w.start, w.end)
	if !due {
		n.Path = life[stretchAt(life, lastInWindow)].path
		return n
	}
	n.due = true
	n.Path = life[counted].path
	n.Inspected = len(n.checkIns) > 0
	n.FoundOpen = slices.ContainsFunc(n.checkIns, func(c CheckIn) bool { return c.Open })

	// It is judged by the duty at its last due moment of the window before the as-of
	// moment, or, if it becomes due only later, at its last due moment.
	final, judged, begun := lastDue(life, w.start, w.asOf)
	if !begun {
		judged = counted
	}
	d := dutyIn(life, judged)
	n.DueSince, n.Order = d.since, d.strictest

	n.NeverInspected = true
	for _, c := range w.facts.checkIns[s.ID] {
		if c.Captured.Before(w.asOf) {
			if c.Captured.After(n.LastCapture) {
				n.LastCapture = c.Captured
			}
			if !c.Captured.Before(d.since) {
				n.NeverInspected = false
			}
		}
	}

	// It is overdue if it is due just before the as-of moment, and that is more than
	// the interval after the last visit, or after it became due if that was later.
	stillDue := begun && final.Equal(w.asOf.Add(-1))
	base := d.since
	if n.LastCapture.After(base) {
		base = n.LastCapture
	}
	interval := time.Duration(d.strictest.Interval)
	if stillDue && w.asOf.Sub(base) > interval {
		n.Overdue, n.OverdueSince = true, base.Add(interval)
	}
	return n
}

// checkInsOf returns the check-ins of a site with that life that were captured in the
// window.
func (w *Window) checkInsOf(site string, life []stretch) []CheckIn {
	var out []CheckIn
	for _, c := range w.facts.checkIns[site] {
		if during(c.Captured, w.start, w.end) {
			c.VisitedLate = w.facts.visitedLate(life, c)
			out = append(out, c)
		}
	}
	return out
}
