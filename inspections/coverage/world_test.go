package coverage_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
)

// memoryStore keeps a roster's history in memory.
type memoryStore struct {
	head    ledger.Head
	entries []ledger.Entry
	rows    map[string][]byte
}

func (m *memoryStore) AppendAfter(_ context.Context, after ledger.Sequence, d ledger.Draft) (ledger.Entry, error) {
	if after != m.head.Sequence {
		return ledger.Entry{}, ledger.ErrMoved
	}
	e := m.head.Seal(d)
	m.head = e.Head()
	m.entries = append(m.entries, e)
	return e, nil
}

func (m *memoryStore) RosterEntries(_ context.Context, after ledger.Sequence, n int) ([]ledger.Entry, error) {
	rest := m.entries[min(int(after), len(m.entries)):]
	return rest[:min(n, len(rest))], nil
}

func (m *memoryStore) PutRows(_ context.Context, sum string, rows []byte) error {
	m.rows[sum] = slices.Clone(rows)
	return nil
}

func (m *memoryStore) Rows(_ context.Context, sum string) ([]byte, error) {
	if b, ok := m.rows[sum]; ok {
		return b, nil
	}
	return nil, sites.ErrRowsUnknown
}

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
	Helper()
	Context() context.Context
	Fatal(...any)
}

func newWorld(tb tester, now time.Time) *world {
	tb.Helper()
	w := &world{now: now, index: coverage.New(), numbers: map[sites.SiteID]ledger.Sequence{}}
	ids := 0
	var err error
	w.roster, err = sites.Open(tb.Context(), sites.Config{
		Store: &memoryStore{rows: map[string][]byte{}},
		Now:   func() time.Time { return w.now },
		NewID: func() string { ids++; return fmt.Sprintf("id-%06d", ids) },
		Zone:  time.UTC,
	})
	if err != nil {
		tb.Fatal(err)
	}
	w.roster.Observe(w.index.SetRoster)
	return w
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
