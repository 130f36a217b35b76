package sqlitestore

import (
	"context"
	"fmt"
	"math"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
)

const (
	// checkPage is how many entries are checked at a time, so that no read lasts long.
	checkPage = 250

	historiesPaged = `SELECT id, name FROM histories NOT INDEXED WHERE id > ? ORDER BY id`
	placesPaged    = `SELECT place, entry FROM places WHERE place > ? ORDER BY place`
	oldIDAt        = `SELECT entry FROM ids WHERE history = +? AND id = +?`
)

// A checker compares the indexes with the entries. The entries are what counts.
type checker struct {
	store  *Store
	ctx    context.Context
	names  historyCache
	fault  func(ledger.History, ledger.Sequence, string)
	report func(what string, mended bool)
	broken map[string]bool // the indexes that cannot be read
	// last tells that what does not lead to its entry is not made anew any more, and
	// mends how many were in this pass.
	last  bool
	mends int
	// prev is the place that was checked last.
	prev int64
}

// passes is how often entries are checked at most while index rows are made anew: where a
// page of an index is damaged, one row that is put right may hide others.
const passes = 3

// CheckIndexes looks for each entry whether its history, its sequence and its id lead to
// it, and for each place whether it leads to its entry. It calls pause after every few of
// them. An index row that is wrong is made anew, because what is in it follows from the
// entry, and reported. What cannot be made anew, or leads to an entry that is gone, is a
// fault of its history. An index that cannot be read is reported once, as not mended.
func (s *Store) CheckIndexes(ctx context.Context, pause func(entries int) error, fault func(h ledger.History, q ledger.Sequence, why string), report func(what string, mended bool)) error {
	c := &checker{store: s, ctx: ctx, names: historyCache{}, fault: fault, report: report, broken: map[string]bool{}}
	if err := c.all(c.checkNames, pause); err != nil {
		return err
	}
	if err := c.checkUnindexed(); err != nil {
		return err
	}
	for i := range passes {
		c.mends, c.last = 0, i == passes-1
		for _, check := range []func(int64) (int64, int, error){c.checkEntries, c.checkPlaces} {
			if err := c.all(check, pause); err != nil {
				return err
			}
		}
		if c.mends == 0 {
			break
		}
	}
	return nil
}

// checkUnindexed checks that the entries are there that are in memory alone and in no
// index, of which nothing else would tell that the newest are gone.
func (c *checker) checkUnindexed() error {
	for _, row := range c.store.recent.unindexedRows() {
		err := c.store.read(c.ctx, func(conn *sqlite.Conn) error {
			_, _, found, err := readRow(conn, row.entry)
			if err == nil && !found {
				c.fault(row.History, row.Sequence, "it is missing, and was stored since the indexes were brought up to date")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// all lets a check go through all that it is about, a part at a time.
func (c *checker) all(check func(after int64) (next int64, n int, err error), pause func(int) error) error {
	c.prev = 0
	for at := int64(0); ; {
		next, n, err := check(at)
		if err != nil {
			return err
		}
		if next <= at {
			return nil
		}
		at = next
		if err := pause(n); err != nil {
			return err
		}
	}
}

// isBroken reports whether the error is of an index that cannot be read, which is told
// once.
func (c *checker) isBroken(index string, err error) bool {
	if !isDamage(err) {
		return false
	}
	if !c.broken[index] {
		c.broken[index] = true
		c.report("the index "+index, false)
	}
	return true
}

// checkNames checks some histories behind a row, whether their names lead to them.
func (c *checker) checkNames(after int64) (next int64, n int, err error) {
	next = after
	err = c.store.read(c.ctx, func(conn *sqlite.Conn) error {
		var rows []int64
		err := query(conn, historiesPaged, checkPage, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, after) }, func(stmt *sqlite.Stmt) {
			row := stmt.ColumnInt64(0)
			rows, n, next = append(rows, row), n+1, max(next, row)
			c.names[row] = ledger.History(stmt.ColumnText(1))
		})
		if c.isBroken("of names", err) {
			err = nil
		}
		for _, row := range rows {
			if err != nil {
				break
			}
			name := c.names[row]
			found, failed := historyRow(conn, name)
			if failed != nil && !isDamage(failed) {
				return failed
			}
			if found == row && failed == nil {
				continue
			}
			// What the history is called, its first entry says.
			said := name
			first := int64(0)
			if err := query(conn, placeAt, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row<<32|1) }, func(stmt *sqlite.Stmt) { first = stmt.ColumnInt64(0) }); err != nil && !isDamage(err) {
				return err
			}
			if e, _, ok, err := readRow(conn, first); err == nil && ok {
				if h, _, ok := historyIn(e.Record); ok {
					said = h
				}
			}
			c.names[row] = said
			c.fault(said, 1, "the index of names does not lead to this history; xuncha copy to a new folder makes it anew")
		}
		return err
	})
	return next, n, err
}

// checkEntries checks the entries of some rows behind one, whether the indexes lead to
// them.
func (c *checker) checkEntries(after int64) (next int64, n int, err error) {
	type wrong struct {
		row, place, slot int64
		noPlace, noSlot  bool
		e                ledger.Entry
	}
	var list []wrong
	next = after
	err = c.store.read(c.ctx, func(conn *sqlite.Conn) error {
		indexed, err := number(conn, `SELECT coalesce(max(entry), 0) FROM indexed`)
		if c.isBroken("indexed", err) {
			indexed, err = math.MaxInt, nil // to index what is not yet is no harm
		}
		if err != nil {
			return err
		}
		last, err := lastKnownRow(conn)
		if err != nil {
			return err
		}
		end := min(after+checkPage, int64(indexed), last)
		n = int(max(0, end-after))
		next = max(after, end)
		lost := 0
		defer func() {
			if err == nil && n > 0 && lost == n {
				// Numbers have no gaps, so one was changed: on with the next that there is.
				jump := int64(0)
				if failed := query(conn, entriesAfter, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, end) }, func(stmt *sqlite.Stmt) { jump = stmt.ColumnInt64(7) - 1 }); failed == nil && jump == 0 {
					next = after // there is none
				}
				next = max(next, jump)
			}
		}()
		for row := after + 1; row <= end; row++ {
			e, history, found, err := readRow(conn, row)
			if err != nil {
				return err
			}
			if !found {
				lost++
				continue // which its history tells
			}
			if e.History, err = c.names.nameOf(conn, history, e.Record); err != nil {
				return err
			}
			if c.names[history] != e.History {
				if own, err := historyRow(conn, e.History); err == nil && own != 0 {
					history = own // the number of its history was changed
				}
			}
			if !e.Whole() {
				continue
			}
			w := wrong{row: row, e: e, place: history<<32 | int64(e.Sequence), slot: c.store.ids.slotOf(e.History, e.ID)}
			at := int64(0)
			err = query(conn, placeAt, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, w.place) }, func(stmt *sqlite.Stmt) { at = stmt.ColumnInt64(0) })
			switch {
			case c.isBroken("of places", err):
				c.fault(e.History, e.Sequence, "the index of its entries cannot be read; xuncha copy to a new folder makes it anew")
			case err != nil:
				return err
			default:
				w.noPlace = at != row
				if w.noPlace && at != 0 && at < row {
					older, of, found, err := readRow(conn, at)
					if err != nil {
						return err
					}
					// Of two at one place, the older one has it; whoever verifies names the other.
					older.History = e.History
					w.noPlace = !found || of != history || older.Sequence != e.Sequence || !older.Whole()
				}
			}
			found, err = c.slotLeads(conn, w.slot, row, history, e.ID)
			if err != nil && !c.isBroken("of ids", err) {
				return err
			}
			if w.noSlot = err == nil && !found; w.noPlace || w.noSlot {
				list = append(list, w)
			}
		}
		return nil
	})
	for _, w := range list {
		if err != nil {
			break
		}
		if c.last {
			c.fault(w.e.History, w.e.Sequence, "an index does not lead to it, and cannot be made anew here; xuncha copy to a new folder does")
			continue
		}
		c.mends++
		err = c.store.write(c.ctx, func(wr *writer) error {
			if w.noPlace {
				// Also where a number was changed by which it would be found.
				if err := wr.bound(`DELETE FROM places WHERE entry = ?`, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, w.row) }); err != nil {
					return forJob(w.e.History, err)
				}
				if err := wr.bound(`INSERT INTO places (place, entry) VALUES (?, ?) ON CONFLICT DO UPDATE SET entry = excluded.entry`, func(stmt *sqlite.Stmt) {
					stmt.BindInt64(1, w.place)
					stmt.BindInt64(2, w.row)
				}); err != nil {
					return forJob(w.e.History, err)
				}
			}
			if w.noSlot {
				if err := wr.bound(`DELETE FROM slots WHERE entry = ?`, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, w.row) }); err != nil {
					return forJob(w.e.History, err)
				}
				wr.ids.add(w.slot)
				if err := wr.fillSlot(w.slot, w.row); err != nil {
					return forJob(w.e.History, err)
				}
			}
			delete(wr.heads, w.e.History)
			return nil
		})
		if err == nil {
			c.report(fmt.Sprintf("%s at sequence %d", w.e.History, w.e.Sequence), true)
		} else if isAltered(err) {
			c.fault(w.e.History, w.e.Sequence, "an index does not lead to it, and cannot be made anew here; xuncha copy to a new folder does")
			err = nil
		}
	}
	return next, n, err
}

// slotLeads reports whether the id leads to the row.
func (c *checker) slotLeads(conn *sqlite.Conn, slot, row, history int64, id string) (found bool, err error) {
	for ; ; slot++ {
		at, taken := int64(0), false
		err := query(conn, slotEntry, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, slot) }, func(stmt *sqlite.Stmt) { at, taken = stmt.ColumnInt64(0), true })
		if err != nil || taken && at == row {
			return taken, err
		}
		if !taken {
			break
		}
	}
	if c.store.ids.old {
		err = query(conn, oldIDAt, 1, func(stmt *sqlite.Stmt) {
			stmt.BindInt64(1, history)
			stmt.BindText(2, id)
		}, func(stmt *sqlite.Stmt) { found = stmt.ColumnInt64(0) == row })
	}
	return found, err
}

// checkPlaces checks some places behind one, whether they lead to their entries.
func (c *checker) checkPlaces(after int64) (next int64, n int, err error) {
	next = after
	var wrong []int64
	err = c.store.read(c.ctx, func(conn *sqlite.Conn) error {
		var places, rows []int64
		err := query(conn, placesPaged, checkPage, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, after) }, func(stmt *sqlite.Stmt) {
			places, rows = append(places, stmt.ColumnInt64(0)), append(rows, stmt.ColumnInt64(1))
		})
		if c.isBroken("of places", err) {
			// What is behind it is found by each entry's own place, unless nothing tells how
			// many there are.
			for row, name := range c.names {
				if _, err := topPlace(conn, row); isDamage(err) {
					c.fault(name, 1, "the index of its entries cannot be read; xuncha copy to a new folder makes it anew")
				}
			}
		} else if err != nil {
			return err
		}
		for i, place := range places {
			n++
			next = max(next, place)
			name, _ := c.names.name(conn, place>>32)
			if err := c.checkOrder(conn, place, name); err != nil {
				return err
			}
			q := ledger.Sequence(place & maxSequence)
			e, history, found, err := readRow(conn, rows[i])
			if err != nil {
				return err
			}
			h, said, ok := historyIn(e.Record)
			switch {
			case !found:
				if name != "" {
					c.fault(name, q, "it is missing, and the index of entries knows it")
				}
			case name == h && said == q, history == place>>32 && e.Sequence == q:
			case ok && e.Sequence == said:
				wrong = append(wrong, place)
			}
		}
		return nil
	})
	for _, place := range wrong {
		if err != nil {
			break
		}
		if c.mends++; c.last {
			name := c.names[place>>32]
			c.fault(name, ledger.Sequence(place&maxSequence), "the index of its entries leads to another entry; xuncha copy to a new folder makes it anew")
			continue
		}
		// Its entry has its own place, which was made anew where it lacked it.
		err = c.store.write(c.ctx, func(w *writer) error {
			clear(w.heads)
			return w.bound(`DELETE FROM places WHERE place = ?`, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, place) })
		})
		if err == nil {
			c.report(fmt.Sprintf("place %d of history %d", place&math.MaxUint32, place>>32), true)
		}
	}
	return next, n, err
}

// checkOrder checks that a place follows from the one that was checked before it: the
// places of a history have no gaps, and end with its newest. One of no history is no harm.
func (c *checker) checkOrder(conn *sqlite.Conn, place int64, name ledger.History) error {
	before := c.prev
	c.prev = place
	if place == before+1 || !c.last && c.mends > 0 {
		return nil
	}
	if before>>32 > 0 {
		top, err := topPlace(conn, before>>32)
		if err != nil && !isDamage(err) {
			return err
		}
		if last := ledger.Sequence(before & maxSequence); top != before && c.names[before>>32] != "" {
			c.fault(c.names[before>>32], last, "the index of its entries is not in order there; xuncha copy to a new folder makes it anew")
		}
	}
	if name != "" && (place>>32 <= before>>32 || place&maxSequence != 1) {
		c.fault(name, ledger.Sequence(place&maxSequence), "the index of its entries is not in order there; xuncha copy to a new folder makes it anew")
	}
	return nil
}
