// Package ledgertest is the contract of ledger.Store as a test suite, and a store
// in memory that takes faults to order. An engine joins with one line in a test of
// its own:
//
//	ledgertest.Run(t, ledgertest.Harness[*Store]{Open: open, Reopen: reopen})
package ledgertest

import (
	"bytes"
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

// A Harness opens the stores of one engine. Both functions end the test where
// they fail, and leave it to the test's Cleanup to close what they opened.
type Harness[S ledger.Store] struct {
	// Open returns a store that holds nothing.
	Open func(testing.TB) S
	// Reopen closes a store and opens what it holds once more.
	Reopen func(testing.TB, S) S
}

// Run tests the engine's promises, each on a store of its own.
func Run[S ledger.Store](t *testing.T, h Harness[S]) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Harness[S])
	}{
		{"Empty", testEmpty[S]},
		{"AppendFollowsHead", testAppend[S]},
		{"AppendRepeated", testRepeated[S]},
		{"AppendRepeatedAtOnce", testRepeatedAtOnce[S]},
		{"AppendToOneHistoryAtOnce", testOneHistory[S]},
		{"AppendToManyHistoriesAtOnce", testManyHistories[S]},
		{"AppendCancelled", testCancelled[S]},
		{"AppendCancelledMeanwhile", testCancelledMeanwhile[S]},
		{"AppendKeepsItsOwnCopy", testOwnCopy[S]},
		{"TimesNeverRunBackwards", testTimes[S]},
		{"IDsDifferByteForByte", testIDs[S]},
		{"SameIDInTwoHistories", testTwoHistories[S]},
		{"RecordsAreKeptExactly", testRecords[S]},
		{"HistoryInPages", testPages[S]},
		{"HistoryWhileWritesArrive", testPagesWhileWriting[S]},
		{"Entries", testEntries[S]},
		{"Heads", testHeads[S]},
		{"AppendAfterFollowsHead", testAppendAfter[S]},
		{"AppendAfterWrongSequence", testMoved[S]},
		{"AppendAfterByRacingWriters", testRace[S]},
		{"AppendAfterSameIDTwice", testSameID[S]},
		{"AppendAfterBesideAppend", testBesideAppend[S]},
		{"SpanInPages", testSpans[S]},
		{"Feed", testFeed[S]},
		{"FeedResumes", testFeedResumes[S]},
		{"FeedStops", testFeedStops[S]},
		{"FeedWhileWritesArrive", testFeedWhileWriting[S]},
		{"FeedOfWhatWasPut", testFeedOfPut[S]},
		{"FeedRefusesOtherCursors", testFeedCursors[S]},
		{"FeedIsTheOnlyOne", testOnlyFeed[S]},
		{"Reopen", testReopen[S]},
		{"PutAsTheyAre", testPut[S]},
		{"PutRefused", testPutRefused[S]},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, h) })
	}
}

const (
	site  = ledger.History("site/00000000-0000-4000-8000-000000000001")
	other = ledger.History("site/00000000-0000-4000-8000-000000000002")
)

// draft returns the draft of an entry of the history.
func draft(h ledger.History, id string) ledger.Draft {
	return ledger.Draft{
		History: h, ID: id, Kind: "check_in",
		Time:    time.Date(2020, 2, 1, 8, 30, 0, 123456789, time.UTC),
		Account: "local", Content: []byte(`{"finding":"closed"}`),
	}
}

// mustAppend stores a draft whose id is new.
func mustAppend(t *testing.T, s ledger.Store, d ledger.Draft) ledger.Entry {
	t.Helper()
	e, existed, err := s.Append(t.Context(), d)
	if err != nil {
		t.Fatalf("Append %q: %v", d.ID, err)
	}
	if existed {
		t.Fatalf("Append %q: existed, want a new entry", d.ID)
	}
	return e
}

// mustHistory reads the whole history, checks that each entry follows
// from the one before, and returns it oldest first.
func mustHistory(t *testing.T, s ledger.Store, h ledger.History) []ledger.Entry {
	t.Helper()
	entries, err := s.Newest(t.Context(), h, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(entries)
	var head ledger.Head
	for _, e := range entries {
		if head, err = head.Follow(e); err != nil {
			t.Fatal(err)
		}
	}
	return entries
}

// Entries are compared field by field, so that a difference is named.
func wantEqual(t *testing.T, got, want ledger.Entry) {
	t.Helper()
	if got.History != want.History || got.Sequence != want.Sequence || got.ID != want.ID || got.Kind != want.Kind || got.Account != want.Account {
		t.Errorf("got entry %s %d %q %s %s, want %s %d %q %s %s", got.History, got.Sequence, got.ID, got.Kind, got.Account,
			want.History, want.Sequence, want.ID, want.Kind, want.Account)
	}
	if !got.Time.Equal(want.Time) || got.Time.Location() != time.UTC {
		t.Errorf("got time %v, want %v", got.Time, want.Time)
	}
	if !bytes.Equal(got.Record, want.Record) {
		t.Errorf("got record %.300q, want %.300q", got.Record, want.Record)
	}
	if got.Hash != want.Hash {
		t.Errorf("got hash %x, want %x", got.Hash, want.Hash)
	}
}

func wantAllEqual(t *testing.T, got, want []ledger.Entry) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d entries, want %d", len(got), len(want))
	}
	for i := range want {
		wantEqual(t, got[i], want[i])
	}
}

// atOnce calls f(0) to f(n-1), each in a goroutine of its own.
func atOnce(n int, f func(int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

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
