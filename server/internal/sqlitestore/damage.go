package sqlitestore

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
)

// A disk that goes bad changes bits anywhere in the file. What is read around them is
// here. SQLite says of a page that it cannot be read; then each entry is looked up by
// itself, and only those that lie on the page are missing. What a changed bit makes of
// an entry that can be read is for whoever verifies it.

// isDamage reports whether SQLite has met bytes that cannot be right.
func isDamage(err error) bool {
	if err == nil {
		return false
	}
	code := sqlite.ErrCode(err).ToPrimary()
	return code == sqlite.ResultCorrupt || code == sqlite.ResultNotADB || code == sqlite.ResultTooBig || errors.Is(err, ledger.ErrDamaged)
}

// isAltered reports whether the error is of a history that cannot be known for sure.
func isAltered(err error) bool { return errors.Is(err, ledger.ErrAltered) }

// alteredAt is the error of whoever needs an entry of the history that cannot be known
// for sure.
func alteredAt(h ledger.History, q ledger.Sequence, why string) error {
	return &ledger.AlteredError{Fault: ledger.Fault{History: h, Sequence: q, Why: why}}
}

const (
	entryByRow    = `SELECT ` + entryColumns + `, e.entry, e.history FROM entries e WHERE e.entry = +?`
	historyByRow  = `SELECT id FROM histories WHERE name = +?`
	historyByScan = `SELECT id FROM histories NOT INDEXED WHERE name = +?`
	entriesOf     = `SELECT ` + entryColumns + ` FROM entries e WHERE e.history = +? AND e.sequence > +? ORDER BY e.entry`
	placesIn      = `SELECT place, entry FROM places WHERE place BETWEEN ? AND ? ORDER BY place`
	placesInDown  = `SELECT place, entry FROM places WHERE place BETWEEN ? AND ? ORDER BY place DESC`
	placeAt       = `SELECT entry FROM places WHERE place = +?`
	placesOfRows  = `SELECT place, entry FROM places WHERE entry BETWEEN ? AND ?`

	// near is how far around an entry is looked for it where a number beside it was
	// changed by which it would be found.
	near = 32
)

// historyRow returns the row of a history, or 0.
func historyRow(conn *sqlite.Conn, h ledger.History) (row int64, err error) {
	bind := func(stmt *sqlite.Stmt) { stmt.BindText(1, string(h)) }
	take := func(stmt *sqlite.Stmt) { row = stmt.ColumnInt64(0) }
	err = query(conn, historyByRow, 1, bind, take)
	if isDamage(err) {
		// The index of names is damaged, and the table may not be.
		if again := query(conn, historyByScan, 1, bind, take); again == nil {
			err = nil
		}
	}
	return row, err
}

// appendByScan appends the entries of a history behind a sequence, up to n, by looking
// through all entries: for one that has more than its index leads to.
func appendByScan(out []ledger.Entry, conn *sqlite.Conn, h ledger.History, row int64, after ledger.Sequence, n int) ([]ledger.Entry, error) {
	var records arena
	err := query(conn, entriesOf, n, func(stmt *sqlite.Stmt) {
		stmt.BindInt64(1, row)
		stmt.BindInt64(2, int64(after))
	}, func(stmt *sqlite.Stmt) {
		e := readEntry(stmt, h, records.record(stmt))
		if e.Sequence > after {
			out, after = append(out, e), e.Sequence
		}
	})
	if isDamage(err) {
		err = nil // and whoever verifies tells what is missing
	}
	return out, err
}

// readRow reads the entry of a row with the row of its history. It is not found where
// the disk does not give it.
func readRow(conn *sqlite.Conn, row int64) (e ledger.Entry, history int64, found bool, err error) {
	take := func(stmt *sqlite.Stmt) {
		if stmt.ColumnInt64(7) == row {
			e, history, found = readEntry(stmt, "", new(arena).record(stmt)), stmt.ColumnInt64(8), true
		}
	}
	err = query(conn, entryByRow, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row) }, take)
	if err != nil && !isDamage(err) || found {
		return e, history, found, err
	}
	err = query(conn, entriesAfter, 2*near, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, max(0, row-near)) }, take)
	if isDamage(err) {
		err = nil
	}
	return e, history, found, err
}

// recordBegin is how the record of an entry of a history begins.
const (
	recordBegin   = `{"format":1,"history":"`
	sequenceBegin = `","sequence":`
)

// saysHistory reports whether the record is of the history.
func saysHistory(record []byte, h ledger.History) bool {
	n := len(recordBegin)
	return len(record) > n+len(h) && string(record[:n]) == recordBegin && string(record[n:n+len(h)]) == string(h) && record[n+len(h)] == '"'
}

// sequenceIn returns the sequence that a record of the history names, or 0 where it is of
// none or of another one. It is historyIn for every entry of a feed: without memory.
func sequenceIn(record []byte, h ledger.History) (q ledger.Sequence) {
	if !saysHistory(record, h) {
		return 0
	}
	digits, ok := bytes.CutPrefix(record[len(recordBegin)+len(h):], []byte(sequenceBegin))
	for i, c := range digits {
		if c < '0' || c > '9' || q > maxSequence {
			ok = ok && c == ',' && i > 0
			break
		}
		q = 10*q + ledger.Sequence(c-'0')
	}
	if !ok {
		return 0
	}
	return q
}

// historyIn returns the history and the sequence that a record names. It knows those
// without escapes, which all are.
func historyIn(record []byte) (h ledger.History, q ledger.Sequence, ok bool) {
	rest, ok := bytes.CutPrefix(record, []byte(recordBegin))
	name, rest, found := bytes.Cut(rest[:min(len(rest), 256)], []byte(sequenceBegin))
	end := bytes.IndexByte(rest, ',')
	if !ok || !found || end < 0 || len(name) == 0 || bytes.ContainsAny(name, "\"\\\x00") {
		return "", 0, false
	}
	n, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return ledger.History(name), ledger.Sequence(n), err == nil && n > 0
}

// nameOf returns the name of the history with the row, of which the record is. Where the
// name was changed and not the record, the record's counts.
func (c historyCache) nameOf(conn *sqlite.Conn, row int64, record []byte) (ledger.History, error) {
	name, err := c.name(conn, row)
	if err == nil && saysHistory(record, name) {
		return name, nil
	}
	if err != nil && !isDamage(err) && !errors.Is(err, ledger.ErrBroken) {
		return "", err
	}
	said, _, ok := historyIn(record)
	if ok {
		// The index leads from the right name to its row.
		indexed, failed := historyRow(conn, said)
		switch {
		case failed != nil && !isDamage(failed):
			return "", failed
		case indexed == row, failed != nil && name == "":
			c[row] = said
			return said, nil
		case indexed != 0:
			return said, nil // and the number of its history was changed
		}
	}
	if name == "" {
		name = ledger.History(fmt.Sprintf("a history without a name, number %d", row))
	}
	return name, nil
}

// A carefulPage is what a feed could read behind a row where it could not read on.
type carefulPage struct {
	entries []ledger.Entry
	rows    []int64
	// next is the row up to which the feed is then.
	next int64
}

// readCarefully looks up the rows behind one by one. An entry that the disk does not give
// is among those that it returns without a record, where its place is known.
func (s *Store) readCarefully(conn *sqlite.Conn, names historyCache, row int64) (p carefulPage, err error) {
	last, err := lastKnownRow(conn)
	if err != nil {
		return p, err
	}
	end := min(row+feedPage, last)
	p.next = max(end, row)
	lost := map[int64]bool{}
	for r := row + 1; r <= end; r++ {
		e, history, found, err := readRow(conn, r)
		if err != nil {
			return p, err
		}
		if !found {
			lost[r] = true
			p.entries, p.rows = append(p.entries, ledger.Entry{}), append(p.rows, r)
			continue
		}
		if e.History, err = names.nameOf(conn, history, e.Record); err != nil {
			return p, err
		}
		p.entries, p.rows = append(p.entries, e), append(p.rows, r)
	}
	if len(lost) == len(p.rows) && end < last {
		// Rows have numbers without gaps, so this is a number that was changed.
		err := query(conn, entriesAfter, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, end) },
			func(stmt *sqlite.Stmt) { p.next = max(end, stmt.ColumnInt64(7)-1) })
		if err != nil && !isDamage(err) {
			return p, err
		}
	}
	return p, s.nameLost(conn, names, &p, lost, row+1, end)
}

// nameLost gives the lost entries of the page their histories and sequences, and leaves
// out those of which they are not known.
func (s *Store) nameLost(conn *sqlite.Conn, names historyCache, p *carefulPage, lost map[int64]bool, first, last int64) error {
	at := map[int64]int64{}
	if len(lost) > 0 {
		err := query(conn, placesOfRows, math.MaxInt,
			func(stmt *sqlite.Stmt) { stmt.BindInt64(1, first); stmt.BindInt64(2, last) },
			func(stmt *sqlite.Stmt) { at[stmt.ColumnInt64(1)] = stmt.ColumnInt64(0) })
		if err != nil && !isDamage(err) {
			return err
		}
	}
	kept := 0
	for i, r := range p.rows {
		e := p.entries[i]
		if lost[r] {
			place, ok := at[r]
			if !ok {
				continue
			}
			name, err := names.name(conn, place>>32)
			if err != nil {
				continue
			}
			e = ledger.Entry{History: name, Sequence: ledger.Sequence(place & maxSequence)}
		}
		p.entries[kept], p.rows[kept] = e, r
		kept++
	}
	p.entries, p.rows = p.entries[:kept], p.rows[:kept]
	return nil
}

// lastKnownRow returns the number of the newest entry's row, as far as anything knows of it.
func lastKnownRow(conn *sqlite.Conn) (last int64, err error) {
	read := func(stmt *sqlite.Stmt) { last = max(last, stmt.ColumnInt64(0)) }
	err = query(conn, lastEntry, 1, func(*sqlite.Stmt) {}, read)
	if !isDamage(err) {
		return last, err
	}
	for _, sql := range []string{`SELECT max(entry) FROM places`, `SELECT entry FROM indexed`} {
		if err := query(conn, sql, 1, func(*sqlite.Stmt) {}, read); err != nil && !isDamage(err) {
			return 0, err
		}
	}
	return last, nil
}

// spanCarefully is appendSpan where the disk does not give all of it. Oldest first, what
// cannot be read is there without a record; newest first it is left out.
func spanCarefully(out []ledger.Entry, conn *sqlite.Conn, h ledger.History, first, last ledger.Sequence, n int, newestFirst bool) ([]ledger.Entry, error) {
	history, err := historyRow(conn, h)
	if err != nil || history == 0 {
		return out, err
	}
	first, last = max(first, 1), min(last, maxSequence)
	sql := placesIn
	if newestFirst {
		sql = placesInDown
	}
	var places, rows []int64
	err = query(conn, sql, n,
		func(stmt *sqlite.Stmt) {
			stmt.BindInt64(1, history<<32|int64(first))
			stmt.BindInt64(2, history<<32|int64(last))
		},
		func(stmt *sqlite.Stmt) {
			places, rows = append(places, stmt.ColumnInt64(0)), append(rows, stmt.ColumnInt64(1))
		})
	if err != nil && !isDamage(err) {
		return out, err
	}
	if isDamage(err) {
		if places, rows, err = placesOneByOne(conn, h, history, first, last, n, newestFirst); err != nil {
			return out, err
		}
	}
	for i, row := range rows {
		e, _, found, err := readRow(conn, row)
		switch {
		case err != nil:
			return out, err
		case !found && newestFirst:
			continue
		case !found:
			e = ledger.Entry{}
		}
		e.History, e.Sequence = h, ledger.Sequence(places[i]&maxSequence)
		out = append(out, e)
	}
	return out, nil
}

// placesOneByOne looks up the places of a history one after the other, where the index
// cannot be read along.
func placesOneByOne(conn *sqlite.Conn, h ledger.History, history int64, first, last ledger.Sequence, n int, newestFirst bool) (places, rows []int64, err error) {
	top, err := topPlace(conn, history)
	if isDamage(err) {
		err = alteredAt(h, first, "the index of its entries cannot be read from the disk")
	}
	if err != nil {
		return nil, nil, err
	}
	last = min(last, ledger.Sequence(top&maxSequence))
	step, q := ledger.Sequence(1), first
	if newestFirst {
		step, q = -1, last
	}
	for misses := 0; q >= first && q <= last && len(places) < n && misses < maxUnindexed; q += step {
		misses++
		place := history<<32 | int64(q)
		err := query(conn, placeAt, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, place) }, func(stmt *sqlite.Stmt) {
			places, rows, misses = append(places, place), append(rows, stmt.ColumnInt64(0)), 0
		})
		if err != nil && !isDamage(err) {
			return nil, nil, err
		}
	}
	return places, rows, nil
}

// topPlace returns the place of the newest entry of a history that the index leads to; 0
// for none.
func topPlace(conn *sqlite.Conn, history int64) (top int64, err error) {
	err = query(conn, placesInDown, 1, func(stmt *sqlite.Stmt) {
		stmt.BindInt64(1, history<<32)
		stmt.BindInt64(2, history<<32|maxSequence)
	}, func(stmt *sqlite.Stmt) { top = stmt.ColumnInt64(0) })
	return top, err
}
