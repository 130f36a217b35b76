package sqlitestore

import (
	"cmp"
	"math"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"
)

const (
	// indexedEach is how many steps of an indexing a commit does for each of its
	// writes, so that indexing is quicker than what comes meanwhile; leastIndexed is
	// how many at least.
	indexedEach, leastIndexed = 4, 256
	// quietIndexed is how many it does where nobody has written for quietAfter.
	quietIndexed = 2048
	quietAfter   = 30 * time.Second
)

// An indexing is the work of bringing the indexes up to date with some entries: first
// all their places, then all their slots, each in its own order, so that what lies
// on one page is written together. Each commit does a part of it, so that no write
// waits for all of it. After a crash it begins anew; what is there already stays.
type indexing struct {
	rows []indexRow
	last int64 // the newest entry among them
	done int   // how many places, and then slots, are committed
	// bySlot tells how the rows are sorted.
	bySlot bool
}

func newIndexing(rows []indexRow) *indexing {
	i := &indexing{rows: slices.Clone(rows), last: rows[len(rows)-1].entry}
	slices.SortFunc(i.rows, func(a, b indexRow) int {
		return cmp.Or(cmp.Compare(a.history, b.history), cmp.Compare(a.Sequence, b.Sequence))
	})
	return i
}

// indexSome does up to n steps of the indexing that is under way, or begins one where
// enough entries wait. It returns how far it is once the transaction is committed.
func (w *writer) indexSome(n int) (done int, err error) {
	if w.indexing == nil {
		if waiting := len(w.recent.unindexed); waiting == 0 || waiting < w.mostUnindexed && !w.quiet {
			return 0, nil
		}
		w.indexing = newIndexing(w.recent.unindexed)
	}
	i := w.indexing
	count := len(i.rows)
	if i.done < count {
		done = min(i.done+n, count)
		for _, row := range i.rows[i.done:done] {
			if !hasPlace(row.Sequence) {
				continue
			}
			if err := w.bound(`INSERT INTO places (place, entry) VALUES (?, ?) ON CONFLICT DO NOTHING`, func(stmt *sqlite.Stmt) {
				stmt.BindInt64(1, row.history<<32|int64(row.Sequence))
				stmt.BindInt64(2, row.entry)
			}); err != nil {
				return 0, err
			}
		}
		return done, nil
	}
	if !i.bySlot {
		slices.SortFunc(i.rows, func(a, b indexRow) int {
			return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.entry, b.entry))
		})
		i.bySlot = true
	}
	done = min(i.done+n, 2*count)
	for _, row := range i.rows[i.done-count : done-count] {
		if err := w.fillSlot(row.slot, row.entry); err != nil {
			return 0, err
		}
	}
	if done == 2*count {
		err = w.bound(`UPDATE indexed SET entry = ?`, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, i.last) })
	}
	return done, err
}

// quietSteps is how many steps a transaction does that was begun to index.
func (w *writer) quietSteps() int {
	if w.quiet {
		return quietIndexed
	}
	return 0
}

// fillSlot puts the entry into its slot, or the next one that is free. It may be
// there already.
func (w *writer) fillSlot(slot, entry int64) error {
	for ; ; slot++ {
		if err := w.bound(`INSERT INTO slots (slot, entry) VALUES (?, ?) ON CONFLICT DO NOTHING`, func(stmt *sqlite.Stmt) {
			stmt.BindInt64(1, slot)
			stmt.BindInt64(2, entry)
		}); err != nil {
			return err
		}
		if w.conn.Changes() > 0 {
			return nil
		}
		there := int64(0)
		err := query(w.conn, `SELECT entry FROM slots WHERE slot = +?`, 1,
			func(stmt *sqlite.Stmt) { stmt.BindInt64(1, slot) },
			func(stmt *sqlite.Stmt) { there = stmt.ColumnInt64(0) })
		if err != nil || there == entry {
			return err
		}
	}
}

// indexedUpTo notes how far a committed transaction has come with the indexing.
func (w *writer) indexedUpTo(done int) {
	i := w.indexing
	if i == nil {
		return
	}
	if i.done = done; done == 2*len(i.rows) {
		w.recent.indexed(len(i.rows))
		w.indexing = nil
	}
}

// indexAll brings the indexes up to date with all entries, while nobody writes.
func (w *writer) indexAll() error {
	for len(w.recent.unindexed) > 0 && w.unindexable == nil {
		if w.indexing == nil {
			w.indexing = newIndexing(w.recent.unindexed)
		}
		if err := w.exec(`BEGIN IMMEDIATE`); err != nil {
			return err
		}
		done, err := w.indexSome(math.MaxInt / 4)
		if err == nil {
			err = w.exec(`COMMIT`)
		}
		if err != nil {
			return err // and closing rolls back
		}
		w.indexedUpTo(done)
	}
	return nil
}
