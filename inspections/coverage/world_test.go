package coverage_test

import (
	"context"
	"fmt"
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
	return w.index
}

// rename changes the roster in a way that no figure shows, and has a question asked.
func (w *world) rename(tb tester, id sites.SiteID, name string) {
	tb.Helper()
	if _, err := w.roster.UpdateSite(tb.Context(), "admin", id, "", sites.SiteUpdate{Name: &name}); err != nil {
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
}

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
