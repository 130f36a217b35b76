package ledger_test

import (
	"errors"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
)

// TestGuard ensures that nothing is added to a history that does not verify, that what
// is in it is found all the same, and that others go on.
func TestGuard(t *testing.T) {
	altered := new(ledger.Alterations)
	s := ledger.Guard(ledgertest.New(t), altered)
	draft := func(h ledger.History, id string) ledger.Draft {
		return ledger.Draft{History: h, ID: id, Kind: "k", Time: time.Unix(1, 0), Account: "a", Content: []byte(`{}`)}
	}
	for _, id := range []string{"1", "2"} {
		if _, _, err := s.Append(t.Context(), draft("site/a", id)); err != nil {
			t.Fatal(err)
		}
	}
	altered.Add(ledger.Fault{History: "site/a", Sequence: 2, Why: "it was changed"})
	for _, id := range []string{"2", "3"} {
		if e, existed, err := s.Append(t.Context(), draft("site/a", id)); !errors.Is(err, ledger.ErrAltered) {
			t.Errorf("the id %s: got %+v, %v, %v, want ErrAltered", id, e, existed, err)
		}
	}
	if e, existed, err := s.Append(t.Context(), draft("site/a", "1")); err != nil || !existed || e.Sequence != 1 {
		t.Errorf("the entry that verifies: got %+v, %v, %v", e, existed, err)
	}
	if _, err := s.AppendAfter(t.Context(), 2, draft("site/a", "4")); !errors.Is(err, ledger.ErrAltered) {
		t.Errorf("AppendAfter: got %v, want ErrAltered", err)
	}
	if all, err := s.Span(t.Context(), "site/a", 0, 10); err != nil || len(all) != 2 {
		t.Errorf("got %d entries, %v, want 2", len(all), err)
	}
	if _, _, err := s.Append(t.Context(), draft("site/b", "1")); err != nil {
		t.Errorf("another history: %v", err)
	}
	altered.Clear("site/a")
	if _, _, err := s.Append(t.Context(), draft("site/a", "3")); err != nil {
		t.Errorf("once it verifies again: %v", err)
	}
}
