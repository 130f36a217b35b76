package sqlitestore

import (
	"fmt"
	"slices"
	"testing"

	"xuncha/ledger"
)

// altering stores n entries of each of two sites, indexes them, and runs SQL that somebody
// could run.
func altering(t *testing.T, n int, sql ...string) *Store {
	t.Helper()
	s := open(t)
	for i := range n {
		for site := 1; site <= 2; site++ {
			mustAppend(t, s, flipDraft(site, i))
		}
	}
	s = reopen(t, s)
	for _, sql := range sql {
		mustExec(t, s.writer.conn, sql)
	}
	return reopen(t, s)
}

// indexFaults checks the indexes and returns what they are said to lack.
func indexFaults(t *testing.T, s *Store) (list []string) {
	t.Helper()
	err := s.CheckIndexes(t.Context(), func(int) error { return nil },
		func(h ledger.History, q ledger.Sequence, why string) {
			list = append(list, fmt.Sprint(h, " ", q, " ", why))
		},
		func(string, bool) {})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// An entry with a sequence that no place has room for, and whose record says none either,
// gets none among those of another history.
func TestPlacesOfFarSequences(t *testing.T) {
	for _, q := range []int64{-1, 0, 1 << 32, 1 << 40, 1 << 62} {
		s := altering(t, 3,
			`INSERT INTO entries (history, sequence, id, kind, time, account, hash, record)
				SELECT history, `+fmt.Sprint(q)+`, 'slipped in', kind, time, account, hash, x'00' FROM entries WHERE entry = 1`,
			`UPDATE indexed SET entry = 7`)
		if err := s.Reindex(t.Context()); err != nil {
			t.Fatal(err)
		}
		n, err := number(s.writer.conn, `SELECT count(*) FROM places`)
		if err != nil || n != 6 {
			t.Errorf("%d: got %d places for six entries, %v", q, n, err)
		}
		var found []string
		if err := s.CheckFile(t.Context(), func(why string, _ bool) { found = append(found, why) }); err != nil || len(found) > 0 {
			t.Errorf("%d: got %q, %v after the indexes were made anew", q, found, err)
		}
		if list := indexFaults(t, s); len(list) > 0 {
			t.Errorf("%d: got %q", q, list)
		}
	}
}

// A place that belongs to no history is nothing that a history could be named for.
func TestPlaceOfNoHistory(t *testing.T) {
	s := altering(t, 3, `INSERT INTO places (place, entry) VALUES (77 << 32 | 5, 3), (78 << 32 | 1, 4)`)
	if list := indexFaults(t, s); len(list) > 0 {
		t.Errorf("got %q", list)
	}
}

// A copy of an entry that somebody has put in hides none of those that come behind it, and
// takes nobody's place.
func TestCopyBehindTheNewest(t *testing.T) {
	for _, id := range []string{"id", "'another'"} {
		s := altering(t, 6, `INSERT INTO entries (history, sequence, id, kind, time, account, hash, record)
			SELECT history, sequence, `+id+`, kind, time, account, hash, CAST(replace(CAST(record AS TEXT), '"id":"' || id || '"', '"id":"' || `+id+` || '"') AS BLOB)
			FROM entries WHERE entry = 5`)
		if !slices.ContainsFunc(s.recent.unindexedRows(), func(r indexRow) bool { return r.past }) {
			t.Fatal("the copy is not whole")
		}
		h := flipHistory(1)
		for range 2 {
			newest, err := s.Newest(t.Context(), h, 0, 9)
			if err != nil || len(newest) != 6 || newest[0].Sequence != 6 {
				t.Errorf("got %d of the newest entries, %v; want all 6", len(newest), err)
			}
			all, err := s.Span(t.Context(), h, 0, 9)
			if err != nil || len(all) != 6 || all[5].Sequence != 6 {
				t.Errorf("got %d entries, %v; want all 6", len(all), err)
			}
			if e, existed, err := s.Append(t.Context(), flipDraft(1, 5)); err != nil || !existed || e.Sequence != 6 {
				t.Errorf("a repeat of the newest: got %d, %v, %v", e.Sequence, existed, err)
			}
			if err := s.indexNow(t.Context()); err != nil {
				t.Fatal(err)
			}
			if list := indexFaults(t, s); len(list) > 0 {
				t.Errorf("got %q; the copy is for whoever verifies the history", list)
			}
		}
		if e := mustAppend(t, s, flipDraft(1, 6)); e.Sequence != 7 {
			t.Errorf("the next one is at %d, want 7", e.Sequence)
		}
	}
}
