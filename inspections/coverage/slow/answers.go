package slow

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Figures are what is counted of a division.
type Figures struct {
	SitesDue, SitesInspected, SitesOverdue, SitesNeverInspected, SitesFoundOpen int64
	CheckIns, VisitedLate, SyncedLate                                           int64
	CancelledEvents, DispersedPeople                                            int64
}

// A Report is the row of a division, with those of its children by code.
type Report struct {
	Division string
	// Name and Level are those at the window's last moment.
	Name, Level string
	Figures
	// LastCapture is the latest capture of the check-ins; zero without any.
	LastCapture time.Time
	Children    []Report
}

// Report returns the figures of the division and, down to the depth, of those below
// it.
func (w *Window) Report(division string, depth int) (Report, error) {
	if err := w.knows(division); err != nil {
		return Report{}, err
	}
	return w.row([]string{division}, depth), nil
}

func (w *Window) knows(division string) error {
	if len(w.facts.divisions[division]) == 0 {
		return fmt.Errorf("%s: %w", division, ErrDivisionUnknown)
	}
	return nil
}

// row returns the row of the last division of the line, which leads down to it from
// the division asked about. It counts the sites that are counted under the whole
// line. So a division that got another parent in the window has a row under each,
// and the rows of the children add up to that of their parent.
func (w *Window) row(line []string, depth int) Report {
	code := line[len(line)-1]
	lastMoment := w.end.Add(-1)
	v, _ := w.facts.division(code, lastMoment)
	r := Report{Division: code, Name: v.name, Level: v.level}
	children := w.facts.children(code, lastMoment)
	for _, n := range w.counted {
		if !under(n.Path, line) {
			continue
		}
		r.count(n)
		if i := slices.Index(n.Path, code); i > 0 {
			children = append(children, n.Path[i-1])
		}
	}
	if depth == 0 {
		return r
	}
	slices.Sort(children)
	for _, child := range slices.Compact(children) {
		r.Children = append(r.Children, w.row(append(slices.Clone(line), child), depth-1))
	}
	return r
}

// under reports whether the path, which leads up, has the line, which leads down.
func under(path, line []string) bool {
	at := slices.Index(path, line[0])
	for _, code := range line {
		if at < 0 || path[at] != code {
			return false
		}
		at--
	}
	return true
}

// count adds a site to the row.
func (r *Report) count(n standing) {
	add := func(figure *int64, is bool) {
		if is {
			*figure++
		}
	}
	add(&r.SitesDue, n.due)
	add(&r.SitesInspected, n.Inspected)
	add(&r.SitesOverdue, n.Overdue)
	add(&r.SitesNeverInspected, n.NeverInspected)
	add(&r.SitesFoundOpen, n.FoundOpen)
	for _, c := range n.checkIns {
		r.CheckIns++
		add(&r.VisitedLate, c.VisitedLate)
		add(&r.SyncedLate, c.SyncedLate)
		r.CancelledEvents += c.CancelledEvents
		r.DispersedPeople += c.DispersedPeople
		if c.Captured.After(r.LastCapture) {
			r.LastCapture = c.Captured
		}
	}
}

// A State is one of the figures of sites.
type State string

// The states, each with the figure that counts it.
const (
	Due            State = "due"       // SitesDue
	Inspected      State = "inspected" // SitesInspected
	Overdue        State = "overdue"   // SitesOverdue
	NeverInspected State = "never"     // SitesNeverInspected
	FoundOpen      State = "open"      // SitesFoundOpen
)

func (s SiteStatus) is(state State) bool {
	switch state {
	case Due:
		return true
	case Inspected:
		return s.Inspected
	case Overdue:
		return s.Overdue
	case NeverInspected:
		return s.NeverInspected
	case FoundOpen:
		return s.FoundOpen
	}
	panic("no state: " + state)
}

// DueSites returns the due sites behind a figure of the division, by village, then
// registration number.
func (w *Window) DueSites(division string, state State) ([]SiteStatus, error) {
	if err := w.knows(division); err != nil {
		return nil, err
	}
	var out []SiteStatus
	for _, n := range w.counted {
		if n.due && n.is(state) && slices.Contains(n.Path, division) {
			out = append(out, n.SiteStatus)
		}
	}
	slices.SortFunc(out, func(a, b SiteStatus) int {
		return cmp.Or(cmp.Compare(a.Path[0], b.Path[0]), cmp.Compare(a.Site.RegistrationNo, b.Site.RegistrationNo))
	})
	return out, nil
}

// A Filter narrows a list of check-ins. Its zero value keeps all.
type Filter struct {
	// Site, where it is not empty, keeps those of one site. Then the division can be
	// empty: it does not matter where the site is counted, nor whether it is on the
	// roster.
	Site string
	// Each of these that is true keeps those of which it is true.
	Open, VisitedLate, SyncedLate bool
}

// CheckIns returns the check-ins behind the figure CheckIns of the division, or of
// one site in it: the newest capture first, of equal ones by site id, then by sequence.
func (w *Window) CheckIns(division string, f Filter) ([]CheckIn, error) {
	var all []CheckIn
	if division == "" && f.Site != "" {
		all = w.checkInsOf(f.Site, w.lifeOf(f.Site))
	} else if err := w.knows(division); err != nil {
		return nil, err
	} else {
		for _, n := range w.counted {
			if slices.Contains(n.Path, division) && (f.Site == "" || f.Site == n.Site.ID) {
				all = append(all, n.checkIns...)
			}
		}
	}
	var out []CheckIn
	for _, c := range all {
		if (c.Open || !f.Open) && (c.VisitedLate || !f.VisitedLate) && (c.SyncedLate || !f.SyncedLate) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b CheckIn) int {
		return cmp.Or(b.Captured.Compare(a.Captured), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Sequence, b.Sequence))
	})
	return out, nil
}

// lifeOf returns the life of the site; none where it is not on the roster.
func (w *Window) lifeOf(site string) []stretch {
	for _, s := range w.facts.sites {
		if s.ID == site {
			return w.facts.life(s)
		}
	}
	return nil
}
