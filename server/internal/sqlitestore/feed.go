package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
)

const (
	// feedPage is how many entries a feed reads at a time. A read that lasted as
	// long as the whole feed would keep the log from starting anew.
	feedPage = 1000
	// cursorPrefix begins a cursor; the number of the entry's row follows. Rows are
	// numbered as they come, and none is ever deleted.
	cursorPrefix = "sqlite:"
)

// readCursor returns the row behind which a cursor is.
func (s *Store) readCursor(ctx context.Context, c ledger.Cursor) (row int64, err error) {
	if c == "" {
		return 0, nil
	}
	digits, ours := strings.CutPrefix(string(c), cursorPrefix)
	row, err = strconv.ParseInt(digits, 10, 64)
	last := int64(0)
	if ours && err == nil && row > 0 {
		err := s.read(ctx, func(conn *sqlite.Conn) error {
			return query(conn, lastEntry, 1, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) { last = stmt.ColumnInt64(0) })
		})
		if err != nil {
			return 0, err
		}
	}
	if row < 1 || row > last {
		return 0, fmt.Errorf("%q: %w", c, ledger.ErrCursor)
	}
	return row, nil
}

// Feed implements ledger.Store.
func (s *Store) Feed(ctx context.Context, from ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		row, err := s.readCursor(ctx, from)
		if err != nil {
			yield(ledger.FeedEntry{}, err)
			return
		}
		names := historyCache{}
		var records arena
		page := make([]ledger.Entry, 0, feedPage)
		rows := make([]int64, 0, feedPage)
		after := func() ledger.Cursor { return ledger.Cursor(cursorPrefix + strconv.FormatInt(row, 10)) }
		for {
			page, rows, records = page[:0], rows[:0], records[:0]
			err := s.read(ctx, func(conn *sqlite.Conn) error {
				if from == "" && row == 0 {
					if err := names.fill(conn); err != nil {
						return err
					}
				}
				var missing error
				err := query(conn, entriesAfter, feedPage,
					func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row) },
					func(stmt *sqlite.Stmt) {
						name, err := names.name(conn, stmt.ColumnInt64(8))
						missing = errors.Join(missing, err)
						page = append(page, readEntry(stmt, name, records.record(stmt)))
						rows = append(rows, stmt.ColumnInt64(7))
					})
				return errors.Join(err, missing)
			})
			if err != nil {
				yield(ledger.FeedEntry{}, err)
				return
			}
			for i, e := range page {
				row = rows[i]
				if !yield(ledger.FeedEntry{Entry: e, After: after}, nil) {
					return
				}
			}
			if len(page) < feedPage {
				return
			}
		}
	}
}

// A historyCache has the names of histories by their rows. Looking each up again for
// every entry would take as long as reading the entries.
type historyCache map[int64]ledger.History

// fill reads all names, for whoever reads everything.
func (c historyCache) fill(conn *sqlite.Conn) error {
	return query(conn, historyNames, math.MaxInt, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) {
		c[stmt.ColumnInt64(0)] = ledger.History(stmt.ColumnText(1))
	})
}

// name returns the name of the history with the row.
func (c historyCache) name(conn *sqlite.Conn, row int64) (ledger.History, error) {
	if name, ok := c[row]; ok {
		return name, nil
	}
	err := query(conn, historyName, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row) },
		func(stmt *sqlite.Stmt) { c[row] = ledger.History(stmt.ColumnText(0)) })
	if err == nil && c[row] == "" {
		err = fmt.Errorf("%w: there is no history of the row %d", ledger.ErrBroken, row)
	}
	return c[row], err
}
