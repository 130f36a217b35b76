package sqlitestore

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
	"xuncha/sites"
)

// maxSequence is the greatest sequence that a place has room for.
const maxSequence = 1<<32 - 1

// hasPlace reports whether there is a place for the sequence. That of any other one would
// be among those of another history.
func hasPlace(q ledger.Sequence) bool { return q >= 1 && q <= maxSequence }

const (
	entryColumns = `e.sequence, e.id, e.kind, e.time, e.account, e.hash, e.record`

	// SQLite plans a statement anew for every value that it might plan by. So a
	// value that a column must equal stands behind a plus everywhere in this
	// package, and how many rows are wanted is no LIMIT. TestPlannedOnce holds it.
	span = `SELECT p.place & 4294967295, e.id, e.kind, e.time, e.account, e.hash, e.record FROM histories h CROSS JOIN places p
		ON p.place BETWEEN (h.id << 32) + ?2 AND (h.id << 32) + ?3
		LEFT JOIN entries e ON e.entry = p.entry WHERE h.name = +?1 ORDER BY p.place`
	spanNewestFirst = span + ` DESC`

	entriesAfter = `SELECT ` + entryColumns + `, e.entry, e.history FROM entries e WHERE e.entry > ? ORDER BY e.entry`
	historyName  = `SELECT name FROM histories WHERE id = +?`
	historyNames = `SELECT id, name FROM histories`
	lastEntry    = `SELECT max(entry) FROM entries`

	unindexed = `SELECT ` + entryColumns + `, e.entry, e.history, h.name FROM entries e CROSS JOIN histories h ON h.id = e.history
		WHERE e.entry > (SELECT entry FROM indexed) ORDER BY e.entry`

	rowsBySum = `SELECT bytes FROM rows WHERE sum = +? ORDER BY part`
)

// read calls f with a connection for reading.
func (s *Store) read(ctx context.Context, f func(*sqlite.Conn) error) error {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.borrow(ctx, f)
}

// borrow calls f with a connection for reading, within a call.
func (s *Store) borrow(ctx context.Context, f func(*sqlite.Conn) error) error {
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
		Sequence: ledger.Sequence(stmt.ColumnInt64(0)),
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
func (a *arena) record(stmt *sqlite.Stmt) []byte { return a.take(stmt.ColumnLen(6)) }

func (a *arena) take(n int) []byte {
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
	before, whole := len(out), true
	err := query(conn, sql, n,
		func(stmt *sqlite.Stmt) {
			stmt.BindText(1, string(h))
			stmt.BindInt64(2, int64(max(first, 1)))
			stmt.BindInt64(3, int64(min(last, maxSequence)))
		},
		func(stmt *sqlite.Stmt) {
			// A place leads to an entry, or something is wrong with the file.
			whole = whole && stmt.ColumnType(6) != sqlite.TypeNull
			out = append(out, readEntry(stmt, h, records.record(stmt)))
		})
	if isDamage(err) || err == nil && !whole {
		return spanCarefully(out[:before], conn, h, first, last, n, sql == spanNewestFirst)
	}
	return out, err
}

// span returns up to n entries of h with a sequence greater than after, the
// oldest first.
func (s *Store) span(conn *sqlite.Conn, h ledger.History, after ledger.Sequence, n int) (out []ledger.Entry, err error) {
	row, err := historyRow(conn, h)
	if err != nil && !isDamage(err) {
		return nil, err
	}
	known, begun := s.newest.of(row), after
	defer func() {
		// Whoever has read all entries knows more of the history than its index.
		last := begun
		if len(out) > 0 {
			last = out[len(out)-1].Sequence
		}
		if err == nil && len(out) < n && row > 0 && (known > last || last == 0) {
			out, err = appendByScan(out, conn, h, row, last, n-len(out))
		}
	}()
	tail, _ := s.recent.tail(h)
	first := ledger.Sequence(maxSequence + 1)
	if len(tail) > 0 {
		first = tail[0].Sequence
	}
	if after+1 < first {
		if out, err = appendSpan(nil, conn, span, h, after+1, first-1, n); err != nil {
			return nil, err
		}
		after = first - 1
	}
	if tail = tail[behind(tail, after):]; len(tail) > n-len(out) {
		tail = tail[:n-len(out)]
	}
	return appendCopies(out, tail...), nil
}

// Newest implements ledger.Store.
func (s *Store) Newest(ctx context.Context, h ledger.History, before ledger.Sequence, n int) ([]ledger.Entry, error) {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	last := before - 1
	if before == 0 {
		last = maxSequence
	}
	out := make([]ledger.Entry, 0, min(n, keepTail))
	tail, asOf := s.recent.tail(h)
	if len(tail) > 0 {
		first := tail[0].Sequence
		found := tail[:behind(tail, last)]
		out = appendCopies(out, found[max(0, len(found)-n):]...)
		slices.Reverse(out)
		last = min(last, first-1)
	}
	if len(out) == n || last < 1 {
		return out, nil
	}
	err = s.borrow(ctx, func(conn *sqlite.Conn) error {
		out, err = appendSpan(out, conn, spanNewestFirst, h, 1, last, n-len(out))
		return err
	})
	if err != nil {
		return nil, err
	}
	if before == 0 && len(tail) == 0 {
		s.recent.remember(h, out, asOf)
	}
	return out, nil
}

// findID returns the entry of h with the id.
func (s *Store) findID(conn *sqlite.Conn, h ledger.History, id string) (e ledger.Entry, found bool, err error) {
	if e, found = s.recent.byID(h, id); found {
		e.Record = bytes.Clone(e.Record)
		return e, true, nil
	}
	past, waits := s.recent.pastByID(h, id)
	e, found, err = s.ids.find(conn, h, id)
	if isDamage(err) {
		return findSlowly(conn, h, id)
	}
	if err == nil && !found && waits {
		past.Record = bytes.Clone(past.Record)
		return past, true, nil
	}
	return e, found, err
}

// Entry implements ledger.Store.
func (s *Store) Entry(ctx context.Context, h ledger.History, id string) (e ledger.Entry, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		var found bool
		e, found, err = s.findID(conn, h, id)
		if err == nil && !found {
			err = fmt.Errorf("%s, id %s: %w", h, id, ledger.ErrNotFound)
		}
		return err
	})
	return e, err
}

// Entries implements ledger.Store.
func (s *Store) Entries(ctx context.Context, keys []ledger.Key) ([]ledger.Entry, error) {
	out := make([]ledger.Entry, 0, len(keys))
	err := s.read(ctx, func(conn *sqlite.Conn) error {
		for _, k := range keys {
			found, err := s.span(conn, k.History, k.Sequence-1, 1)
			if err != nil {
				return err
			}
			if len(found) == 0 || found[0].Sequence != k.Sequence {
				return fmt.Errorf("%s, sequence %d: %w", k.History, k.Sequence, ledger.ErrNotFound)
			}
			out = append(out, found[0])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Rows implements sites.Rows.
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

const lastTime = `SELECT time, record FROM entries ORDER BY entry DESC`

// LastTime returns the time of the entry that was stored last; zero where there is none, or
// its record does not say the same. An entry before it can have a later time, where the
// clock was set back since.
func (s *Store) LastTime(ctx context.Context) (t time.Time, err error) {
	var record []byte
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, lastTime, 1, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) {
			t, record = time.Unix(0, stmt.ColumnInt64(0)).UTC(), bytesOf(stmt, 1)
		})
	})
	if err != nil || record == nil {
		return time.Time{}, err
	}
	if e, err := ledger.Parse(record); err != nil || !e.Time.Equal(t) {
		return time.Time{}, nil
	}
	return t, nil
}
