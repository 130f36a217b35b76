// Package sitestest is the contract of sites.Store as a test suite. An engine
// joins with one line in a test of its own:
//
//	sitestest.Run(t, sitestest.Harness[*Store]{Open: open, Reopen: reopen})
package sitestest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

// A Harness opens the stores of one engine. Both functions end the test where
// they fail, and leave it to the test's Cleanup to close what they opened.
type Harness[S sites.Store] struct {
	// Open returns a store that holds nothing.
	Open func(testing.TB) S
	// Reopen closes a store and opens what it holds once more.
	Reopen func(testing.TB, S) S
}

// Run tests the engine's promises, each on a store of its own.
func Run[S sites.Store](t *testing.T, h Harness[S]) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Harness[S])
	}{
		{"Empty", testEmpty[S]},
		{"AppendFollowsHead", testAppend[S]},
		{"AppendAfterWrongSequence", testMoved[S]},
		{"AppendByRacingWriters", testRace[S]},
		{"AppendSameIDTwice", testSameID[S]},
		{"AppendCancelled", testCancelled[S]},
		{"AppendKeepsItsOwnCopy", testOwnCopy[S]},
		{"TimesNeverRunBackwards", testTimes[S]},
		{"EntriesInPages", testPages[S]},
		{"Rows", testRows[S]},
		{"RowsKeepTheirOwnCopy", testRowsOwnCopy[S]},
		{"Reopen", testReopen[S]},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, h) })
	}
}

// draft returns the draft of a roster entry.
func draft(id string) ledger.Draft {
	return ledger.Draft{
		History: ledger.Roster, ID: id, Kind: sites.KindSiteRegistered,
		Time:    time.Date(2020, 2, 1, 8, 30, 0, 123456789, time.UTC),
		Account: "管理员", Content: []byte(`{"name":"城隍庙 ` + id + `"}`),
	}
}

func mustAppend(t *testing.T, s sites.Store, after ledger.Sequence, d ledger.Draft) ledger.Entry {
	t.Helper()
	e, err := s.AppendAfter(t.Context(), after, d)
	if err != nil {
		t.Fatalf("AppendAfter after %d: %v", after, err)
	}
	return e
}

// mustEntries reads the whole history and checks that each entry follows from
// the one before.
func mustEntries(t *testing.T, s sites.Store) []ledger.Entry {
	t.Helper()
	entries, err := s.RosterEntries(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
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
		t.Errorf("got record %s, want %s", got.Record, want.Record)
	}
	if got.Hash != want.Hash {
		t.Errorf("got hash %x, want %x", got.Hash, want.Hash)
	}
}

func testEmpty[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	if got := mustEntries(t, s); len(got) != 0 {
		t.Errorf("got %d entries, want none", len(got))
	}
	if _, err := s.Rows(t.Context(), sum(nil)); !errors.Is(err, sites.ErrRowsUnknown) {
		t.Errorf("Rows: got %v, want ErrRowsUnknown", err)
	}
}

func testAppend[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	var head ledger.Head
	for _, id := range []string{"a", "b", "c"} {
		d := draft(id)
		want := head.Seal(d)
		got := mustAppend(t, s, head.Sequence, d)
		wantEqual(t, got, want)
		head = got.Head()
	}
	for i, e := range mustEntries(t, s) {
		if want := string("abc"[i]); e.ID != want {
			t.Errorf("got id %q at sequence %d, want %q", e.ID, e.Sequence, want)
		}
	}
}

func testMoved[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	refuse := func(after ledger.Sequence, id string) {
		t.Helper()
		if _, err := s.AppendAfter(t.Context(), after, draft(id)); !errors.Is(err, ledger.ErrMoved) {
			t.Errorf("after %d: got %v, want ErrMoved", after, err)
		}
	}
	refuse(1, "too early")
	first := mustAppend(t, s, 0, draft("first"))
	refuse(0, "too late")
	refuse(2, "too early")
	second := mustAppend(t, s, 1, draft("too late"))
	got := mustEntries(t, s)
	if len(got) != 2 {
		t.Fatalf("got %d entries, want 2", len(got))
	}
	wantEqual(t, got[0], first)
	wantEqual(t, got[1], second)
}

func testRace[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	for after := range ledger.Sequence(20) {
		won := make([]ledger.Entry, 2)
		errs := make([]error, 2)
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				won[i], errs[i] = s.AppendAfter(t.Context(), after, draft(fmt.Sprintf("%d of writer %d", after, i)))
			})
		}
		both.Wait()
		winner := slices.Index(errs, nil)
		if winner < 0 || !errors.Is(errs[1-winner], ledger.ErrMoved) {
			t.Fatalf("after %d: got %v, want one winner and one ErrMoved", after, errs)
		}
		got := mustEntries(t, s)
		if len(got) != int(after)+1 {
			t.Fatalf("got %d entries, want %d", len(got), after+1)
		}
		wantEqual(t, got[after], won[winner])
	}
}

func testSameID[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	mustAppend(t, s, 0, draft("a"))
	if _, err := s.AppendAfter(t.Context(), 1, draft("a")); !errors.Is(err, ledger.ErrMoved) {
		t.Errorf("got %v, want ErrMoved", err)
	}
	mustAppend(t, s, 1, draft("b"))
	if got := mustEntries(t, s); len(got) != 2 {
		t.Errorf("got %d entries, want 2", len(got))
	}
}

func testCancelled[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.AppendAfter(ctx, 0, draft("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("AppendAfter: got %v, want context.Canceled", err)
	}
	if err := s.PutRows(ctx, sum([]byte("rows")), []byte("rows")); !errors.Is(err, context.Canceled) {
		t.Errorf("PutRows: got %v, want context.Canceled", err)
	}
	mustAppend(t, s, 0, draft("a"))
	mustPutRows(t, s, []byte("rows"))
}

func testOwnCopy[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	d := draft("a")
	want := ledger.Head{}.Seal(d)
	e := mustAppend(t, s, 0, d)
	clear(d.Content)
	clear(e.Record)
	got := mustEntries(t, s)
	wantEqual(t, got[0], want)
	clear(got[0].Record)
	wantEqual(t, mustEntries(t, s)[0], want)
	// The next entry is chained to what is stored.
	mustAppend(t, s, 1, draft("b"))
	mustEntries(t, s)
}

func testTimes[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	first := mustAppend(t, s, 0, draft("a"))
	early := draft("b")
	early.Time = first.Time.Add(-time.Hour)
	e := mustAppend(t, s, 1, early)
	if !e.Time.Equal(first.Time) {
		t.Errorf("got time %v, want %v", e.Time, first.Time)
	}
	s = h.Reopen(t, s)
	early.ID = "c"
	if e := mustAppend(t, s, 2, early); !e.Time.Equal(first.Time) {
		t.Errorf("after reopening: got time %v, want %v", e.Time, first.Time)
	}
	mustEntries(t, s)
}

func testPages[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	const count = 25
	for i := range ledger.Sequence(count) {
		mustAppend(t, s, i, draft(fmt.Sprint(i)))
	}
	for _, c := range []struct {
		after ledger.Sequence
		n     int
		want  int
	}{
		{0, 10, 10}, {10, 10, 10}, {20, 10, 5}, {24, 1, 1}, {25, 10, 0}, {1000, 10, 0}, {3, 0, 0},
	} {
		got, err := s.RosterEntries(t.Context(), c.after, c.n)
		if err != nil || len(got) != c.want {
			t.Errorf("%d after %d: got %d entries and error %v, want %d", c.n, c.after, len(got), err, c.want)
		}
		for i, e := range got {
			if want := c.after + ledger.Sequence(i) + 1; e.Sequence != want {
				t.Errorf("%d after %d: got sequence %d, want %d", c.n, c.after, e.Sequence, want)
			}
		}
	}
}

func sum(rows []byte) string {
	s := sha256.Sum256(rows)
	return hex.EncodeToString(s[:])
}

func mustPutRows(t *testing.T, s sites.Store, rows []byte) {
	t.Helper()
	if err := s.PutRows(t.Context(), sum(rows), rows); err != nil {
		t.Fatalf("PutRows of %d bytes: %v", len(rows), err)
	}
}

func wantRows(t *testing.T, s sites.Store, want []byte) {
	t.Helper()
	got, err := s.Rows(t.Context(), sum(want))
	if err != nil {
		t.Fatalf("Rows of %d bytes: %v", len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of rows that differ from the %d stored", len(got), len(want))
	}
}

// manyRows returns rows as long as those of a country's division table.
func manyRows() []byte {
	rows := make([]byte, 20<<20+1)
	rand.NewChaCha8([32]byte{1}).Read(rows)
	return rows
}

func testRows[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	all := [][]byte{{}, []byte("code,name\n511602,广安区\n"), []byte("a\x00b\xff"), manyRows()}
	for _, rows := range all {
		mustPutRows(t, s, rows)
	}
	mustPutRows(t, s, all[1])
	mustPutRows(t, s, all[3])
	s = h.Reopen(t, s)
	for _, rows := range all {
		wantRows(t, s, rows)
	}
	if _, err := s.Rows(t.Context(), strings.Repeat("0", 64)); !errors.Is(err, sites.ErrRowsUnknown) {
		t.Errorf("got %v, want ErrRowsUnknown", err)
	}
	if got := mustEntries(t, s); len(got) != 0 {
		t.Errorf("got %d entries, want none: rows take effect by an entry", len(got))
	}
}

func testRowsOwnCopy[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	want := []byte("code,name\n511602,广安区\n")
	given := bytes.Clone(want)
	mustPutRows(t, s, given)
	clear(given)
	got, err := s.Rows(t.Context(), sum(want))
	if err != nil {
		t.Fatal(err)
	}
	clear(got)
	wantRows(t, s, want)
}

func testReopen[S sites.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	for i := range ledger.Sequence(3) {
		mustAppend(t, s, i, draft(fmt.Sprint(i)))
	}
	want := mustEntries(t, s)
	s = h.Reopen(t, s)
	got := mustEntries(t, s)
	if len(got) != len(want) {
		t.Fatalf("got %d entries, want %d", len(got), len(want))
	}
	for i := range want {
		wantEqual(t, got[i], want[i])
	}
	if _, err := s.AppendAfter(t.Context(), 2, draft("late")); !errors.Is(err, ledger.ErrMoved) {
		t.Errorf("got %v, want ErrMoved", err)
	}
	mustAppend(t, s, 3, draft("next"))
	mustEntries(t, s)
}
