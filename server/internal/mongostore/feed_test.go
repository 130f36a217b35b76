package mongostore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/ledger"
)

// A reader is behind what the feed has given it.
type reader struct {
	store *Store
	at    ledger.Cursor
}

// next returns the ids that the feed gives, in their order, and its error.
func (r *reader) next(t *testing.T) (ids string, err error) {
	t.Helper()
	for e, err := range r.store.Feed(t.Context(), r.at) {
		if err != nil {
			return ids, err
		}
		ids += e.ID + " "
		r.at = e.After()
	}
	return ids, nil
}

// want holds that the feed gives the ids and nothing else.
func (r *reader) want(t *testing.T, want string, wantErr error) {
	t.Helper()
	if got, err := r.next(t); got != want || !errors.Is(err, wantErr) {
		t.Errorf("got %q and %v, want %q and %v", got, err, want, wantErr)
	}
}

// What one server stores another is given once, of every history.
func TestFeedOfOthers(t *testing.T) {
	uri := server.Database(t)
	a, b := openAt(t, uri), openAt(t, uri)
	mustAppend(t, a, "before")
	r := &reader{store: b}
	r.want(t, "before ", nil)
	r.want(t, "", nil)
	mustAppend(t, a, "a1")
	mustAppend(t, b, "b1")
	roster := draft("roster")
	roster.History = ledger.Roster
	if _, err := a.AppendAfter(t.Context(), 0, roster); err != nil {
		t.Fatal(err)
	}
	r.want(t, "roster a1 b1 ", nil)
	// A server that comes later is followed too, and a cursor holds on any of them.
	c := openAt(t, uri)
	mustAppend(t, c, "c1")
	r.store = c
	r.want(t, "c1 ", nil)
	mustAppend(t, a, "a2")
	r.want(t, "a2 ", nil)
	for _, s := range []*Store{a, c} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r.store = b
	r.want(t, "", nil)
	// Whoever begins anew is given it in the same order.
	anew := &reader{store: b}
	anew.want(t, "roster before a1 b1 c1 a2 ", nil)
	anew.want(t, "", nil)
}

// A server that numbers its entries as earlier versions did is followed too.
func TestFeedOfEarlierVersions(t *testing.T) {
	a, b := two(t)
	r := &reader{store: b}
	mustAppend(t, a, "1")
	r.want(t, "1 ", nil)
	if _, err := a.writers.InsertOne(t.Context(), bson.D{is("_id", "old"), is("seen", int64(1))}); err != nil {
		t.Fatal(err)
	}
	store := func(h ledger.History, id, series string, n int64) {
		t.Helper()
		d := draft(id)
		d.History = h
		head, err := a.readHead(t.Context(), h, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.entries.InsertOne(t.Context(), document(head.Seal(d), markOf(series, n))); err != nil {
			t.Fatal(err)
		}
	}
	store(site.History(), "2", "old", 1)
	store(ledger.Roster, "roster", "old put", 3)
	r.want(t, "roster 2 ", nil)
	store(ledger.Roster, "again", "old put", 2)
	r.want(t, "again ", nil)
	(&reader{store: b}).want(t, "roster again 1 2 ", nil)
}

// A number that is missing is waited for, however long it takes, and what follows is
// given meanwhile. The reader is told where a server does not know what has become of
// entries.
func TestFeedWaits(t *testing.T) {
	a, b := two(t)
	r := &reader{store: b}
	w := newWriter(a)
	mustInsert(t, w, draft("1"))
	r.want(t, "1 ", nil)
	w.series.take(2) // are on their way
	mustInsert(t, w, draft("4"))
	r.want(t, "4 ", nil)
	if err := w.tell(t.Context(), is("unsure", true)); err != nil {
		t.Fatal(err)
	}
	r.want(t, "", ledger.ErrWaiting)
	late := ledger.Head{}.Seal(ledger.Draft{History: "site/other", ID: "late", Kind: "check_in", Time: time.Unix(1580515200, 0), Content: []byte(`{}`)})
	if _, err := a.entries.InsertOne(t.Context(), document(late, markOf(w.id, 2))); err != nil {
		t.Fatal(err)
	}
	r.want(t, "late ", ledger.ErrWaiting)
	// The server finds out that nothing has come of the third, and gives its number again.
	w.stored([]int64{2})
	w.series.giveBack(3)
	if err := w.tell(t.Context(), is("unsure", false)); err != nil {
		t.Fatal(err)
	}
	r.want(t, "", nil)
	mustInsert(t, w, draft("5"))
	if got, err := b.Entry(t.Context(), site.History(), "5"); err != nil || got.Sequence != 3 {
		t.Fatalf("got %v, %v", got, err)
	}
	if at := w.series.standing(); at.given != 4 || at.settled.String() != "4" {
		t.Errorf("the numbers up to %d were given, and those stored are %s; want 4 and 4", at.given, at.settled)
	}
	r.want(t, "5 ", nil)
}

// A server that has said nothing for a while is asked for seldom, and at once again when
// it says that it is there. What it stored last is found in either case.
func TestFeedOfASilentServer(t *testing.T) {
	a, b := two(t)
	r := &reader{store: b}
	w := newWriter(a)
	b.silentAfter, b.askSilent = 0, time.Hour
	mustInsert(t, w, draft("1"))
	r.want(t, "1 ", nil) // it is heard of first
	r.want(t, "", nil)   // it has said nothing new
	mustInsert(t, w, draft("2"))
	r.want(t, "", nil)
	if err := w.tell(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.want(t, "2 ", nil)
	r.want(t, "", nil)
	mustInsert(t, w, draft("3"))
	r.want(t, "", nil)
	b.askSilent = 0
	r.want(t, "3 ", nil)
}

// A server that begins goes on with the series of one that has ended, so that neither
// they nor what a reader has to ask for grow with every start. One that only reads says
// nothing at all.
func TestSeriesGoesOn(t *testing.T) {
	uri := server.Database(t)
	b := openAt(t, uri)
	r := &reader{store: b}
	count := func() int {
		t.Helper()
		docs, err := b.told(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(docs)
	}
	r.want(t, "", nil)
	if n := count(); n != 0 {
		t.Errorf("%d servers are known before any has written", n)
	}
	want := ""
	for i := range 3 {
		a := openAt(t, uri)
		for k := range 4 {
			id := fmt.Sprint(i, "-", k)
			mustAppend(t, a, id)
			want += id + " "
		}
		// A number with which nothing is stored is given again by the one that comes next.
		if i == 1 {
			a.writer.series.take(1)
			mustAppend(t, a, "behind")
			want += "behind "
			a.writer.series.giveBack(9)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		r.want(t, want, nil)
		want = ""
		if r.asks(t) {
			t.Error("a reader that has all asks for more of a server that has ended")
		}
	}
	if n := count(); n != 1 {
		t.Errorf("%d servers are known, want the one series", n)
	}
	// Of one that was killed nobody knows whether it is still there.
	killed := newWriter(openAt(t, uri))
	mustInsert(t, killed, draft("killed"))
	mustAppend(t, openAt(t, uri), "another")
	r.want(t, "killed another ", nil)
	if n := count(); n != 2 {
		t.Errorf("%d servers are known, want 2", n)
	}
	anew := &reader{store: b}
	anew.want(t, "0-0 0-1 0-2 0-3 1-0 1-1 1-2 1-3 behind 2-0 2-1 2-2 2-3 killed another ", nil)
	anew.want(t, "", nil)
}

// asks reports whether the reader would ask for entries of anybody.
func (r *reader) asks(t *testing.T) bool {
	t.Helper()
	v, err := readVector(r.at)
	if err != nil {
		t.Fatal(err)
	}
	f := &feedReader{store: r.store, at: v}
	if _, err := f.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	return len(f.ask) > 0
}

// Two servers that write to one history in turn are given in the history's order,
// whatever the order of their names and numbers.
func TestFeedKeepsOrder(t *testing.T) {
	a, b := two(t)
	r := &reader{store: a}
	mustAppend(t, a, "0")
	r.want(t, "0 ", nil)
	want := ""
	for i := range 40 {
		id := fmt.Sprint(i + 1)
		mustAppend(t, []*Store{a, b}[i/3%2], id)
		want += id + " "
	}
	r.want(t, want, nil)
}

// A reader that was cut off at the very end of what was there goes on with what is
// new, wherever that lies.
func TestFeedCutAtTheEnd(t *testing.T) {
	a, b := two(t)
	for i := range feedPage {
		mustAppend(t, a, fmt.Sprint(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	f := ledger.NewFollower(b, "", func(ledger.Entry) error {
		if n++; n == feedPage-1 {
			cancel() // so that nobody can ask what lies behind the last one
		}
		return nil
	})
	if err := f.CatchUp(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	first := draft("before all others")
	first.History = ledger.Accesses
	if _, _, err := a.Append(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := f.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n < feedPage+1 {
		t.Errorf("got %d entries of %d", n, feedPage+1)
	}
}

// A server that begins to write while another reads everything is given whole, once and
// in order, however its numbers lie scattered over the histories.
func TestFeedOfANewServer(t *testing.T) {
	a, b := two(t)
	const histories, each = 30, 40
	of := func(h int, id string) ledger.Draft {
		d := draft(id)
		d.History = ledger.History(fmt.Sprintf("site/%02d", h))
		return d
	}
	for h := range histories {
		mustAppendDraft(t, a, of(h, "0"))
	}
	heads := map[ledger.History]ledger.Head{}
	var at ledger.Cursor
	take := func(e ledger.FeedEntry) {
		t.Helper()
		head, err := heads[e.History].Follow(e.Entry)
		if err != nil {
			t.Fatal(err)
		}
		heads[e.History] = head
	}
	var id string
	first := true
	for e, err := range b.Feed(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if first {
			// Most of it is met in the order of histories, and the rest by its number.
			w := newWriter(a)
			for i := range each {
				for h := range histories {
					mustInsert(t, w, of(h, fmt.Sprint(i+1)))
				}
			}
			id = w.id
			first = false
		}
		take(e)
		at = e.After()
	}
	for e, err := range b.Feed(t.Context(), at) {
		if err != nil {
			t.Fatal(err)
		}
		take(e)
	}
	for h, head := range heads {
		if head.Sequence != each+1 {
			t.Errorf("%s was given up to %d, want %d", h, head.Sequence, each+1)
		}
	}
	// One whose numbers are nearly all gaps is gone through, not asked for each.
	v := &vector{writers: map[string]*position{id: {}}}
	for n := int64(2); n <= histories*each; n += 2 {
		v.writers[id].add(n)
	}
	r := &feedReader{store: b, at: v, sifted: map[string]int64{}, ask: []string{id}}
	found := 0
	for more := true; more; {
		var docs []entryDoc
		var err error
		if docs, more, err = r.next(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			v.addMark(d.Mark)
		}
		found += len(docs)
	}
	if found != histories*each/2 {
		t.Errorf("%d were found in the gaps, want %d", found, histories*each/2)
	}
}

// A reader with more gaps than one query can ask about gets what lies in any of them.
func TestFeedOfManyGaps(t *testing.T) {
	a, b := two(t)
	w := newWriter(a)
	mustInsert(t, w, draft("1"))
	const count = 3 * maxGaps
	v := &vector{writers: map[string]*position{w.id: {}}}
	for n := int64(1); n < 2*count; n += 2 {
		v.writers[w.id].add(n)
	}
	w.series.given = 2*count - 3
	mustInsert(t, w, draft("in the last gap but one"))
	w.series.given = 2 * count
	mustInsert(t, w, draft("behind all"))
	r := &reader{store: b, at: v.cursor()}
	if got, err := r.next(t); got != "in the last gap but one behind all " {
		t.Errorf("got %q, %v", got, err)
	}
}
