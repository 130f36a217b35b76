package sqlitestore

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
)

const (
	// These know of rows where the end of the table cannot be read.
	lastIndexed = `SELECT entry FROM indexed`
	lastPlaced  = `SELECT max(entry) FROM places`

	// entriesFrom begins at a row and not behind one, which may lie on a page that cannot
	// be read.
	entriesFrom = `SELECT ` + entryColumns + `, e.entry, e.history FROM entries e WHERE e.entry >= ? ORDER BY e.entry`

	// damageAhead is how many rows behind those that are known of are looked for where
	// the end of the table cannot be read.
	damageAhead = 20_000
)

// Stored calls each with every entry as it is stored, in the order in which they came.
// Nothing of it was verified. It goes on behind what cannot be read, and calls damage
// with what that is. Slices are only lent.
func (s *Store) Stored(ctx context.Context, each func(ledger.Entry) error, damage func(string)) error {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.borrow(ctx, func(conn *sqlite.Conn) error {
		names := historyCache{}
		err := names.fill(conn)
		if unreadable(err) {
			damage(fmt.Sprintf("the names of histories cannot all be read: %v", err))
		} else if err != nil {
			return err
		}
		last := int64(0)
		renamed := map[int64]bool{}
		// take gives an entry its history. Where the name was changed and not the records,
		// theirs counts.
		take := func(e ledger.Entry, row int64) (err error) {
			if e.History = names[row]; !saysHistory(e.Record, e.History) {
				before := e.History
				if e.History, err = names.nameOf(conn, row, e.Record); err != nil {
					return err
				}
				if names[row] != before && !renamed[row] {
					renamed[row] = true
					damage(fmt.Sprintf("the name of the history %s was changed to %q; a server puts that right", e.History, before))
				}
			}
			return each(e)
		}
		for {
			n, err := storedAfter(ctx, conn, &last, take)
			switch {
			case err == nil && n < feedPage:
				return nil
			case err == nil:
				continue
			case !unreadable(err):
				return err
			}
			// From the row that cannot be read to the next one that can.
			end, bound := last+1, endOfRows(conn)
			for end <= bound && !readable(conn, end) {
				end++
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			if end == last+1 {
				return err // it can be read, and yet not be read along
			}
			if end > bound {
				damage(fmt.Sprintf("the entries behind row %d cannot be read: %v", last, err))
				return nil
			}
			damage(fmt.Sprintf("the entries in rows %d to %d cannot be read: %v", last+1, end-1, err))
			last = end - 1
		}
	})
}

// storedAfter calls each with a page of the entries behind the last row, which it moves,
// and the rows of their histories.
func storedAfter(ctx context.Context, conn *sqlite.Conn, last *int64, each func(ledger.Entry, int64) error) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var records arena
	var failed error
	from := *last + 1
	err = query(conn, entriesFrom, feedPage, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, from) }, func(stmt *sqlite.Stmt) {
		if n++; failed != nil {
			return
		}
		records = records[:0]
		failed = each(readEntry(stmt, "", records.record(stmt)), stmt.ColumnInt64(8))
		*last = stmt.ColumnInt64(7)
	})
	if failed != nil {
		return n, failed
	}
	return n, err
}

// unreadable reports whether the error says that a part of the file is damaged.
func unreadable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	code := sqlite.ErrCode(err).ToPrimary()
	return code == sqlite.ResultCorrupt || code == sqlite.ResultNotADB || code == sqlite.ResultIOErr
}

// readable reports whether there is an entry in the row that can be read.
func readable(conn *sqlite.Conn, row int64) (there bool) {
	err := query(conn, `SELECT length(record) FROM entries WHERE entry = +?`, 1,
		func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row) }, func(*sqlite.Stmt) { there = true })
	return err == nil && there
}

// endOfRows returns a row behind which there is surely nothing.
func endOfRows(conn *sqlite.Conn) (last int64) {
	for _, sql := range []string{lastEntry, lastIndexed, lastPlaced} {
		err := query(conn, sql, 1, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) { last = max(last, stmt.ColumnInt64(0)) })
		if err == nil && sql == lastEntry {
			return last
		}
	}
	return last + damageAhead
}
