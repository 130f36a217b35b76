package ledgertest

import (
	"errors"
	"fmt"
	"testing"

	"xuncha/ledger"
)

// mustHeads returns the store's histories in the order in which Heads has them.
func mustHeads(t *testing.T, s ledger.Store) (names []ledger.History, heads map[ledger.History]ledger.Head) {
	t.Helper()
	heads = map[ledger.History]ledger.Head{}
	err := s.Heads(t.Context(), func(h ledger.History, head ledger.Head) error {
		names = append(names, h)
		heads[h] = head
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, heads
}

// mustSpan reads a whole history, some entries at a time, and checks its chain.
func mustSpan(t *testing.T, s ledger.Store, h ledger.History, n int) (all []ledger.Entry) {
	t.Helper()
	var head ledger.Head
	for {
		page, err := s.Span(t.Context(), h, head.Sequence, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if head, err = head.Follow(e); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, page...)
		if len(page) < n {
			return all
		}
	}
}

func testHeads[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	if names, _ := mustHeads(t, s); len(names) != 0 {
		t.Errorf("an empty store has the histories %v", names)
	}
	want := map[ledger.History][]ledger.Entry{}
	for i := range 7 {
		e := mustAppend(t, s, draft(site, fmt.Sprint(i)))
		want[e.History] = append(want[e.History], e)
	}
	e := mustAppend(t, s, draft(other, "0"))
	want[e.History] = append(want[e.History], e)
	d := draft(site, "roster")
	d.History = ledger.Roster
	e, err := s.AppendAfter(t.Context(), 0, d)
	if err != nil {
		t.Fatal(err)
	}
	want[e.History] = append(want[e.History], e)
	for range 2 {
		names, heads := mustHeads(t, s)
		if got, want := fmt.Sprint(names), fmt.Sprint([]ledger.History{ledger.Roster, site, other}); got != want {
			t.Errorf("got the histories %s, want %s", got, want)
		}
		for h, entries := range want {
			if last := entries[len(entries)-1].Head(); heads[h] != last {
				t.Errorf("got the head %v of %s, want %v", heads[h], h, last)
			}
			for _, n := range []int{1, 3, 7, 100} {
				wantAllEqual(t, mustSpan(t, s, h, n), entries)
			}
		}
		s = h.Reopen(t, s)
	}
	stop := errors.New("stop")
	calls := 0
	err = s.Heads(t.Context(), func(ledger.History, ledger.Head) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("got error %v after %d calls, want the first call's", err, calls)
	}
}

// sealed returns n entries of the site that follow one another.
func sealed(n int) (out []ledger.Entry) {
	var head ledger.Head
	for i := range n {
		e := head.Seal(draft(site, fmt.Sprint("put ", i)))
		out = append(out, e)
		head = e.Head()
	}
	return out
}

func testPut[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	entries := sealed(25)
	for _, part := range [][]ledger.Entry{entries[:1], entries[1:20], entries[20:]} {
		if err := s.Put(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	wantAllEqual(t, mustHistory(t, s, site), entries)
	s = h.Reopen(t, s)
	wantAllEqual(t, mustHistory(t, s, site), entries)
	// They are entries as any other: known by their ids, and followed.
	e, existed, err := s.Append(t.Context(), draft(site, entries[3].ID))
	if err != nil || !existed {
		t.Fatalf("existed %v, error %v", existed, err)
	}
	wantEqual(t, e, entries[3])
	if e := mustAppend(t, s, draft(site, "next")); e.Sequence != 26 {
		t.Errorf("got sequence %d, want 26", e.Sequence)
	}
	mustHistory(t, s, site)
}

func testPutRefused[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	entries := sealed(6)
	if err := s.Put(t.Context(), entries[:3]); err != nil {
		t.Fatal(err)
	}
	forged := entries[4]
	forged.Record = []byte(string(forged.Record) + " ")
	for _, c := range []struct {
		name    string
		entries []ledger.Entry
		want    error
	}{
		{"a gap", entries[4:], ledger.ErrMoved},
		{"there already", entries[2:], ledger.ErrMoved},
		{"a gap within", []ledger.Entry{entries[3], entries[5]}, ledger.ErrBroken},
		{"a changed record", []ledger.Entry{entries[3], forged}, ledger.ErrBroken},
	} {
		if err := s.Put(t.Context(), c.entries); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		wantAllEqual(t, mustHistory(t, s, site), entries[:3])
	}
	if err := s.Put(t.Context(), entries[3:]); err != nil {
		t.Error(err)
	}
	wantAllEqual(t, mustHistory(t, s, site), entries)
}
