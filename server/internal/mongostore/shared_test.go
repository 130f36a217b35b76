package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/sites"
)

const site = sites.SiteID("00000000-0000-4000-8000-000000000001")

func draft(id string) ledger.Draft {
	return ledger.Draft{
		History: site.History(), ID: id, Kind: inspections.KindCheckIn, Time: time.Unix(1580515200, 0),
		Account: "local", Content: []byte(`{"finding":"closed"}`),
	}
}

func mustAppend(tb testing.TB, s *Store, id string) ledger.Entry {
	tb.Helper()
	e, existed, err := s.Append(tb.Context(), draft(id))
	if err != nil || existed {
		tb.Fatalf("existed %v, error %v", existed, err)
	}
	return e
}

// two opens one database twice, as two servers do.
func two(tb testing.TB) (a, b *Store) {
	tb.Helper()
	uri := server.Database(tb)
	return openAt(tb, uri), openAt(tb, uri)
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

// idle returns a writer of the store that the test runs itself.
func idle(s *Store, id string) *writer { return newWriter(s, id) }

// mustInsert has the writer store drafts together, and returns their jobs.
func mustInsert(t *testing.T, w *writer, drafts ...ledger.Draft) []*job {
	t.Helper()
	var all []*job
	for _, d := range drafts {
		all = append(all, &job{ctx: t.Context(), draft: d, done: make(chan error, 1)})
	}
	w.work(t.Context(), all)
	for _, j := range all {
		if err := <-j.done; err != nil {
			t.Errorf("%s %s: %v", j.draft.History, j.draft.ID, err)
		}
	}
	return all
}

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
	old := idle(a, "old")
	if err := old.tell(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := old.update(t.Context(), bson.D{is("$unset", bson.D{is("one", "")})}); err != nil {
		t.Fatal(err)
	}
	store := func(h ledger.History, id, writer string, n int64) {
		t.Helper()
		d := draft(id)
		d.History = h
		delete(old.heads, h)
		head, err := old.head(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.entries.InsertOne(t.Context(), document(head.Seal(d), markOf(writer, n))); err != nil {
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

// A number that is missing is waited for, however long it takes, and the reader is
// told; what follows is given meanwhile.
func TestFeedWaits(t *testing.T) {
	a, b := two(t)
	r := &reader{store: b}
	w := idle(a, "slow")
	mustInsert(t, w, draft("1"))
	r.want(t, "1 ", nil)
	// The second and third are slow.
	w.mark += 2
	mustInsert(t, w, draft("4"))
	r.want(t, "4 ", nil) // nobody knows yet whether the server is at work
	if err := w.tell(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.want(t, "", ledger.ErrWaiting)
	late := ledger.Head{}.Seal(ledger.Draft{History: "site/other", ID: "late", Kind: "check_in", Time: time.Unix(1580515200, 0), Content: []byte(`{}`)})
	if _, err := a.entries.InsertOne(t.Context(), document(late, markOf(w.id, 2))); err != nil {
		t.Fatal(err)
	}
	r.want(t, "late ", ledger.ErrWaiting)
	// The server finds out that the third will never come.
	if err := w.update(t.Context(), bson.D{is("$addToSet", bson.D{is("void", int64(3))})}); err != nil {
		t.Fatal(err)
	}
	r.want(t, "", nil)
	mustInsert(t, w, draft("5"))
	r.want(t, "5 ", nil)
}

// A server that is not told what has become of entries finds out before it stores
// others, whatever it was: that they were stored, were not, or never can be.
func TestUnsure(t *testing.T) {
	a, b := two(t)
	r := &reader{store: b}
	of := func(h ledger.History, id string) ledger.Draft {
		d := draft(id)
		d.History = h
		return d
	}
	w := idle(a, "w")
	mustInsert(t, w, of("site/x", "x1"), of("site/y", "y1"), of("site/z", "z1"))
	seal := func(d ledger.Draft) entryDoc {
		t.Helper()
		head, err := w.head(t.Context(), d.History)
		if err != nil {
			t.Fatal(err)
		}
		e := head.Seal(d)
		w.heads[d.History] = e.Head()
		w.mark++
		return document(e, markOf(w.id, w.mark))
	}
	stored, lost := seal(of("site/x", "x2")), seal(of("site/y", "y2"))
	taken, behind := seal(of("site/z", "z2")), seal(of("site/z", "z3"))
	if _, err := a.entries.InsertOne(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Append(t.Context(), of("site/z", "other's")); err != nil {
		t.Fatal(err)
	}
	w.unsure = []any{stored, lost, taken, behind}
	mustInsert(t, w, of("site/z", "z4"))
	r.want(t, "x1 x2 y1 y2 z1 other's z4 ", nil)
	if err := w.tell(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.want(t, "", nil) // and waits for nothing
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
	first := true
	for e, err := range b.Feed(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if first {
			// Most of it is met in the order of histories, and the rest by its number.
			w := idle(a, "new")
			for i := range each {
				for h := range histories {
					mustInsert(t, w, of(h, fmt.Sprint(i+1)))
				}
			}
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
	v := &vector{writers: map[string]*position{"new": {}}}
	for n := int64(2); n <= histories*each; n += 2 {
		v.writers["new"].add(n)
	}
	r := &feedReader{store: b, at: v, sifted: map[string]int64{}, ask: []string{"new"}}
	found := 0
	for more := true; more; {
		var docs []entryDoc
		var err error
		if docs, more, err = r.next(t.Context()); err != nil {
			t.Fatal(err)
		}
		found += len(docs)
	}
	if found != histories*each/2 {
		t.Errorf("%d were found in the gaps, want %d", found, histories*each/2)
	}
}

// What was read of the heads is not read again where the time ran out: on a slow
// database a server would otherwise begin anew for ever.
func TestColdHeads(t *testing.T) {
	a, b := two(t)
	const histories = 40
	var batch []*job
	for h := range histories {
		d := draft("first")
		d.History = ledger.History(fmt.Sprintf("site/%02d", h))
		mustAppendDraft(t, a, d)
		d.ID = "second"
		batch = append(batch, &job{ctx: t.Context(), draft: d, done: make(chan error, 1)})
	}
	w := idle(b, "cold")
	if err := w.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The time runs out in the midst of reading the heads.
	ctx, cancel := context.WithCancel(t.Context())
	batch[histories/2].ctx = cutting{t.Context(), cancel}
	for left := slices.Clone(batch); len(left) > 0; {
		left = w.insert(ctx, left)
	}
	failed := 0
	for _, j := range batch {
		if err := <-j.done; err != nil {
			failed++
		}
	}
	if failed == 0 || len(w.heads) < histories/2 {
		t.Errorf("%d failed, and %d heads are known, want at least %d", failed, len(w.heads), histories/2)
	}
	for h, head := range w.heads {
		if head.Sequence != 1 {
			t.Errorf("%s is thought to be at %d, and is at 1", h, head.Sequence)
		}
	}
}

// cutting is a caller's context that ends something when it is looked at.
type cutting struct {
	context.Context
	cut func()
}

func (c cutting) Err() error {
	c.cut()
	return c.Context.Err()
}

func mustAppendDraft(t *testing.T, s *Store, d ledger.Draft) {
	t.Helper()
	if _, _, err := s.Append(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// A reader with more gaps than one query can ask about gets what lies in any of them.
func TestFeedOfManyGaps(t *testing.T) {
	a, b := two(t)
	w := idle(a, "w")
	mustInsert(t, w, draft("1"))
	const count = 3 * maxGaps
	v := &vector{writers: map[string]*position{w.id: {}}}
	for n := int64(1); n < 2*count; n += 2 {
		v.writers[w.id].add(n)
	}
	w.mark = 2*count - 3
	mustInsert(t, w, draft("in the last gap but one"))
	w.mark = 2 * count
	mustInsert(t, w, draft("behind all"))
	r := &reader{store: b, at: v.cursor()}
	if got, err := r.next(t); got != "in the last gap but one behind all " {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestSchemaIsChecked(t *testing.T) {
	create := func(t *testing.T, s *Store, name string, unique bool, keys bson.D) {
		t.Helper()
		_, err := s.entries.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: keys, Options: options.Index().SetName(name).SetUnique(unique)})
		if err != nil {
			t.Fatal(err)
		}
	}
	drop := func(t *testing.T, s *Store) {
		t.Helper()
		if err := s.entries.Indexes().DropOne(t.Context(), "history_id"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*testing.T, *Store)
		keep   bool
		want   error
		says   string
	}{
		{"as it was", func(*testing.T, *Store) {}, true, nil, ""},
		{"missing", drop, false, nil, ""},
		{"missing and to be kept so", drop, true, ErrSchema, "history_id on [history:1 id:1]"},
		{"not unique", func(t *testing.T, s *Store) {
			drop(t, s)
			create(t, s, "mine", false, collections[0].indexes[1].keys)
		}, false, ErrSchema, "index mine on [history:1 id:1]"},
		{"other keys", func(t *testing.T, s *Store) {
			drop(t, s)
			create(t, s, "history_id", true, bson.D{{Key: "history", Value: 1}, {Key: "hash", Value: 1}})
		}, false, ErrSchema, "history_id on [history:1 hash:1], want it on [history:1 id:1]"},
		{"a newer version", func(t *testing.T, s *Store) {
			_, err := s.db.Collection("meta").UpdateOne(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "version", Value: 97}}}})
			if err != nil {
				t.Fatal(err)
			}
		}, false, ErrNewer, "schema version 97"},
	} {
		t.Run(c.name, func(t *testing.T) {
			uri := server.Database(t)
			c.change(t, openAt(t, uri))
			s, err := Open(t.Context(), uri, Options{KeepSchema: c.keep})
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v that says %q", err, c.want, c.says)
			}
			if err != nil {
				return
			}
			mustAppend(t, s, "a")
			if _, existed, err := s.Append(t.Context(), draft("a")); err != nil || !existed {
				t.Errorf("the same id: existed %v, error %v", existed, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	for uri, want := range map[string]string{
		"mongodb://db.example:27017/city?tls=true":      "mongodb://db.example:27017/city",
		"mongodb://u:geheim@a,b:2/city?replicaSet=r":    "mongodb://a,b:2/city",
		"mongodb+srv://u:ge%40heim@cluster.example":     "mongodb+srv://cluster.example",
		"mongodb://u:ge@heim@a/":                        "mongodb://a/",
		"mongodb://a/?authMechanismProperties=X:geheim": "mongodb://a/",
		"geheim": "(no address)",
		"mongodb://u:geheim@%2Ftmp%2Fmongodb-27017.sock/x": "mongodb://%2Ftmp%2Fmongodb-27017.sock/x",
	} {
		if got := Redact(uri); got != want {
			t.Errorf("%s: got %s, want %s", uri, got, want)
		}
	}
}

func TestWithoutSecrets(t *testing.T) {
	const uri = "mongodb://officer:ge%40heim@a/"
	for _, text := range []string{"dial officer:ge%40heim@a", "bad password ge@heim", "nothing to hide"} {
		got := withoutSecrets(uri, errors.New(text)).Error()
		if strings.Contains(got, "heim") || !strings.Contains(text, "heim") && got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// What passes may be tried again; a caller's own end is its own.
func TestTranslate(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want error // nil where it stays as it is
	}{
		{"no primary", mongo.CommandError{Code: 10107, Name: "NotWritablePrimary"}, ledger.ErrUnavailable},
		{"stepping down", mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 189}}}, ledger.ErrUnavailable},
		{"no majority", mongo.BulkWriteException{WriteConcernError: &mongo.WriteConcernError{Code: 64}}, ledger.ErrUnavailable},
		{"network", mongo.CommandError{Labels: []string{"NetworkError"}}, ledger.ErrUnavailable},
		{"no server", topology.ServerSelectionError{Wrapped: errors.New("nobody answers")}, ledger.ErrUnavailable},
		{"our own deadline", fmt.Errorf("find: %w", context.DeadlineExceeded), ledger.ErrUnavailable},
		{"disk full", mongo.CommandError{Code: 14031, Name: "OutOfDiskSpace"}, ledger.ErrFull},
		{"ours", fmt.Errorf("x: %w", ledger.ErrMoved), ledger.ErrMoved},
		{"anything else", mongo.CommandError{Code: 2, Name: "BadValue"}, nil},
	} {
		got := translate(t.Context(), c.err)
		if c.want == nil {
			if got.Error() != c.err.Error() || known(got) {
				t.Errorf("%s: got %v, want it as it is", c.name, got)
			}
		} else if !errors.Is(got, c.want) || errors.Is(got, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := translate(ended, mongo.CommandError{Code: 11601}); got != context.Canceled {
		t.Errorf("a caller that left: got %v", got)
	}
}

// Where another server took a place in the midst of a batch, what lies before
// it is stored, and the rest follows without a gap.
func TestBatchWithAPlaceTaken(t *testing.T) {
	a, b := two(t)
	of := func(name, id string) ledger.Draft {
		d := draft(id)
		d.History = ledger.History("site/" + name)
		return d
	}
	w := idle(a, "w")
	mustInsert(t, w, of("x", "first"))
	if _, _, err := b.Append(t.Context(), of("x", "other's")); err != nil {
		t.Fatal(err) // now w knows a head of x that is old
	}
	for _, j := range mustInsert(t, w, of("y", "1"), of("x", "1"), of("y", "2"), of("x", "other's"), of("x", "2"), of("z", "1")) {
		if j.existed != (j.draft.ID == "other's") {
			t.Errorf("%s %s: existed %v", j.draft.History, j.draft.ID, j.existed)
		}
	}
	for name, want := range map[ledger.History]int{"site/x": 4, "site/y": 2, "site/z": 1} {
		entries, err := b.Span(t.Context(), name, 0, 100)
		if err != nil || len(entries) != want {
			t.Errorf("%s: got %d entries and error %v, want %d", name, len(entries), err, want)
		}
		var head ledger.Head
		for _, e := range entries {
			if head, err = head.Follow(e); err != nil {
				t.Error(err)
			}
		}
	}
	// Others find all of it, in one feed or another.
	if w.mark != 6 {
		t.Errorf("%d entries are numbered, want 6", w.mark)
	}
}
