package sites_test

import (
	"context"
	"errors"
	"testing"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
)

// aside appends a repair that sets aside the entry of the roster's history.
func (w *world) aside(t *testing.T, q ledger.Sequence) {
	t.Helper()
	there, err := w.store.Span(t.Context(), ledger.Roster, q-1, 1)
	if err != nil || len(there) != 1 {
		t.Fatal(there, err)
	}
	content, err := ledger.Repair{SetAside: []ledger.Aside{ledger.AsideOf(there[0])}, Reason: "test"}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.store.Append(t.Context(), ledger.Draft{
		History: ledger.Roster, ID: "repair", Kind: ledger.KindRepaired, Time: there[0].Time, Account: "operator", Content: content,
	}); err != nil {
		t.Fatal(err)
	}
}

// alter changes a bit of the entry of the roster's history.
func (w *world) alter(q ledger.Sequence) {
	ledgertest.Alter(w.store.Memory, ledger.Roster, func(entries []ledger.Entry) []ledger.Entry {
		e := entries[q-1]
		e.Record[len(e.Record)-20] ^= 1
		return entries
	})
}

// A roster whose history was altered is what stood before, takes no changes, and goes
// on once a repair has set the entry aside.
func TestAlteredRoster(t *testing.T) {
	w := filled(t)
	before := w.Roster().Revision()
	if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "一号", "2020-02-01")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "二号", "2020-03-01")); err != nil {
		t.Fatal(err)
	}
	altered := before + 1
	w.alter(altered)
	s := w.open(t)
	if got := s.Roster(); got.Revision() != before || got.NumSites() != 85 || len(got.Orders()) != 0 {
		t.Errorf("got revision %d with %d sites and %d orders, want what stood before at %d", got.Revision(), got.NumSites(), len(got.Orders()), before)
	}
	var fault *ledger.AlteredError
	if _, err := s.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "三号", "2020-04-01")); !errors.As(err, &fault) || fault.Sequence != altered {
		t.Errorf("a change: got %v, want the fault at %d", err, altered)
	}
	w.aside(t, altered)
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.Roster(); got.Revision() != altered+2 || len(got.Orders()) != 1 {
		t.Errorf("after the repair: revision %d with %d orders, want %d with one", got.Revision(), len(got.Orders()), altered+2)
	}
	if _, err := s.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "三号", "2020-04-01")); err != nil {
		t.Errorf("a change after the repair: %v", err)
	}
	if got, err := s.RosterKnown(t.Context(), s.Roster().Time()); err != nil || len(got.Orders()) != 2 {
		t.Errorf("the roster as it is known: %v", err)
	}
	fresh := w.open(t)
	if got := fresh.Roster(); got.Revision() != altered+3 || len(got.Orders()) != 2 {
		t.Errorf("another start: revision %d with %d orders", got.Revision(), len(got.Orders()))
	}
}

// Rows are stored beside the entry that names them. Where they are gone or changed, that
// entry is at fault, and not the start of the server.
func TestAlteredRows(t *testing.T) {
	w := filled(t)
	c := w.config()
	c.Rows = lostRows{}
	c.Altered = new(ledger.Alterations)
	s, err := sites.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if s.Roster().Revision() != 0 || !c.Altered.At(ledger.Roster, 1) {
		t.Errorf("got revision %d and %v, want an empty roster and a fault at 1", s.Roster().Revision(), c.Altered.All())
	}
}

// lostRows have lost all that was stored in them.
type lostRows struct{}

func (lostRows) PutRows(context.Context, string, []byte) error { return nil }

func (lostRows) Rows(context.Context, string) ([]byte, error) { return nil, sites.ErrRowsUnknown }
