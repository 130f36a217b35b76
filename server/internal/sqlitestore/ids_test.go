package sqlitestore

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"xuncha/ledger"
	"xuncha/sites"
)

// awaitFilter waits until the filter has all ids, once somebody has appended.
func awaitFilter(t *testing.T, s *Store) {
	t.Helper()
	s.filling.Wait()
	if !s.ids.whole.Load() {
		t.Fatal("the filter could not be filled")
	}
}

// mustIndex brings the indexes up to date, while nobody writes.
func mustIndex(t *testing.T, s *Store) {
	t.Helper()
	if err := s.writer.indexAll(); err != nil {
		t.Fatal(err)
	}
}

// Ids that have one slot, or lie in one another's, are told apart.
func TestSlotsCollide(t *testing.T) {
	few := func(_ ledger.History, id string) int64 { return int64(len(id) % 3) }
	dir := filepath.Join(t.TempDir(), "data")
	open := func() *Store {
		s, err := openWith(t.Context(), dir, Options{}, few)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	defer func() { s.Close() }()
	want := map[sites.SiteID][]ledger.Entry{}
	for round := range 3 {
		for i := range 40 {
			d := draft(fmt.Sprintf("%0*d", 1+i%7, round*40+i))
			id := sites.SiteID(fmt.Sprint(i % 2))
			d.History = id.History()
			want[id] = append(want[id], mustAppend(t, s, d))
		}
		check := func() {
			t.Helper()
			for id, entries := range want {
				wantWhole(t, s, id, entries)
			}
			if _, err := s.Entry(t.Context(), sites.SiteID("0").History(), "none"); err == nil {
				t.Error("an id that nobody used was found")
			}
		}
		check()
		mustIndex(t, s)
		awaitFilter(t, s)
		check()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
		check()
	}
}

// A folder that was indexed before there were slots goes on: its ids are found where
// they are, and those that come later in their slots.
func TestIDsOfVersion3(t *testing.T) {
	s := open(t)
	var want []ledger.Entry
	more := func(n int) {
		t.Helper()
		for range n {
			want = append(want, mustAppend(t, s, draft(fmt.Sprint("id ", len(want)))))
		}
	}
	more(50)
	mustExec(t, s.writer.conn, `INSERT INTO places SELECT history << 32 | sequence, entry FROM entries`)
	mustExec(t, s.writer.conn, `INSERT INTO ids SELECT history, id, entry FROM entries`)
	mustExec(t, s.writer.conn, `UPDATE indexed SET entry = 50`)
	mustExec(t, s.writer.conn, `DROP TABLE slots`)
	mustExec(t, s.writer.conn, `DROP TABLE notes`)
	mustExec(t, s.writer.conn, `PRAGMA user_version = 3`)
	s = reopen(t, s)
	wantWhole(t, s, site, want)
	awaitFilter(t, s)
	wantWhole(t, s, site, want)
	more(50)
	wantWhole(t, s, site, want)
	mustIndex(t, s)
	wantWhole(t, s, site, want)
	s = reopen(t, s)
	wantWhole(t, s, site, want)
	awaitFilter(t, s)
	more(1)
	wantWhole(t, s, site, want)
}

// The filter lacks nothing that was added, and most of what was not, also once it has
// more than it was made for.
func TestFilter(t *testing.T) {
	var f filter
	f.grow(leastRoom)
	random := rand.New(rand.NewPCG(1, 2))
	slots := make([]int64, 5*leastRoom)
	for i := range slots {
		slots[i] = random.Int64N(1 << 62)
	}
	if f.lacks(slots[0]) {
		t.Error("a filter that may not have all lacks an id")
	}
	f.whole.Store(true)
	f.add(slots...)
	for _, s := range slots {
		if f.lacks(s) {
			t.Fatalf("the slot %d was added and is lacked", s)
		}
	}
	const tries = 100_000
	wrong := 0
	for range tries {
		if !f.lacks(random.Int64N(1 << 62)) {
			wrong++
		}
	}
	if wrong > tries/20 {
		t.Errorf("%d of %d that were not added are not lacked", wrong, tries)
	}
	bits := 0
	for _, p := range f.parts {
		bits += len(p.lines) * 512
	}
	if bits > 20*len(slots) {
		t.Errorf("%d slots take %d bits, want at most 20 each", len(slots), bits)
	}
}
