package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"xuncha/ledger"
)

// maxFound is how many findings of one kind are named.
const maxFound = 100

const (
	unplaced = `SELECT e.entry, e.history, e.sequence, e.record FROM entries e
		WHERE e.entry <= (SELECT entry FROM indexed) AND e.entry IN (SELECT entry FROM entries EXCEPT SELECT entry FROM places)`
	// A place of an entry that is not there is for whoever verifies the histories.
	misplaced = `SELECT p.place, p.entry, e.sequence, e.record FROM places p CROSS JOIN entries e ON e.entry = p.entry
		WHERE p.place != (e.history << 32 | e.sequence)`
	slotEntry  = `SELECT entry FROM slots WHERE slot = +?`
	oldIDTo    = `SELECT 1 FROM ids WHERE history = +? AND id = +? AND entry = +?`
	idsIndexed = `SELECT e.entry, e.history, e.id, e.record FROM entries e
		WHERE e.entry > ?1 AND e.entry <= (SELECT entry FROM indexed) ORDER BY e.entry`
)

// newestPlaced has, for each history, the greatest sequence that the index knows.
const newestPlaced = `SELECT h.name, p.place & 4294967295, p.entry FROM histories h CROSS JOIN places p
	ON p.place = (SELECT max(place) FROM places WHERE place BETWEEN h.id << 32 AND (h.id << 32) + 4294967295)`

// Lacking calls lacks with the histories that had entries behind the newest that is
// there, which newest returns, as far as the index tells.
func (s *Store) Lacking(ctx context.Context, newest func(ledger.History) ledger.Sequence, lacks func(ledger.History, ledger.Sequence)) error {
	for _, e := range s.doubts.missing() {
		if e.Sequence > newest(e.History) {
			lacks(e.History, e.Sequence)
		}
	}
	return s.read(ctx, func(conn *sqlite.Conn) error {
		type placed struct {
			ledger.Key
			entry int64
		}
		var list []placed
		err := query(conn, newestPlaced, math.MaxInt, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) {
			p := placed{ledger.Key{History: ledger.History(stmt.ColumnText(0)), Sequence: ledger.Sequence(stmt.ColumnInt64(1))}, stmt.ColumnInt64(2)}
			if p.Sequence > newest(p.History) {
				list = append(list, p)
			}
		})
		if unreadable(err) {
			return nil // CheckFile says it
		}
		for _, p := range list {
			if !readable(conn, p.entry) { // otherwise, the index is wrong
				lacks(p.History, p.Sequence)
			}
		}
		return err
	})
}

// CheckFile checks what SQLite itself knows of its file, whether the indexes agree with the
// entries, and whether the database has come as far as the mark beside it says. It calls found with what is wrong, and whether Reindex puts it right.
func (s *Store) CheckFile(ctx context.Context, found func(why string, reindex bool)) error {
	return s.read(ctx, func(conn *sqlite.Conn) error {
		conn.SetInterrupt(ctx.Done())
		defer conn.SetInterrupt(nil)
		whole := true
		err := sqlitex.ExecuteTransient(conn, fmt.Sprintf(`PRAGMA quick_check(%d)`, maxFound), &sqlitex.ExecOptions{
			ResultFunc: func(stmt *sqlite.Stmt) error {
				if text := stmt.ColumnText(0); text != "ok" {
					found("SQLite: "+text, false)
					whole = false
				}
				return nil
			},
		})
		n := 0
		if err == nil {
			err = checkIndexes(ctx, conn, s.ids, func(why string) {
				if n++; n <= maxFound {
					found(why, true)
				}
			})
		}
		if err == nil {
			// The entries may all verify, and the last of them be missing.
			var loss *LossError
			if _, _, err = checkEntries(conn, filepath.Dir(s.photos.dir), Options{PhotosFirst: true}); errors.As(err, &loss) {
				found(loss.Why, false)
				err = nil
			}
		}
		if n > maxFound {
			found(fmt.Sprintf("more that the indexes and the entries do not agree on: %d", n-maxFound), true)
		}
		if unreadable(err) {
			if whole {
				found(fmt.Sprintf("SQLite: %v", err), false)
			}
			return nil
		}
		return err
	})
}

// checkIndexes compares the indexes with the entries. An entry whose columns are not
// what its record says is for whoever verifies the histories.
func checkIndexes(ctx context.Context, conn *sqlite.Conn, i *ids, wrong func(string)) error {
	version, err := schemaVersion(conn, len(migrations))
	if err != nil {
		return err
	}
	names := map[int64]ledger.History{}
	err = query(conn, historyNames, math.MaxInt, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) {
		names[stmt.ColumnInt64(0)] = ledger.History(stmt.ColumnText(1))
	})
	if err != nil {
		return err
	}
	type row struct {
		entry, history, sequence int64
		record                   []byte
	}
	collect := func(sql string, history func(*sqlite.Stmt) int64, entry, sequence, record int) (out []row, err error) {
		return out, query(conn, sql, math.MaxInt, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) {
			r := row{stmt.ColumnInt64(entry), history(stmt), stmt.ColumnInt64(sequence), make([]byte, stmt.ColumnLen(record))}
			stmt.ColumnBytes(record, r.record)
			out = append(out, r)
		})
	}
	lacking, err := collect(unplaced, func(stmt *sqlite.Stmt) int64 { return stmt.ColumnInt64(1) }, 0, 2, 3)
	if err != nil {
		return err
	}
	for _, r := range lacking {
		// Where another one has the place, one of them was slipped in.
		taken := false
		sequences := placesFor(ledger.Sequence(r.sequence), names[r.history], r.record)
		if len(sequences) == 0 {
			continue // it has none
		}
		for _, q := range sequences {
			place := r.history<<32 | int64(q)
			err := query(conn, `SELECT 1 FROM places p CROSS JOIN entries e ON e.entry = p.entry WHERE p.place = +?`, 1,
				func(stmt *sqlite.Stmt) { stmt.BindInt64(1, place) }, func(*sqlite.Stmt) { taken = true })
			if err != nil {
				return err
			}
		}
		if !taken {
			wrong(fmt.Sprintf("the index places lacks the sequence %d of %s", r.sequence, names[r.history]))
		}
	}
	moved, err := collect(misplaced, func(stmt *sqlite.Stmt) int64 { return stmt.ColumnInt64(0) }, 1, 2, 3)
	if err != nil {
		return err
	}
	for _, r := range moved {
		history, sequence := names[r.history>>32], r.history&maxSequence
		if e, err := ledger.Parse(r.record); err == nil && int64(e.Sequence) == r.sequence {
			wrong(fmt.Sprintf("the index places has the sequence %d of %s in row %d, which is the sequence %d of %s", sequence, history, r.entry, e.Sequence, e.History))
		}
	}
	if version < len(migrations) {
		return nil // there are no slots yet
	}
	return checkSlots(ctx, conn, i, names, wrong)
}

// checkSlots looks up each entry by its id.
func checkSlots(ctx context.Context, conn *sqlite.Conn, i *ids, names map[int64]ledger.History, wrong func(string)) error {
	type row struct {
		entry, history int64
		id             string
		record         []byte
	}
	page := make([]row, 0, feedPage)
	for last := int64(0); ; last = page[len(page)-1].entry {
		if err := ctx.Err(); err != nil {
			return err
		}
		page = page[:0]
		err := query(conn, idsIndexed, feedPage, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, last) }, func(stmt *sqlite.Stmt) {
			r := row{stmt.ColumnInt64(0), stmt.ColumnInt64(1), stmt.ColumnText(2), make([]byte, stmt.ColumnLen(3))}
			stmt.ColumnBytes(3, r.record)
			page = append(page, r)
		})
		if err != nil {
			return err
		}
		for _, r := range page {
			found, err := isIndexed(conn, i, r.entry, r.history, names[r.history], r.id)
			if err != nil {
				return err
			}
			if found {
				continue
			}
			if e, err := ledger.Parse(r.record); err == nil && e.ID == r.id && e.History == names[r.history] {
				wrong(fmt.Sprintf("the index slots lacks the sequence %d of %s", e.Sequence, e.History))
			}
		}
		if len(page) < feedPage {
			return nil
		}
	}
}

// isIndexed reports whether an id is found in one of the indexes, with the entry or
// with an older one, as where one was slipped in that has the same id.
func isIndexed(conn *sqlite.Conn, i *ids, entry, history int64, name ledger.History, id string) (found bool, err error) {
	for slot := i.slotOf(name, id); ; slot++ {
		there := int64(0)
		err := query(conn, slotEntry, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, slot) },
			func(stmt *sqlite.Stmt) { there = stmt.ColumnInt64(0) })
		if err != nil {
			return false, err
		}
		if there == entry {
			return true, nil
		}
		if there == 0 {
			break
		}
	}
	err = query(conn, oldIDTo, 1, func(stmt *sqlite.Stmt) {
		stmt.BindInt64(1, history)
		stmt.BindText(2, id)
		stmt.BindInt64(3, entry)
	}, func(*sqlite.Stmt) { found = true })
	return found, err
}

// Reindex makes the indexes anew from the entries.
func (s *Store) Reindex(ctx context.Context) error {
	if err := s.indexNow(ctx); err != nil {
		return err
	}
	return s.write(ctx, func(w *writer) error { return w.reindex(ctx) })
}

// placesFor returns at which sequences an entry may have its place, the best one first.
// Where its column and its record say different ones, that is the lower one: nothing that
// comes later is to find its place taken. An entry may have none.
func placesFor(stored ledger.Sequence, h ledger.History, record []byte) []ledger.Sequence {
	said := stored
	if of, q, ok := historyIn(record); ok && of == h {
		said = q
	}
	out := []ledger.Sequence{min(stored, said), max(stored, said)}
	return slices.DeleteFunc(out, func(q ledger.Sequence) bool { return !hasPlace(q) })
}

// reindex gives each entry its place and its slot. Of two at one place, the older one has
// it.
func (w *writer) reindex(ctx context.Context) error {
	if w.indexing != nil || len(w.recent.unindexed) > 0 {
		return refused{fmt.Errorf("%w: entries wait to be indexed", ledger.ErrUnavailable)}
	}
	for _, sql := range []string{`DELETE FROM places`, `DELETE FROM slots`, `DELETE FROM ids`} {
		if err := w.exec(sql); err != nil {
			return err
		}
	}
	names := map[int64]ledger.History{}
	err := query(w.conn, historyNames, math.MaxInt, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) {
		names[stmt.ColumnInt64(0)] = ledger.History(stmt.ColumnText(1))
	})
	if err != nil {
		return err
	}
	type row struct {
		entry, history, slot int64
		sequences            []ledger.Sequence
	}
	for last := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var page []row
		err := query(w.conn, entriesAfter, feedPage, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, last) }, func(stmt *sqlite.Stmt) {
			history := stmt.ColumnInt64(8)
			e := readEntry(stmt, names[history], new(arena).record(stmt))
			last = stmt.ColumnInt64(7)
			page = append(page, row{last, history, w.ids.slotOf(e.History, e.ID), placesFor(e.Sequence, e.History, e.Record)})
		})
		if err != nil {
			return err
		}
		for _, r := range page {
			for _, q := range r.sequences {
				err := w.bound(`INSERT INTO places (place, entry) VALUES (?, ?) ON CONFLICT DO NOTHING`, func(stmt *sqlite.Stmt) {
					stmt.BindInt64(1, r.history<<32|int64(q))
					stmt.BindInt64(2, r.entry)
				})
				if err != nil {
					return err
				}
				if w.conn.Changes() > 0 {
					break
				}
			}
			if err := w.fillSlot(r.slot, r.entry); err != nil {
				return err
			}
		}
		if len(page) < feedPage {
			clear(w.heads)
			return w.bound(`UPDATE indexed SET entry = ?`, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, last) })
		}
	}
}

// PutAsIs implements ledger.AsIs. All of the entries are stored, or none.
func (s *Store) PutAsIs(ctx context.Context, entries []ledger.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	return s.write(ctx, func(w *writer) error {
		h := &knownHead{}
		err := query(w.conn, `SELECT id FROM histories WHERE name = +?`, 1,
			func(stmt *sqlite.Stmt) { stmt.BindText(1, string(entries[0].History)) },
			func(stmt *sqlite.Stmt) { h.row = stmt.ColumnInt64(0) })
		for i := 0; i < len(entries) && err == nil; i++ {
			err = w.insert(h, entries[i])
		}
		delete(w.heads, entries[0].History)
		return err
	})
}

// indexNow brings the indexes up to date with all that is stored.
func (s *Store) indexNow(ctx context.Context) error {
	for s.recent.waiting() > 0 {
		if err := s.indexQuietly(ctx); err != nil {
			return err
		}
	}
	return nil
}
