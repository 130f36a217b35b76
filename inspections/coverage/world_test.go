package coverage_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// A world is a roster that changes, and the index that follows it.
type world struct {
	now     time.Time
	roster  *sites.Service
	index   *coverage.Index
	little  *coverage.Index // follows as well, where it is not nil
	visits  []coverage.Visit
	numbers map[sites.SiteID]ledger.Sequence // of the last visit
}

// tester is what a testing.T and a rapid.T have in common.
type tester interface {
	ledgertest.TB
	Context() context.Context
	Fatal(...any)
}

func newWorld(tb tester, now time.Time) *world {
	tb.Helper()
	w := &world{now: now, index: coverage.New(), numbers: map[sites.SiteID]ledger.Sequence{}}
	ids := 0
	var err error
	w.roster, err = sites.Open(tb.Context(), sites.Config{
		Ledger: ledgertest.New(tb), Rows: new(sitestest.MemoryRows),
		Now:   func() time.Time { return w.now },
		NewID: func() string { ids++; return fmt.Sprintf("id-%06d", ids) },
		Zone:  time.UTC,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// asked returns the index, with the roster by which a question is answered now.
func (w *world) asked() *coverage.Index {
	w.index.SetRoster(w.roster.Roster())
	if w.little != nil {
		w.little.SetRoster(w.roster.Roster())
	}
	return w.index
}

// rename changes the roster in a way that no figure shows, and has a question asked.
func (w *world) rename(tb tester, id sites.SiteID, name string) {
	tb.Helper()
	if _, err := w.roster.UpdateSite(tb.Context(), sites.By{Account: "admin"}, id, "", sites.SiteUpdate{Name: &name}); err != nil {
		tb.Errorf("%v", err)
	}
	w.asked()
}

// visit adds a visit of the site as received now, with its next sequence.
func (w *world) visit(v coverage.Visit) {
	w.numbers[v.Site]++
	v.Sequence, v.Receive = w.numbers[v.Site], w.now
	w.visits = append(w.visits, v)
	w.index.Add(v)
	if w.little != nil {
		w.little.Add(v)
	}
}

// sites returns the sites of the roster, by registration number.
func (w *world) sites() []*sites.Site { return slices.Collect(w.roster.Roster().Sites()) }

func (w *world) site(tb tester, registration string) *sites.Site {
	tb.Helper()
	s, err := w.roster.Roster().SiteByRegistration(registration)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func day(n int) time.Time { return time.Date(2020, 1, n, 0, 0, 0, 0, time.UTC) }

// order returns an order of the divisions, with all that an order needs.
func order(number string, start, end time.Time, every time.Duration, codes ...sites.DivisionCode) sites.ClosureOrder {
	return sites.ClosureOrder{
		Number: number, Title: "Suspension of opening", IssuingAuthority: "Bureau", LegalBasis: "Article 42",
		Divisions: codes, Start: start, End: end, Interval: sites.Duration(every),
	}
}

// report asks for a report.
func report(x *coverage.Index, q coverage.Query) (coverage.Report, coverage.Stamp, error) {
	a, err := x.Report(context.Background(), q)
	return a.Report, a.Stamp, err
}

// dueSites asks for a list, page by page, of which each says how long the list is.
func dueSites(x *coverage.Index, q coverage.Query, state coverage.State, size int) ([]coverage.SiteStatus, error) {
	var out []coverage.SiteStatus
	var after coverage.SiteRef
	for {
		page, err := x.Sites(context.Background(), q, state, after, size)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Sites...)
		if after = page.Next; after != (coverage.SiteRef{}) {
			if len(page.Sites) != size {
				return nil, fmt.Errorf("a page has %d sites, and another follows", len(page.Sites))
			}
			continue
		}
		if page.Total != int64(len(out)) {
			return nil, fmt.Errorf("the pages have %d sites, and say that there are %d", len(out), page.Total)
		}
		return out, nil
	}
}

// visits asks for a page of check-ins.
func visits(x *coverage.Index, q coverage.Query, f coverage.VisitFilter, after coverage.VisitRef, n int) ([]coverage.VisitRef, error) {
	out, _, err := x.Visits(context.Background(), q, f, after, n)
	return out, err
}
