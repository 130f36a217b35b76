package sqlitestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"xuncha/ledger"
	"xuncha/sites"
)

// wantWhole reads everything of a site in every way and compares it with the
// entries that were acknowledged, oldest first.
func wantWhole(t *testing.T, s *Store, id sites.SiteID, want []ledger.Entry) {
	t.Helper()
	same := func(what string, got, want ledger.Entry) {
		t.Helper()
		if got.Sequence != want.Sequence || got.ID != want.ID || got.Hash != want.Hash || string(got.Record) != string(want.Record) {
			t.Fatalf("%s, %s: got sequence %d with the id %s, want %d with %s", id, what, got.Sequence, got.ID, want.Sequence, want.ID)
		}
	}
	before := ledger.Sequence(0)
	for at := len(want); at > 0; {
		page, err := s.Newest(t.Context(), id.History(), before, 17)
		if err != nil || len(page) != min(17, at) {
			t.Fatalf("%s before %d: got %d entries and error %v, want %d", id, before, len(page), err, min(17, at))
		}
		for _, e := range page {
			at--
			same("history", e, want[at])
		}
		before = page[len(page)-1].Sequence
	}
	var keys []ledger.Key
	for _, w := range want {
		e, err := s.Entry(t.Context(), id.History(), w.ID)
		if err != nil {
			t.Fatal(err)
		}
		same("by id", e, w)
		keys = append(keys, ledger.Key{History: id.History(), Sequence: w.Sequence})
		if e, existed, err := s.Append(t.Context(), ledger.Draft{History: id.History(), ID: w.ID}); err != nil || !existed {
			t.Fatalf("repeated id %s: existed %v, error %v", w.ID, existed, err)
		} else {
			same("repeated", e, w)
		}
	}
	list, err := s.Entries(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range list {
		same("by key", e, want[i])
	}
	_, err = s.Entries(t.Context(), []ledger.Key{{History: id.History(), Sequence: ledger.Sequence(len(want) + 1)}})
	if !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

// Whatever is indexed, waits to be, or is in memory: the answers are the same.
func TestIndexesLag(t *testing.T) {
	t.Parallel()
	const count = 250
	of := func(i int) sites.SiteID { return sites.SiteID(fmt.Sprintf("%03d", i)) }
	const most = 4096
	s := open(t)
	s.writer.mostUnindexed = most
	want := map[sites.SiteID][]ledger.Entry{}
	appendAll := func(from, to int) {
		t.Helper()
		calls := make([][]ledger.Entry, count)
		spread(count, func(i int) {
			for n := from; n < to; n++ {
				d := draft(fmt.Sprint("id ", n))
				d.History = of(i).History()
				e, existed, err := s.Append(t.Context(), d)
				if err != nil || existed {
					t.Errorf("existed %v, error %v", existed, err)
				}
				calls[i] = append(calls[i], e)
			}
		})
		for i, entries := range calls {
			want[of(i)] = append(want[of(i)], entries...)
		}
	}
	check := func() {
		t.Helper()
		for i := 0; i < count; i += 10 {
			wantWhole(t, s, of(i), want[of(i)])
		}
		if got := len(s.recent.unindexed); got >= 2*most {
			t.Errorf("%d entries are not indexed, want less than %d", got, 2*most)
		}
		if got := s.recent.count; got > maxRecent+2*most {
			t.Errorf("%d entries are in memory", got)
		}
	}
	appendAll(0, 5) // not indexed yet
	if got := len(s.recent.unindexed); got != 5*count {
		t.Errorf("%d entries are not indexed, want all %d", got, 5*count)
	}
	check()
	appendAll(5, 50) // indexed several times, and more than memory keeps
	if s.recent.forgotten == 0 {
		t.Error("nothing was given up")
	}
	check()
	s = reopen(t, s)
	check() // the newest are read again, the others remembered
	if s.recent.count == 0 {
		t.Error("nothing that was read is remembered")
	}
	appendAll(50, 53) // what was remembered goes on
	check()
}

// A newer roster entry is found, whether it is indexed or not.
func TestRosterAcrossTheIndexes(t *testing.T) {
	s := open(t)
	put := func(n int) {
		t.Helper()
		d := draft(fmt.Sprint("roster ", n))
		d.History = ledger.Roster
		if _, err := s.AppendAfter(t.Context(), ledger.Sequence(n-1), d); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= keepTail+20; n++ {
		put(n)
	}
	if err := s.writer.indexAll(); err != nil {
		t.Fatal(err)
	}
	put(keepTail + 21)
	for range 2 {
		for _, page := range []int{1, 7, 100} {
			var all []ledger.Entry
			for {
				next, err := s.Span(t.Context(), ledger.Roster, ledger.Sequence(len(all)), page)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, next...)
				if len(next) < page {
					break
				}
			}
			var head ledger.Head
			for _, e := range all {
				var err error
				if head, err = head.Follow(e); err != nil {
					t.Fatal(err)
				}
			}
			if head.Sequence != keepTail+21 {
				t.Errorf("in pages of %d: got up to %d, want %d", page, head.Sequence, keepTail+21)
			}
		}
		s = reopen(t, s)
	}
}

// Where bringing the indexes up to date fails, the whole transaction does, and
// all goes on once it can.
func TestIndexFails(t *testing.T) {
	t.Parallel()
	const most = 500
	s := open(t)
	s.writer.mostUnindexed = most
	mustExec(t, s.writer.conn, `CREATE TEMP TRIGGER disk_error BEFORE INSERT ON main.slots
		BEGIN SELECT RAISE(ROLLBACK, 'as a disk error would'); END`)
	var want []ledger.Entry
	add := func(id string) error {
		e, _, err := s.Append(t.Context(), draft(id))
		if err == nil {
			want = append(want, e)
		}
		return err
	}
	for err := error(nil); err == nil && len(want) < 2*most; {
		err = add(fmt.Sprint(len(want)))
	}
	if len(want) < most || len(want) == 2*most {
		t.Fatalf("%d entries were stored before the index failed", len(want))
	}
	refused := fmt.Sprint(len(want))
	if _, err := s.Entry(t.Context(), site.History(), refused); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if err := add("other"); err == nil {
		t.Error("got no error, want the index's")
	}
	wantNewest(t, s, want)
	mustExec(t, s.writer.conn, `DROP TRIGGER disk_error`)
	for len(s.recent.unindexed) > most {
		if err := add(fmt.Sprint(len(want))); err != nil {
			t.Fatal(err)
		}
	}
	wantWhole(t, s, site, want)
}

// wantNewest compares the newest entries with those that were acknowledged last.
func wantNewest(t *testing.T, s *Store, want []ledger.Entry) {
	t.Helper()
	got, err := s.Newest(t.Context(), site.History(), 0, 5)
	if err != nil || len(got) != 5 {
		t.Fatalf("got %d entries and error %v", len(got), err)
	}
	for i, e := range got {
		if w := want[len(want)-1-i]; e.Hash != w.Hash {
			t.Errorf("got sequence %d, want %d", e.Sequence, w.Sequence)
		}
	}
}

// The indexes are brought up to date a part at a time. The answers are the same after
// each part, also for whoever opens the folder after a crash there.
func TestIndexedInParts(t *testing.T) {
	t.Parallel()
	const most = 600
	s := open(t)
	s.writer.mostUnindexed = most
	var want []ledger.Entry
	more := func() { want = append(want, mustAppend(t, s, draft(fmt.Sprint(len(want))))) }
	for len(want) < most {
		more()
	}
	var seen []int
	for len(s.recent.unindexed) >= most {
		more()
		if i := s.writer.indexing; i != nil {
			seen = append(seen, i.done)
		}
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(dir, os.DirFS(filepath.Dir(s.lock.Name()))); err != nil {
			t.Fatal(err)
		}
		crashed := openIn(t, dir)
		wantNewest(t, crashed, want)
		wantWhole(t, crashed, site, want) // also before the rest is indexed
		if err := crashed.writer.indexAll(); err != nil {
			t.Fatal(err)
		}
		wantWhole(t, crashed, site, want)
		slots, err := number(crashed.writer.conn, `SELECT count(*) FROM slots`)
		if err != nil || slots != len(want) {
			t.Errorf("got %d slots for %d entries, and error %v", slots, len(want), err)
		}
	}
	if len(seen) < 5 || seen[1] <= seen[0] {
		t.Errorf("the parts ended at %v, want at least five", seen)
	}
	wantWhole(t, s, site, want)
}

// While nobody writes, all is indexed, and memory holds only the newest.
func TestIndexedWhileQuiet(t *testing.T) {
	s := open(t)
	var want []ledger.Entry
	for len(want) < 3*keepTail {
		want = append(want, mustAppend(t, s, draft(fmt.Sprint(len(want)))))
	}
	for range 2 { // the second time there is nothing to do
		if err := s.indexQuietly(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waiting, count := s.recent.waiting(), s.recent.count; waiting != 0 || count != keepTail {
			t.Errorf("%d entries wait and %d are in memory, want none and %d", waiting, count, keepTail)
		}
		wantWhole(t, s, site, want)
	}
	want = append(want, mustAppend(t, s, draft("later")))
	wantWhole(t, s, site, want)
}

// Entries that are gone, moved or put in leave what is in memory findable.
func TestRecentOfAnAlteredHistory(t *testing.T) {
	const h = ledger.History("site/x")
	all := func() (out []ledger.Entry) {
		var head ledger.Head
		for i := range 9 {
			e := head.Seal(ledger.Draft{History: h, ID: fmt.Sprint("id-", i+1), Kind: "check_in", Content: []byte(`{}`)})
			out, head = append(out, e), e.Head()
		}
		return out
	}()
	r := newRecent()
	// The third is gone, and the first six are indexed.
	r.remember(h, []ledger.Entry{all[5], all[4], all[3], all[1], all[0]}, 0)
	for _, i := range []int{7, 6, 8} {
		r.publish([]indexRow{{entryID: entryID{h, all[i].ID}}}, []ledger.Entry{all[i]})
	}
	for _, want := range all[6:] {
		if e, ok := r.byID(h, want.ID); !ok || e.ID != want.ID {
			t.Errorf("%s: got %s, %v", want.ID, e.ID, ok)
		}
	}
	tail, _ := r.tail(h)
	for after, want := range []string{"id-1", "id-2", "id-4", "id-4", "id-5", "id-6", "id-7", "id-8", "id-9"} {
		if at := behind(tail, ledger.Sequence(after)); at == len(tail) || tail[at].ID != want {
			t.Errorf("behind %d lies what is at %d of %d, want %s", after, at, len(tail), want)
		}
	}
	if at := behind(tail, 9); at != len(tail) {
		t.Errorf("behind the newest lies what is at %d of %d", at, len(tail))
	}
}

// The newest entries are in no index, and are missed all the same.
func TestNewestRemovedBehindTheServer(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range 3 {
		if _, _, err := s.Append(t.Context(), flipDraft(1, n)); err != nil {
			t.Fatal(err)
		}
	}
	found := func() (list []string) {
		err := s.CheckIndexes(t.Context(), func(int) error { return nil },
			func(h ledger.History, q ledger.Sequence, why string) { list = append(list, fmt.Sprint(h, " ", q)) },
			func(what string, mended bool) { list = append(list, what) })
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if list := found(); len(list) > 0 {
		t.Errorf("got %v, want nothing", list)
	}
	if err := s.write(t.Context(), func(w *writer) error { return w.exec(`DELETE FROM entries WHERE entry = 3`) }); err != nil {
		t.Fatal(err)
	}
	if list := found(); len(list) != 1 || list[0] != fmt.Sprint(flipHistory(1), " 3") {
		t.Errorf("got %v, want the newest", list)
	}
}
