package ledgertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"xuncha/ledger"
)

// feed reads all that lies behind the cursor, with the cursor behind that.
func feed(ctx context.Context, s ledger.Store, from ledger.Cursor) (all []ledger.Entry, at ledger.Cursor, err error) {
	at = from
	for e, err := range s.Feed(ctx, from) {
		if err != nil {
			return all, at, err
		}
		e.Record = bytes.Clone(e.Record)
		all = append(all, e.Entry)
		at = e.After()
	}
	return all, at, nil
}

func mustFeed(t *testing.T, s ledger.Store, from ledger.Cursor) ([]ledger.Entry, ledger.Cursor) {
	t.Helper()
	all, at, err := feed(t.Context(), s, from)
	if err != nil {
		t.Fatal(err)
	}
	return all, at
}

// A followed is what a feed has given so far, by history.
type followed map[ledger.History][]ledger.Entry

// add takes in what the feed gives, of which each must follow from what it gave
// of the same history before.
func (f followed) add(t *testing.T, entries ...ledger.Entry) {
	t.Helper()
	for _, e := range entries {
		var head ledger.Head
		if list := f[e.History]; len(list) > 0 {
			head = list[len(list)-1].Head()
		}
		if _, err := head.Follow(e); err != nil {
			t.Fatalf("the feed gives %s %d after %d: %v", e.History, e.Sequence, head.Sequence, err)
		}
		f[e.History] = append(f[e.History], e)
	}
}

// want compares what the feed gave with what the histories have.
func (f followed) want(t *testing.T, s ledger.Store) {
	t.Helper()
	histories := 0
	err := s.Heads(t.Context(), func(h ledger.History, head ledger.Head) error {
		histories++
		if got := f[h]; ledger.Sequence(len(got)) != head.Sequence || got[len(got)-1].Hash != head.Hash {
			t.Errorf("the feed gave %d entries of %s, which has %d", len(got), h, head.Sequence)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if histories != len(f) {
		t.Errorf("the feed gave entries of %d histories, want %d", len(f), histories)
	}
}

const accesses = ledger.Accesses + "/7"

// histories are of every sort that there is.
var histories = []ledger.History{site, ledger.Roster, other, ledger.Accounts, accesses}

// mustFill appends n entries, in turn to some histories, by both ways of appending.
func mustFill(t *testing.T, s ledger.Store, id string, n int) {
	t.Helper()
	for i := range n {
		h := histories[i%len(histories)]
		if i%3 > 0 {
			h = site // long, so that no engine's reading ahead goes unnoticed
		}
		d := draft(h, fmt.Sprint(id, i))
		if h == site || h == other || h == accesses {
			mustAppend(t, s, d)
			continue
		}
		newest, err := s.Newest(t.Context(), h, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		after := ledger.Sequence(0)
		if len(newest) > 0 {
			after = newest[0].Sequence
		}
		if _, err := s.AppendAfter(t.Context(), after, d); err != nil {
			t.Fatal(err)
		}
	}
}

func testFeed[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	mustFill(t, s, "a", 1300)
	got := followed{}
	all, at := mustFeed(t, s, "")
	got.add(t, all...)
	got.want(t, s)
	if more, again := mustFeed(t, s, at); len(more) != 0 || again != at {
		t.Errorf("behind the last entry: got %d entries, want none", len(more))
	}
	s = h.Reopen(t, s)
	mustFill(t, s, "b", 40)
	more, at := mustFeed(t, s, at)
	got.add(t, more...)
	got.want(t, s)
	if len(more) != 40 {
		t.Errorf("got %d entries, want the 40 that are new", len(more))
	}
	mustFill(t, s, "c", 1)
	if more, _ = mustFeed(t, s, at); len(more) != 1 {
		t.Errorf("got %d entries, want the new one", len(more))
	}
}

// A reader can leave after any entry, and go on from there, also when the server
// was started anew.
func testFeedResumes[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	mustFill(t, s, "a", 30)
	got := followed{}
	var at ledger.Cursor
	for i := range 100 {
		if i == 15 {
			s = h.Reopen(t, s)
		}
		if i%4 == 1 {
			mustFill(t, s, fmt.Sprint("more ", i, " "), 2)
		}
		if i == 40 {
			break
		}
		for e, err := range s.Feed(t.Context(), at) {
			if err != nil {
				t.Fatal(err)
			}
			e.Record = bytes.Clone(e.Record)
			got.add(t, e.Entry)
			at = e.After()
			break
		}
	}
	rest, _ := mustFeed(t, s, at)
	got.add(t, rest...)
	got.want(t, s)
}

// Whoever leaves without the cursor of what it was given gets that again.
func testFeedStops[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	mustFill(t, s, "a", 5)
	n := 0
	for range s.Feed(t.Context(), "") {
		if n++; n == 3 {
			break
		}
	}
	if all, _ := mustFeed(t, s, ""); n != 3 || len(all) != 5 {
		t.Errorf("got %d entries before leaving and %d again, want 3 and 5", n, len(all))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range s.Feed(ctx, "") {
		cancel()
		last = err
	}
	// Some of it may have been read ahead.
	if last != nil && !errors.Is(last, context.Canceled) {
		t.Errorf("got %v at the end, want context.Canceled or none", last)
	}
}

// A reader beside writers gets everything once, each history's entries in their
// order.
func testFeedWhileWriting[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	const writers, each = 8, 25
	got := followed{}
	done := make(chan struct{})
	var reader sync.WaitGroup
	var at ledger.Cursor
	reader.Go(func() {
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			default:
			}
			all, next, err := feed(t.Context(), s, at)
			if err != nil && !errors.Is(err, ledger.ErrWaiting) {
				t.Error(err)
				return
			}
			got.add(t, all...)
			at = next
		}
	})
	atOnce(writers, func(w int) {
		for i := range each {
			mustAppend(t, s, draft(histories[(w+i)%len(histories)], fmt.Sprint(w, " ", i)))
		}
	})
	close(done)
	reader.Wait()
	got.want(t, s)
}

func testFeedOfPut[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	mustAppend(t, s, draft(other, "before"))
	got := followed{}
	all, at := mustFeed(t, s, "")
	got.add(t, all...)
	entries := sealed(250)
	for part := range slices.Chunk(entries, 100) {
		if err := s.Put(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	all, at = mustFeed(t, s, at)
	got.add(t, all...)
	mustAppend(t, s, draft(site, "after"))
	all, _ = mustFeed(t, s, at)
	got.add(t, all...)
	got.want(t, s)
}

func testFeedCursors[S ledger.Store](t *testing.T, h Harness[S]) {
	s := h.Open(t)
	mustFill(t, s, "a", 3)
	for _, cursor := range []ledger.Cursor{"x", "0", "-1", "{}", "sqlite", "sqlite:", "sqlite:-1", "sqlite:x", "sqlite:99999999", "mongo:", "mongo:x", "mongo:{", "memory:x"} {
		if _, _, err := feed(t.Context(), s, cursor); !errors.Is(err, ledger.ErrCursor) {
			t.Errorf("%q: got %v, want ErrCursor", cursor, err)
		}
	}
}

// bulk are the methods by which entries may be had in number. Those of ledger.AsIs are
// for whoever checks, repairs and copies a store.
var bulk = []string{"Newest", "Span", "Entries", "Feed", "Put", "Stored", "PutAsIs"}

// There is no second way to learn of entries: a method that would be one is found
// by its type, whatever its name.
func testOnlyFeed[S ledger.Store](t *testing.T, _ Harness[S]) {
	store := reflect.TypeFor[S]()
	for i := range store.NumMethod() {
		m := store.Method(i)
		if many(m.Type, 0) && !slices.Contains(bulk, m.Name) {
			t.Errorf("%s.%s gives entries in number; the port has %v for that", store, m.Name, bulk)
		}
	}
}

// many reports whether values of the type hold or pass on more than one entry.
func many(typ reflect.Type, depth int) bool {
	if depth > 4 {
		return false
	}
	holds := func(t reflect.Type) bool {
		return t == reflect.TypeFor[ledger.Entry]() || t == reflect.TypeFor[ledger.FeedEntry]() || many(t, depth+1)
	}
	switch typ.Kind() {
	case reflect.Slice, reflect.Array, reflect.Chan, reflect.Map:
		return holds(typ.Elem())
	case reflect.Pointer:
		return typ.Elem().Kind() != reflect.Struct && many(typ.Elem(), depth+1)
	case reflect.Func:
		for i := range typ.NumIn() {
			// A function that is given entries may be given any number of them.
			if in := typ.In(i); depth > 0 && holds(in) || many(in, depth+1) {
				return true
			}
		}
		for i := range typ.NumOut() {
			if many(typ.Out(i), depth+1) {
				return true
			}
		}
	case reflect.Interface:
		// Such as one with a method Next that is given a function.
		for i := range typ.NumMethod() {
			if typ.PkgPath() != "context" && many(typ.Method(i).Type, depth+1) {
				return true
			}
		}
	}
	return false
}
