package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xuncha/ledger"
)

func testAppend[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	var head ledger.Head
	var want []ledger.Entry
	for _, id := range []string{"a", "b", "c"} {
		d := draft(site, id)
		sealed := head.Seal(d)
		wantEqual(t, mustAppend(t, s, d), sealed)
		want = append(want, sealed)
		head = sealed.Head()
	}
	wantAllEqual(t, mustHistory(t, s, site), want)
	for _, w := range want {
		got, err := s.Entry(t.Context(), site, w.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, got, w)
	}
}

func testRepeated[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	first := mustAppend(t, s, draft(site, "a"))
	second := mustAppend(t, s, draft(site, "b"))
	repeat := func(d ledger.Draft, want ledger.Entry) {
		t.Helper()
		got, existed, err := s.Append(t.Context(), d)
		if err != nil || !existed {
			t.Fatalf("got existed %v and error %v, want the first entry", existed, err)
		}
		wantEqual(t, got, want)
	}
	repeat(draft(site, "a"), first)
	changed := draft(site, "a")
	changed.Kind, changed.Account, changed.Content = "other", "someone", []byte(`{}`)
	changed.Time = changed.Time.Add(time.Hour)
	repeat(changed, first)
	s = h.Reopen(t, s)
	repeat(changed, first)
	repeat(draft(site, "b"), second)
	third := mustAppend(t, s, draft(site, "c"))
	wantAllEqual(t, mustHistory(t, s, site), []ledger.Entry{first, second, third})
}

func testRepeatedAtOnce[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	mustAppend(t, s, draft(site, "before"))
	const count = 100
	got := make([]ledger.Entry, count)
	var stored atomic.Int64
	atOnce(count, func(i int) {
		d := draft(site, "a")
		d.Content = fmt.Appendf(nil, `{"attempt":%d}`, i)
		e, existed, err := s.Append(t.Context(), d)
		if err != nil {
			t.Error(err)
		}
		if !existed {
			stored.Add(1)
		}
		got[i] = e
	})
	if n := stored.Load(); n != 1 {
		t.Errorf("%d calls say that they stored the entry, want 1", n)
	}
	history := mustHistory(t, s, site)
	if len(history) != 2 {
		t.Fatalf("got %d entries, want 2", len(history))
	}
	for _, e := range got {
		wantEqual(t, e, history[1])
	}
}

func testOneHistory[S ledger.Store](t *testing.T, h Harness[S]) {
	testAtOnce(t, h.Open(t), func(int) ledger.History { return site })
}

func testManyHistories[S ledger.Store](t *testing.T, h Harness[S]) {
	testAtOnce(t, h.Open(t), func(i int) ledger.History { return ledger.History(fmt.Sprintf("site/%d", i%10)) })
}

// testAtOnce appends from 64 goroutines and looks for every answer in the
// histories.
func testAtOnce(t *testing.T, s ledger.Store, of func(int) ledger.History) {
	const writers, each = 64, 8
	got := make([][]ledger.Entry, writers)
	atOnce(writers, func(w int) {
		for i := range each {
			e, existed, err := s.Append(t.Context(), draft(of(w+i), fmt.Sprintf("%d of %d", i, w)))
			if err != nil || existed {
				t.Errorf("got existed %v and error %v, want a new entry", existed, err)
				return
			}
			got[w] = append(got[w], e)
		}
	})
	if t.Failed() {
		return
	}
	histories := map[ledger.History][]ledger.Entry{}
	total := 0
	for i := range writers + each {
		id := of(i)
		if histories[id] == nil {
			histories[id] = mustHistory(t, s, id)
			total += len(histories[id])
		}
	}
	if total != writers*each {
		t.Errorf("got %d entries, want %d", total, writers*each)
	}
	for _, e := range slices.Concat(got...) {
		history := histories[e.History]
		if int(e.Sequence) > len(history) {
			t.Fatalf("%s has no sequence %d, which was acknowledged", e.History, e.Sequence)
		}
		wantEqual(t, history[e.Sequence-1], e)
	}
}

func testCancelled[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	first := mustAppend(t, s, draft(site, "first"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Append(ctx, draft(site, "a"))
	_, historyErr := s.Newest(ctx, site, 0, 1)
	_, entryErr := s.Entry(ctx, site, "first")
	_, entriesErr := s.Entries(ctx, []ledger.Key{{History: site, Sequence: 1}})
	_, afterErr := s.AppendAfter(ctx, 1, draft(site, "b"))
	_, spanErr := s.Span(ctx, site, 0, 1)
	headsErr := s.Heads(ctx, func(ledger.History, ledger.Head) error { return nil })
	putErr := s.Put(ctx, []ledger.Entry{first.Head().Seal(draft(site, "c"))})
	_, _, feedErr := feed(ctx, s, "")
	for _, err := range []error{err, historyErr, entryErr, entriesErr, afterErr, spanErr, headsErr, putErr, feedErr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	}
	e, _, err := s.Append(t.Context(), draft(site, "a"))
	if err != nil {
		t.Fatal(err)
	}
	wantAllEqual(t, mustHistory(t, s, site), []ledger.Entry{first, e})
}

// A phone that hangs up and calls again, many times over, doubles nothing.
func testCancelledMeanwhile[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	const writers = 32
	answers := make([]ledger.Entry, writers)
	atOnce(writers, func(w int) {
		d := draft(site, fmt.Sprint(w))
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		calls.Go(func() {
			if _, _, err := s.Append(ctx, d); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled or none", err)
			}
		})
		calls.Go(cancel)
		calls.Wait()
		var err error
		if answers[w], _, err = s.Append(t.Context(), d); err != nil {
			t.Error(err)
		}
	})
	slices.SortFunc(answers, func(a, b ledger.Entry) int { return int(a.Sequence - b.Sequence) })
	wantAllEqual(t, mustHistory(t, s, site), answers)
}

func testOwnCopy[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	d := draft(site, "a")
	want := ledger.Head{}.Seal(d)
	e := mustAppend(t, s, d)
	clear(d.Content)
	clear(e.Record)
	for _, id := range []string{"b", "c", "d", "e", "f"} {
		mustAppend(t, s, draft(site, id))
	}
	got := mustHistory(t, s, site)
	wantEqual(t, got[0], want)
	// What a caller adds to one record must not run into another.
	for i := range got {
		_ = append(got[i].Record, "overrun"...)
	}
	wantAllEqual(t, got, mustHistory(t, s, site))
	clear(got[0].Record)
	repeated, _, err := s.Append(t.Context(), draft(site, "a"))
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, repeated, want)
	clear(repeated.Record)
	wantEqual(t, mustHistory(t, s, site)[0], want)
}

func testTimes[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	first := mustAppend(t, s, draft(site, "a"))
	early := draft(site, "b")
	early.Time = first.Time.Add(-time.Nanosecond)
	if e := mustAppend(t, s, early); !e.Time.Equal(first.Time) {
		t.Errorf("got time %v, want %v", e.Time, first.Time)
	}
	s = h.Reopen(t, s)
	early.ID = "c"
	if e := mustAppend(t, s, early); !e.Time.Equal(first.Time) {
		t.Errorf("after reopening: got time %v, want %v", e.Time, first.Time)
	}
	later := draft(site, "d")
	later.Time = first.Time.Add(time.Nanosecond).In(time.FixedZone("Asia/Shanghai", 8*60*60))
	e := mustAppend(t, s, later)
	if !e.Time.Equal(later.Time) {
		t.Errorf("got time %v, want %v", e.Time, later.Time)
	}
	wantEqual(t, mustHistory(t, s, site)[3], e)
	// Another history has times of its own.
	early.History = other
	if e := mustAppend(t, s, early); !e.Time.Equal(early.Time) {
		t.Errorf("in another history: got time %v, want %v", e.Time, early.Time)
	}
}

func testIDs[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	ids := []string{"a", "A", "a ", " a", "á", "a\u0301", "ａ", "寺", "寺廟", "1", "01", "1.0", "a\x00", "a\x00b", "null", "%", "_", "."}
	var want []ledger.Entry
	for _, id := range ids {
		want = append(want, mustAppend(t, s, draft(site, id)))
	}
	s = h.Reopen(t, s)
	for i, id := range ids {
		got, err := s.Entry(t.Context(), site, id)
		if err != nil {
			t.Fatalf("Entry %q: %v", id, err)
		}
		wantEqual(t, got, want[i])
	}
	wantAllEqual(t, mustHistory(t, s, site), want)
	for _, id := range []string{"", "b", "Á", "寺 "} {
		if _, err := s.Entry(t.Context(), site, id); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("Entry %q: got %v, want ErrNotFound", id, err)
		}
	}
	// So are the sites'.
	for _, id := range []ledger.History{"x", "X", "x ", "x/y", "ｘ"} {
		mustAppend(t, s, draft(id, "a"))
		if got := mustHistory(t, s, id); len(got) != 1 {
			t.Errorf("site %q: got %d entries, want 1", id, len(got))
		}
	}
}

func testTwoHistories[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	here := mustAppend(t, s, draft(site, "a"))
	there := mustAppend(t, s, draft(other, "a"))
	if here.Sequence != 1 || there.Sequence != 1 {
		t.Errorf("got sequences %d and %d, want 1 and 1", here.Sequence, there.Sequence)
	}
	for id, want := range map[ledger.History]ledger.Entry{site: here, other: there} {
		got, err := s.Entry(t.Context(), id, "a")
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, got, want)
		wantAllEqual(t, mustHistory(t, s, id), []ledger.Entry{want})
	}
}

func testRecords[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	var want []ledger.Entry
	for i, content := range []string{
		`{}`,
		`{"note":"正门已关闭，张贴了通知。🏮"}`,
		`{"b":1,"a":1.50,"a":1e2,"nul":"\u0000","slash":"\/","html":"<&>","line":"\u2028"}`,
		`{ "spaces" : [ ] }`,
		`{"note":"` + strings.Repeat("长", (ledger.MaxContent-11)/3) + `"}`,
		`{"note":"` + strings.Repeat("x", ledger.MaxContent-11) + `"}`,
	} {
		d := draft(site, fmt.Sprint(i))
		d.Account = "官员 <\"\\\n>"
		d.Content = []byte(content)
		var head ledger.Head
		if i > 0 {
			head = want[i-1].Head()
		}
		want = append(want, head.Seal(d))
		wantEqual(t, mustAppend(t, s, d), want[i])
	}
	s = h.Reopen(t, s)
	wantAllEqual(t, mustHistory(t, s, site), want)
}

func testReopen[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	var want []ledger.Entry
	for i := range 50 {
		want = append(want, mustAppend(t, s, draft(site, fmt.Sprint(i))))
	}
	for range 2 {
		s = h.Reopen(t, s)
		want = append(want, mustAppend(t, s, draft(site, fmt.Sprint(len(want)))))
		wantAllEqual(t, mustHistory(t, s, site), want)
	}
}
