// Package ledgertest is the contract of ledger.Store as a test suite, and a store
// in memory that takes faults to order. An engine joins with one line in a test of
// its own:
//
//	ledgertest.Run(t, ledgertest.Harness[*Store]{Open: open, Reopen: reopen})
package ledgertest

import (
	"bytes"
	"slices"
	"sync"
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
