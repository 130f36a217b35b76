package ledgertest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"xuncha/ledger"
)

func testAppendAfter[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	var head ledger.Head
	var want []ledger.Entry
	for _, id := range []string{"a", "b", "c"} {
		d := draft(ledger.Roster, id)
		sealed := head.Seal(d)
		e, err := s.AppendAfter(t.Context(), head.Sequence, d)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, e, sealed)
		want = append(want, sealed)
		head = sealed.Head()
		clear(d.Content)
		clear(e.Record)
	}
	wantAllEqual(t, mustHistory(t, s, ledger.Roster), want)
	early := draft(ledger.Roster, "early")
	early.Time = head.Time.Add(-time.Hour)
	s = h.Reopen(t, s)
	if e, err := s.AppendAfter(t.Context(), 3, early); err != nil || !e.Time.Equal(head.Time) {
		t.Errorf("a time before the newest entry's: got %v, %v, want %v", e.Time, err, head.Time)
	}
}

// refuse wants an entry to be refused after the sequence.
func refuse(t *testing.T, s ledger.Store, after ledger.Sequence, id string) {
	t.Helper()
	if _, err := s.AppendAfter(t.Context(), after, draft(ledger.Roster, id)); !errors.Is(err, ledger.ErrMoved) {
		t.Errorf("after %d: got %v, want ErrMoved", after, err)
	}
}

func mustAppendAfter(t *testing.T, s ledger.Store, after ledger.Sequence, id string) ledger.Entry {
	t.Helper()
	e, err := s.AppendAfter(t.Context(), after, draft(ledger.Roster, id))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func testMoved[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	refuse(t, s, 1, "too early")
	first := mustAppendAfter(t, s, 0, "first")
	refuse(t, s, 0, "too late")
	refuse(t, s, 2, "too early")
	second := mustAppendAfter(t, s, 1, "too late")
	wantAllEqual(t, mustHistory(t, s, ledger.Roster), []ledger.Entry{first, second})
	s = h.Reopen(t, s)
	refuse(t, s, 1, "late")
	mustAppendAfter(t, s, 2, "next")
}

func testRace[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	for after := range ledger.Sequence(20) {
		won := make([]ledger.Entry, 2)
		errs := make([]error, 2)
		atOnce(2, func(i int) {
			won[i], errs[i] = s.AppendAfter(t.Context(), after, draft(ledger.Roster, fmt.Sprintf("%d of writer %d", after, i)))
		})
		winner := slices.Index(errs, nil)
		if winner < 0 || !errors.Is(errs[1-winner], ledger.ErrMoved) {
			t.Fatalf("after %d: got %v, want one winner and one ErrMoved", after, errs)
		}
		got := mustHistory(t, s, ledger.Roster)
		if len(got) != int(after)+1 {
			t.Fatalf("got %d entries, want %d", len(got), after+1)
		}
		wantEqual(t, got[after], won[winner])
	}
}

func testSameID[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	mustAppendAfter(t, s, 0, "a")
	refuse(t, s, 1, "a")
	mustAppendAfter(t, s, 1, "b")
	if got := mustHistory(t, s, ledger.Roster); len(got) != 2 {
		t.Errorf("got %d entries, want 2", len(got))
	}
}

// Both ways of appending see what the other has stored.
func testBesideAppend[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	mustAppend(t, s, draft(ledger.Roster, "a"))
	refuse(t, s, 0, "b")
	mustAppendAfter(t, s, 1, "b")
	mustAppend(t, s, draft(ledger.Roster, "c"))
	if _, existed, err := s.Append(t.Context(), draft(ledger.Roster, "b")); err != nil || !existed {
		t.Errorf("existed %v, error %v", existed, err)
	}
	mustAppendAfter(t, s, 3, "d")
	if got := mustHistory(t, s, ledger.Roster); len(got) != 4 {
		t.Errorf("got %d entries, want 4", len(got))
	}
}
