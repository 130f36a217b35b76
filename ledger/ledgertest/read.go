package ledgertest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"xuncha/ledger"
)

func testEmpty[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	if got := mustHistory(t, s, site); len(got) != 0 {
		t.Errorf("got %d entries, want none", len(got))
	}
	if _, err := s.Entry(t.Context(), site, "a"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Entry: got %v, want ErrNotFound", err)
	}
	if _, err := s.Entries(t.Context(), []ledger.Key{{History: site, Sequence: 1}}); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Entries: got %v, want ErrNotFound", err)
	}
	if got, err := s.Entries(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("Entries of no keys: got %d entries and %v, want none", len(got), err)
	}
	if got, at := mustFeed(t, s, ""); len(got) != 0 || at != "" {
		t.Errorf("Feed: got %d entries and the cursor %q, want none", len(got), at)
	}
}

func testPages[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	for i := range 25 {
		mustAppend(t, s, draft(site, fmt.Sprint(i)))
		mustAppend(t, s, draft(other, fmt.Sprint(i)))
	}
	for _, c := range []struct {
		before      ledger.Sequence
		n           int
		first, last ledger.Sequence // 0: no entry
	}{
		{0, 10, 25, 16},
		{16, 10, 15, 6},
		{6, 10, 5, 1},
		{1, 10, 0, 0},
		{2, 1, 1, 1},
		{25, 1, 24, 24},
		{26, 1, 25, 25},
		{1000, 2, 25, 24},
		{0, 0, 0, 0},
	} {
		got, err := s.Newest(t.Context(), site, c.before, c.n)
		if err != nil {
			t.Fatal(err)
		}
		var want []ledger.Sequence
		for q := c.first; q >= c.last && q > 0; q-- {
			want = append(want, q)
		}
		var found []ledger.Sequence
		for _, e := range got {
			found = append(found, e.Sequence)
			if e.History != site {
				t.Errorf("got an entry of %s, want %s", e.History, site)
			}
		}
		if !slices.Equal(found, want) {
			t.Errorf("%d before %d: got %v, want %v", c.n, c.before, found, want)
		}
	}
}

// A reader who pages to the end misses nothing that was there when it began.
func testPagesWhileWriting[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	for i := range 30 {
		mustAppend(t, s, draft(site, fmt.Sprint(i)))
	}
	var done atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; !done.Load() && i < 500; i++ {
			if _, _, err := s.Append(t.Context(), draft(site, fmt.Sprintf("later %d", i))); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 5 {
		var before, newest ledger.Sequence
		for before != 1 {
			page, err := s.Newest(t.Context(), site, before, 4)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				t.Fatalf("no entry before %d", before)
			}
			for _, e := range page {
				if before != 0 && e.Sequence != before-1 {
					t.Fatalf("got sequence %d after %d, want %d", e.Sequence, before, before-1)
				}
				newest = max(newest, e.Sequence)
				before = e.Sequence
			}
		}
		if newest < 30 {
			t.Errorf("got newest sequence %d, want at least 30", newest)
		}
	}
	done.Store(true)
	writer.Wait()
	mustHistory(t, s, site)
}

func testEntries[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	want := map[ledger.Key]ledger.Entry{}
	for _, id := range []ledger.History{site, other} {
		for i := range ledger.Sequence(3) {
			want[ledger.Key{History: id, Sequence: i + 1}] = mustAppend(t, s, draft(id, fmt.Sprint(i)))
		}
	}
	keys := []ledger.Key{{History: other, Sequence: 3}, {History: site, Sequence: 1}, {History: other, Sequence: 1}, {History: site, Sequence: 3}, {History: site, Sequence: 1}}
	got, err := s.Entries(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(keys) {
		t.Fatalf("got %d entries, want %d", len(got), len(keys))
	}
	for i, k := range keys {
		wantEqual(t, got[i], want[k])
	}
	for _, missing := range []ledger.Key{
		{History: site, Sequence: 4}, {History: site, Sequence: 0}, {History: other, Sequence: -1}, {History: "nowhere", Sequence: 1},
		// Numbers that an engine may cut to fit.
		{History: other, Sequence: 1<<40 + 1}, {History: site, Sequence: 1<<32 + 1}, {History: other, Sequence: 1 - 1<<32},
	} {
		if _, err := s.Entries(t.Context(), []ledger.Key{keys[0], missing, keys[1]}); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("with %v: got %v, want ErrNotFound", missing, err)
		}
	}
}

func testSpans[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	for i := range 25 {
		mustAppend(t, s, draft(site, fmt.Sprint(i)))
		mustAppend(t, s, draft(other, fmt.Sprint(i)))
	}
	for _, c := range []struct {
		after ledger.Sequence
		n     int
		want  int
	}{
		{0, 10, 10}, {10, 10, 10}, {20, 10, 5}, {24, 1, 1}, {25, 10, 0}, {1000, 10, 0}, {3, 0, 0}, {1 << 40, 3, 0},
	} {
		got, err := s.Span(t.Context(), site, c.after, c.n)
		if err != nil || len(got) != c.want {
			t.Errorf("%d after %d: got %d entries and error %v, want %d", c.n, c.after, len(got), err, c.want)
		}
		for i, e := range got {
			if want := c.after + ledger.Sequence(i) + 1; e.Sequence != want || e.History != site {
				t.Errorf("%d after %d: got sequence %d of %s, want %d", c.n, c.after, e.Sequence, e.History, want)
			}
		}
	}
}
