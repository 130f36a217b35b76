package mongostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"xuncha/ledger"
)

// mustInsert has the writer store drafts one after another.
func mustInsert(t *testing.T, w *writer, drafts ...ledger.Draft) {
	t.Helper()
	for _, d := range drafts {
		if err := w.do(&job{ctx: t.Context(), draft: d}); err != nil {
			t.Errorf("%s %s: %v", d.History, d.ID, err)
		}
	}
}

// of returns a draft of a history.
func of(h ledger.History, id string) ledger.Draft {
	d := draft(id)
	d.History = h
	return d
}

// A server that is not told what has become of entries finds out before it stores
// others of their histories, whatever it was: that they were stored, were not, or never
// can be.
func TestUnsure(t *testing.T) {
	a, b := two(t)
	r := &reader{store: b}
	w := newWriter(a)
	mustInsert(t, w, of("site/x", "x1"), of("site/y", "y1"), of("site/z", "z1"))
	unsure := func(drafts ...ledger.Draft) (docs []entryDoc) {
		t.Helper()
		h := drafts[0].History
		head, err := a.readHead(t.Context(), h, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range drafts {
			e := head.Seal(d)
			head = e.Head()
			docs = append(docs, document(e, markOf(w.id, w.series.take(1)[0])))
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lane(h).unsure = docs
		return docs
	}
	stored := unsure(of("site/x", "x2"))
	unsure(of("site/y", "y2"))
	unsure(of("site/z", "z2"), of("site/z", "z3")) // the place of the first is taken
	if _, err := a.entries.InsertOne(t.Context(), stored[0]); err != nil {
		t.Fatal(err)
	}
	mustAppendDraft(t, b, of("site/z", "other's"))
	// It finds out before the next one of the same history, and of all from time to time.
	mustInsert(t, w, of("site/z", "z4"))
	if n := w.settleAll(t.Context()); n != 0 {
		t.Errorf("of %d histories it is not known what has become of their entries", n)
	}
	r.want(t, "x1 x2 y1 y2 z1 other's z4 ", nil)
	// No number is left over.
	if at := w.series.standing(); at.settled.String() != "6" || len(at.free) > 1 {
		t.Errorf("the numbers %s are settled and %v are free, want 6 and at most one", at.settled, at.free)
	}
}

// What callers left behind is on its way while a server ends. Where that comes to nothing
// known, nobody is told that the series has ended.
func TestEndWhileUnsure(t *testing.T) {
	s := standIn(t, "-commit=1ms", "-shards=2")
	a := openAt(t, s.Database(t))
	there := lyingOn(t, s, 1, 1)[0]
	mustAppendDraft(t, a, of(there, "1"))
	control(t, s, is("shard", 1), is("primary", false))
	for range maxSlow {
		a.writer.turns.slow <- struct{}{} // so the insert is given up soon
	}
	ctx, leave := context.WithTimeout(t.Context(), leastSlow/4)
	defer leave()
	if _, _, err := a.Append(ctx, of(there, "2")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the caller's own deadline", err)
	}
	a.writer.stop()
	docs, err := a.told(t.Context())
	if err != nil || len(docs) != 1 || !docs[0].Unsure || docs[0].Last != nil {
		t.Errorf("got %+v, %v; want one that is unsure and has not ended", docs, err)
	}
	a.writer.startTelling() // for Close
	control(t, s, is("shard", 1), is("primary", true))
}

// Where an insert was sent twice, and the second time finds what the first has stored,
// nothing of it counts as not stored: its numbers are not given again before it is known.
func TestSentTwice(t *testing.T) {
	a, b := two(t)
	r := &reader{store: b}
	w := newWriter(a)
	mustInsert(t, w, of("site/x", "1"))
	head, err := a.readHead(t.Context(), "site/x", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.entries.InsertOne(t.Context(), document(head.Seal(of("site/x", "2")), markOf(w.id, 2))); err != nil {
		t.Fatal(err)
	}
	if err := w.do(&job{ctx: t.Context(), draft: of("site/x", "2")}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	again := &job{ctx: t.Context(), draft: of("site/x", "2")}
	if err := w.do(again); err != nil || !again.existed {
		t.Errorf("again: existed %v, error %v", again.existed, err)
	}
	mustInsert(t, w, of("site/x", "3"))
	r.want(t, "1 2 3 ", nil)
	if at := w.series.standing(); at.settled.String() != "3" {
		t.Errorf("the numbers %s are stored, want 3", at.settled)
	}
}

// Where another server took a place, what comes behind it in the same insert follows
// without a gap.
func TestPlaceTaken(t *testing.T) {
	a, b := two(t)
	w := newWriter(a)
	mustInsert(t, w, of("site/x", "first"))
	mustAppendDraft(t, b, of("site/x", "other's")) // now w knows a head that is old
	// The lane gets its turn once all of them wait.
	for range maxTurns {
		w.turns.free <- struct{}{}
	}
	var jobs []*job
	for _, id := range []string{"1", "other's", "2", "3"} {
		jobs = append(jobs, &job{ctx: t.Context(), draft: of("site/x", id), done: make(chan error, 1)})
		w.mu.Lock()
		w.lane("site/x").put(jobs[len(jobs)-1])
		w.mu.Unlock()
	}
	for range maxTurns {
		<-w.turns.free
	}
	for _, j := range jobs {
		if err := <-j.done; err != nil || j.existed != (j.draft.ID == "other's") {
			t.Errorf("%s: existed %v, error %v", j.draft.ID, j.existed, err)
		}
	}
	entries, err := b.Span(t.Context(), "site/x", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var head ledger.Head
	ids := ""
	for _, e := range entries {
		ids += e.ID + " "
		if head, err = head.Follow(e); err != nil {
			t.Error(err)
		}
	}
	if want := "first other's 1 2 3 "; ids != want {
		t.Errorf("got %q, want %q", ids, want)
	}
	if at := w.series.standing(); at.settled.String() != "4" || at.given != 4 {
		t.Errorf("the numbers up to %d were given and %s are stored, want 4 and 4", at.given, at.settled)
	}
}

// Two servers that append to one site at once lose nothing and leave no gap,
// also where both are given the same check-in.
func TestTwoServersOneSite(t *testing.T) {
	a, b := two(t)
	const writers, each = 8, 15
	var mu sync.Mutex
	hashes := map[string]ledger.Hash{}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			s := []*Store{a, b}[w%2]
			for i := range each {
				// Writers 0 and 1, 2 and 3 … send the same.
				id := fmt.Sprint(w/2, "-", i)
				e, _, err := s.Append(t.Context(), draft(id))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if before, ok := hashes[id]; ok && before != e.Hash {
					t.Errorf("%s was stored twice", id)
				}
				hashes[id] = e.Hash
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for _, s := range []*Store{a, b} {
		entries, err := s.Span(t.Context(), site.History(), 0, 1000)
		if err != nil || len(entries) != writers/2*each {
			t.Fatalf("got %d entries and error %v, want %d", len(entries), err, writers/2*each)
		}
		var head ledger.Head
		for _, e := range entries {
			if head, err = head.Follow(e); err != nil {
				t.Fatal(err)
			}
			if hashes[e.ID] != e.Hash {
				t.Errorf("%s was acknowledged with another hash", e.ID)
			}
		}
	}
}
