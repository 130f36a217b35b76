package slow_test

import (
	"context"
	"errors"

	"time"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/inspections/coverage/slow"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// tester is what a testing.T and a rapid.T have in common.
type tester interface {
	ledgertest.TB
	Context() context.Context
	Fatal(...any)
	Fatalf(string, ...any)
}

// A server is what stands above a store in a server: the roster, the check-ins, and
// the follower by which both learn of what other servers have stored.
type server struct {
	name     string
	roster   *sites.Service
	visits   *inspections.Service
	follower *ledger.Follower
	now      func() time.Time
}

// newServer starts a server, which has read all that is stored.
func newServer(tb tester, name string, store ledger.Store, rows *sitestest.MemoryRows, now func() time.Time, newID func() string) *server {
	tb.Helper()
	s := &server{name: name, now: now}
	var err error
	s.roster, err = sites.Open(tb.Context(), sites.Config{Ledger: store, Rows: rows, Now: now, NewID: newID, Zone: time.UTC})
	if err != nil {
		tb.Fatal(err)
	}
	s.visits = inspections.New(inspections.Config{Ledger: store, Roster: s.roster, Now: now})
	s.follower = ledger.NewFollower(store, "", s.roster.Take, s.visits.Take)
	s.catchUp(tb)
	return s
}

// catchUp lets the server learn of all that is stored.
func (s *server) catchUp(tb tester) {
	tb.Helper()
	if err := errors.Join(s.follower.CatchUp(tb.Context()), s.roster.CatchUp(tb.Context())); err != nil {
		tb.Fatal(err)
	}
}

// The three questions, as the service takes them. A list is asked for in pages.

// mostPages is more than any list of a world has.
const mostPages = 1000

var errNoEnd = errors.New("the pages of the list have no end")

func (s *server) report(ctx context.Context, q inspections.Question) (coverage.Report, coverage.Stamp, error) {
	a, err := s.visits.Coverage(ctx, q)
	return a.Report, a.Stamp, err
}

func (s *server) dueSites(ctx context.Context, q inspections.Question, state coverage.State, size int) (list []coverage.SiteStatus, total int64, err error) {
	var after coverage.SiteRef
	for range mostPages {
		page, err := s.visits.DueSites(ctx, q, state, after, size)
		list = append(list, page.Sites...)
		if after = page.Next; err != nil || after == (coverage.SiteRef{}) {
			return list, page.Total, err
		}
	}
	return list, total, errNoEnd
}

func (s *server) checkIns(ctx context.Context, q inspections.Question, f coverage.VisitFilter, size int) (list []*inspections.Stored, err error) {
	var after coverage.VisitRef
	for range mostPages {
		page, err := s.visits.List(ctx, q, f, after, size)
		list = append(list, page.CheckIns...)
		if after = page.Next; err != nil || after == (coverage.VisitRef{}) {
			return list, err
		}
	}
	return list, errNoEnd
}

// states are the states of the index, each with its own in package slow.
var states = map[coverage.State]slow.State{
	coverage.Due: slow.Due, coverage.Done: slow.Inspected, coverage.Overdue: slow.Overdue,
	coverage.NeverInspected: slow.NeverInspected, coverage.FoundOpen: slow.FoundOpen,
}

// plainReport returns the index's report in the form of package slow.
func plainReport(r coverage.Report) slow.Report {
	out := slow.Report{
		Division: string(r.Division), Name: r.Name, Level: r.Level.String(),
		Figures: slow.Figures(r.Figures), LastCapture: r.LastCapture,
	}
	for _, c := range r.Children {
		out.Children = append(out.Children, plainReport(c))
	}
	return out
}

// A dueSite is what a list says of a site. Of orders with equal intervals either may
// be named, so only the interval is compared.
type dueSite struct {
	Site, Number                                  string
	Path                                          []string
	Inspected, Overdue, NeverInspected, FoundOpen bool
	LastCapture, DueSince, OverdueSince           time.Time
	Interval                                      time.Duration
}

func plainSites(list []coverage.SiteStatus) []dueSite {
	var out []dueSite
	for _, s := range list {
		d := dueSite{
			string(s.Site.ID), s.Site.RegistrationNo, nil, s.Inspected, s.Overdue, s.NeverInspected, s.FoundOpen,
			s.LastCapture, s.DueSince, s.OverdueSince, time.Duration(s.Order.Interval),
		}
		for _, code := range s.Path {
			d.Path = append(d.Path, string(code))
		}
		out = append(out, d)
	}
	return out
}

func slowSites(list []slow.SiteStatus) []dueSite {
	var out []dueSite
	for _, s := range list {
		out = append(out, dueSite{
			s.Site.ID, s.Site.RegistrationNo, s.Path, s.Inspected, s.Overdue, s.NeverInspected, s.FoundOpen,
			s.LastCapture, s.DueSince, s.OverdueSince, time.Duration(s.Order.Interval),
		})
	}
	return out
}

// A checkIn is what a list names.
type checkIn struct {
	Captured time.Time
	Site     string
	Sequence ledger.Sequence
	ID       string
}

func plainCheckIns(list []*inspections.Stored) []checkIn {
	var out []checkIn
	for _, c := range list {
		out = append(out, checkIn{c.VisitTime(), string(c.Site), c.Entry.Sequence, string(c.ID)})
	}
	return out
}

func slowCheckIns(list []slow.CheckIn) []checkIn {
	var out []checkIn
	for _, c := range list {
		out = append(out, checkIn{c.Captured, c.Site, c.Sequence, c.ID})
	}
	return out
}
