package sqlitestore

import (
	"cmp"
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
			last, err = lastKnownRow(conn)
			return err
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
			more, passed := false, int64(0)
			err := s.read(ctx, func(conn *sqlite.Conn) error {
				if from == "" && row == 0 {
					if err := names.fill(conn); err != nil && !isDamage(err) {
						return err
					}
				}
				var failed error
				next := row
				err := query(conn, entriesAfter, feedPage,
					func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row) },
					func(stmt *sqlite.Stmt) {
						// Rows have numbers without gaps. Where one is missing, more may be odd.
						if next++; stmt.ColumnInt64(7) != next || failed != nil {
							failed = cmp.Or(failed, errOddRow)
							return
						}
						record := records.record(stmt)
						e := readEntry(stmt, "", record)
						e.History, failed = names.nameOf(conn, stmt.ColumnInt64(8), record)
						if e.History == names[stmt.ColumnInt64(8)] {
							s.newest.note(stmt.ColumnInt64(8), sequenceIn(record, e.History))
						}
						page, rows = append(page, e), append(rows, next)
					})
				if err = cmp.Or(err, failed); err == nil {
					more = len(page) == feedPage
					return nil
				}
				if !isDamage(err) && !errors.Is(err, errOddRow) {
					return err
				}
				if more = true; len(page) > 0 {
					return nil // and the next page begins where it goes wrong
				}
				careful, err := s.readCarefully(conn, names, row)
				page, rows, passed = careful.entries, careful.rows, careful.next
				more = careful.next > row
				return err
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
			row = max(row, passed)
			if !more {
				break
			}
		}
		for _, e := range s.doubts.missing() {
			if !yield(ledger.FeedEntry{Entry: e, After: after}, nil) {
				return
			}
		}
	}
}

// errOddRow means that a row does not have the number that it should have.
var errOddRow = errors.New("a row is out of its order")

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
