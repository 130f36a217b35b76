package sqlitestore

import (
	"context"
	"fmt"
	"iter"
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
		names := map[int64]ledger.History{}
		var records arena
		page := make([]ledger.Entry, 0, feedPage)
		rows := make([]int64, 0, feedPage)
		after := func() ledger.Cursor { return ledger.Cursor(cursorPrefix + strconv.FormatInt(row, 10)) }
		for {
			page, rows, records = page[:0], rows[:0], records[:0]
			err := s.read(ctx, func(conn *sqlite.Conn) error {
				return query(conn, entriesAfter, feedPage,
					func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row) },
					func(stmt *sqlite.Stmt) {
						name, ok := names[stmt.ColumnInt64(8)]
						if !ok {
							name = ledger.History(stmt.ColumnText(9))
							names[stmt.ColumnInt64(8)] = name
						}
						page = append(page, readEntry(stmt, name, records.record(stmt)))
						rows = append(rows, stmt.ColumnInt64(7))
					})
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
