package sqlitestore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/sites"
)

// maxSequence is the greatest sequence that a place has room for.
const maxSequence = 1<<32 - 1

const (
	entryColumns = `e.place, e.id, e.kind, e.time, e.account, e.hash, e.record`

	// How many rows are wanted is no LIMIT, because SQLite plans a query anew
	// for every LIMIT that is bound.
	span = `SELECT ` + entryColumns + ` FROM histories h CROSS JOIN entries e
		ON e.place BETWEEN (h.id << 32) + ?2 AND (h.id << 32) + ?3 WHERE h.name = ?1 ORDER BY e.place`
	spanNewestFirst = span + ` DESC`

	byID = `SELECT ` + entryColumns + ` FROM histories h CROSS JOIN entries e
		ON e.history = h.id WHERE h.name = ?1 AND e.id = ?2`

	// '0' comes after '/' in ASCII.
	ofSites = `SELECT ` + entryColumns + `, h.name FROM entries e CROSS JOIN histories h ON h.id = e.history
		WHERE e.place > ? AND h.name >= 'site/' AND h.name < 'site0' ORDER BY e.place`

	rowsBySum = `SELECT bytes FROM rows WHERE sum = ? ORDER BY part`
)

// read calls f with a connection for reading.
func (s *Store) read(ctx context.Context, f func(*sqlite.Conn) error) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	select {
	case conn := <-s.reads:
		defer func() { s.reads <- conn }()
		return translate(f(conn))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// query calls each with up to n rows of a query, whose text must be constant:
// its statement is kept.
func query(conn *sqlite.Conn, sql string, n int, bind, each func(*sqlite.Stmt)) error {
	stmt, err := conn.Prepare(sql)
	if err != nil {
		return err
	}
	bind(stmt)
	for range n {
		row, err := stmt.Step()
		if err != nil {
			return err
		}
		if !row {
			break
		}
		each(stmt)
	}
	// Until then the statement would keep the log from starting anew.
	return stmt.Reset()
}

// readEntry reads entryColumns, the record into the given memory.
func readEntry(stmt *sqlite.Stmt, h ledger.History, record []byte) ledger.Entry {
	e := ledger.Entry{
		History:  h,
		Sequence: ledger.Sequence(stmt.ColumnInt64(0) & maxSequence),
		ID:       stmt.ColumnText(1),
		Kind:     ledger.Kind(stmt.ColumnText(2)),
		Time:     time.Unix(0, stmt.ColumnInt64(3)).UTC(),
		Account:  stmt.ColumnText(4),
		Record:   record,
	}
	stmt.ColumnBytes(5, e.Hash[:])
	stmt.ColumnBytes(6, record)
	return e
}

// An arena hands out memory for records, many from one allocation.
type arena []byte

// record returns memory for the record among entryColumns.
func (a *arena) record(stmt *sqlite.Stmt) []byte {
	n := stmt.ColumnLen(6)
	if n > cap(*a)-len(*a) {
		*a = make(arena, 0, max(n, 2*cap(*a)))
	}
	end := len(*a) + n
	*a = (*a)[:end]
	// Without the capacity, what is appended to one record overwrote the next.
	return (*a)[end-n : end : end]
}

// appendSpan appends to out up to n entries of h from the sequence first to
// last, found by one of the spans.
func appendSpan(out []ledger.Entry, conn *sqlite.Conn, sql string, h ledger.History, first, last ledger.Sequence, n int) ([]ledger.Entry, error) {
	var records arena
	err := query(conn, sql, n,
		func(stmt *sqlite.Stmt) {
			stmt.BindText(1, string(h))
			stmt.BindInt64(2, int64(max(first, 1)))
			stmt.BindInt64(3, int64(min(last, maxSequence)))
		},
		func(stmt *sqlite.Stmt) { out = append(out, readEntry(stmt, h, records.record(stmt))) })
	return out, err
}

// RosterEntries implements sites.Store.
func (s *Store) RosterEntries(ctx context.Context, after ledger.Sequence, n int) (out []ledger.Entry, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		out, err = appendSpan(nil, conn, span, ledger.Roster, after+1, maxSequence, n)
		return err
	})
	return out, err
}

// History implements inspections.Store.
func (s *Store) History(ctx context.Context, id sites.SiteID, before ledger.Sequence, n int) (out []ledger.Entry, err error) {
	last := before - 1
	if before == 0 {
		last = maxSequence
	}
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		out, err = appendSpan(make([]ledger.Entry, 0, min(n, 64)), conn, spanNewestFirst, id.History(), 1, last, n)
		return err
	})
	return out, err
}

// findID returns the entry of h with the id.
func findID(conn *sqlite.Conn, h ledger.History, id string) (e ledger.Entry, found bool, err error) {
	err = query(conn, byID, 1,
		func(stmt *sqlite.Stmt) {
			stmt.BindText(1, string(h))
			stmt.BindText(2, id)
		},
		func(stmt *sqlite.Stmt) { e, found = readEntry(stmt, h, new(arena).record(stmt)), true })
	return e, found, err
}

// Entry implements inspections.Store.
func (s *Store) Entry(ctx context.Context, id sites.SiteID, entry string) (e ledger.Entry, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		var found bool
		e, found, err = findID(conn, id.History(), entry)
		if err == nil && !found {
			err = fmt.Errorf("%s, id %s: %w", id.History(), entry, inspections.ErrNotFound)
		}
		return err
	})
	return e, err
}

// Entries implements inspections.Store.
func (s *Store) Entries(ctx context.Context, keys []inspections.Key) ([]ledger.Entry, error) {
	out := make([]ledger.Entry, 0, len(keys))
	err := s.read(ctx, func(conn *sqlite.Conn) (err error) {
		for i, k := range keys {
			h := k.Site.History()
			if out, err = appendSpan(out, conn, span, h, k.Sequence, k.Sequence, 1); err != nil {
				return err
			}
			if len(out) == i {
				return fmt.Errorf("%s, sequence %d: %w", h, k.Sequence, inspections.ErrNotFound)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// replayPage is how many entries Replay reads at a time. A read that lasted as
// long as the whole replay would keep the log from starting anew.
const replayPage = 1000

// Replay implements inspections.Store.
func (s *Store) Replay(ctx context.Context, each func(ledger.Entry) error) error {
	var last int64 // the place of the last entry read
	var name ledger.History
	var records arena
	page := make([]ledger.Entry, 0, replayPage)
	for {
		page, records = page[:0], records[:0]
		err := s.read(ctx, func(conn *sqlite.Conn) error {
			return query(conn, ofSites, replayPage,
				func(stmt *sqlite.Stmt) { stmt.BindInt64(1, last) },
				func(stmt *sqlite.Stmt) {
					place := stmt.ColumnInt64(0)
					if place>>32 != last>>32 {
						name = ledger.History(stmt.ColumnText(7))
					}
					last = place
					page = append(page, readEntry(stmt, name, records.record(stmt)))
				})
		})
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := each(e); err != nil {
				return err
			}
		}
		if len(page) < replayPage {
			return nil
		}
	}
}

// Rows implements sites.Store.
func (s *Store) Rows(ctx context.Context, sum string) (rows []byte, err error) {
	parts := 0
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, rowsBySum, math.MaxInt,
			func(stmt *sqlite.Stmt) { stmt.BindText(1, sum) },
			func(stmt *sqlite.Stmt) {
				n := stmt.ColumnLen(0)
				rows = slices.Grow(rows, n)[:len(rows)+n]
				stmt.ColumnBytes(0, rows[len(rows)-n:])
				parts++
			})
	})
	if err == nil && parts == 0 {
		err = fmt.Errorf("%s: %w", sum, sites.ErrRowsUnknown)
	}
	return rows, err
}
