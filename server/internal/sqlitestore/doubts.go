package sqlitestore

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
)

// doubts are the histories of which entries were stored that nothing leads to any more:
// those with the sequences up to the one that is kept here. Nothing may be added to them,
// because it would get a sequence that was used.
type doubts struct {
	mu sync.RWMutex
	at map[ledger.History]ledger.Sequence
}

func (d *doubts) add(h ledger.History, q ledger.Sequence) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == nil {
		d.at = map[ledger.History]ledger.Sequence{}
	}
	d.at[h] = max(d.at[h], q)
}

// of returns an error where the history is in doubt.
func (d *doubts) of(h ledger.History, at ledger.Sequence) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if q := d.at[h]; q > at {
		return alteredAt(h, q, "it cannot be read from the disk, and no index leads to it")
	}
	return nil
}

// missing returns the newest of the entries that nothing leads to, without records.
func (d *doubts) missing() (out []ledger.Entry) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for h, q := range d.at {
		out = append(out, ledger.Entry{History: h, Sequence: q})
	}
	slices.SortFunc(out, func(a, b ledger.Entry) int { return cmp.Compare(a.History, b.History) })
	return out
}

// maxHistories bounds the memory of newest sequences: four bytes for each history.
const maxHistories = 1 << 26

// newest has the greatest sequence that was ever seen of each history, by its row: an
// index that leads to less has lost something.
type newest struct {
	mu sync.Mutex
	at []uint32
}

// note takes down that there is an entry.
func (n *newest) note(row int64, q ledger.Sequence) {
	if row < 1 || row > maxHistories || q < 1 || q > maxSequence {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if int(row) >= len(n.at) {
		n.at = append(n.at, make([]uint32, int(row)+1-len(n.at))...)
	}
	n.at[row] = max(n.at[row], uint32(q))
}

// of returns the greatest sequence that is known of the history with the row.
func (n *newest) of(row int64) ledger.Sequence {
	n.mu.Lock()
	defer n.mu.Unlock()
	if row < 1 || int(row) >= len(n.at) {
		return 0
	}
	return ledger.Sequence(n.at[row])
}

// unsureHead returns an error where the head that was found of a history may not be that
// of its newest entry.
func (w *writer) unsureHead(name ledger.History, h *knownHead, found *ledger.Entry) error {
	if err := w.doubts.of(name, h.Sequence); err != nil {
		return err
	}
	if q := w.newest.of(h.row); q > h.Sequence {
		return alteredAt(name, h.Sequence+1, "the index of its entries has lost it")
	}
	if found != nil && !found.Whole() {
		return alteredAt(name, h.Sequence, "its record is not what is stored beside it, and it is the newest")
	}
	if h.row == 0 {
		return nil
	}
	// An entry to which a place leads and that is gone is no less used.
	place, err := topPlace(w.conn, h.row)
	if err == nil && ledger.Sequence(place&maxSequence) > h.Sequence {
		err = alteredAt(name, ledger.Sequence(place&maxSequence), "it cannot be read from the disk, and it is the newest")
	}
	return err
}

// repairHead returns the head behind which a repair goes of a history whose newest entry
// cannot be known for sure: behind all that may have been used.
func (w *writer) repairHead(name ledger.History) (*knownHead, error) {
	row, err := historyRow(w.conn, name)
	if err != nil && !isDamage(err) {
		return nil, err
	}
	h := &knownHead{row: row}
	tail, _ := w.recent.tail(name)
	for before := ledger.Sequence(maxSequence); len(tail) == 0 && before > 0; {
		page, err := spanCarefully(nil, w.conn, name, 1, before, near, true)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if e.Whole() {
				tail = append(tail, e)
				break
			}
			h.Sequence = max(h.Sequence, e.Sequence)
		}
		before = page[len(page)-1].Sequence - 1
	}
	used := max(h.Sequence, w.newest.of(row))
	if len(tail) > 0 {
		h.Head = tail[len(tail)-1].Head()
	}
	w.doubts.mu.RLock()
	defer w.doubts.mu.RUnlock()
	h.Sequence = max(h.Sequence, used, w.doubts.at[name])
	return h, nil
}

// forJob turns damage that a job has met into an error of that job alone, so that the
// others in its transaction are not held up.
func forJob(h ledger.History, err error) error {
	var altered *ledger.AlteredError
	switch {
	case errors.As(err, &altered):
		return refused{err}
	case isDamage(err):
		return refused{alteredAt(h, 0, "the disk does not give what is stored of it")}
	}
	return err
}

// findSlowly looks for the entry of a history with the id without the index of ids.
func findSlowly(conn *sqlite.Conn, h ledger.History, id string) (ledger.Entry, bool, error) {
	for first := ledger.Sequence(1); ; {
		page, err := appendSpan(nil, conn, span, h, first, maxSequence, feedPage)
		if err != nil {
			return ledger.Entry{}, false, err
		}
		for _, e := range page {
			if len(e.Record) == 0 {
				return e, false, alteredAt(h, e.Sequence, "it cannot be read from the disk, and may have the id")
			}
			if e.ID == id {
				return e, true, nil
			}
		}
		if len(page) < feedPage || page[len(page)-1].Sequence < first {
			return ledger.Entry{}, false, nil
		}
		first = page[len(page)-1].Sequence + 1
	}
}

// findDoubts looks through the bytes of the file and its log for records of entries that
// nothing leads to. It is for a start that cannot read some of the newest entries, which
// are in no index.
func (s *Store) findDoubts(conn *sqlite.Conn, files ...string) error {
	used := map[ledger.History]ledger.Sequence{}
	for _, name := range files {
		if err := eachRecord(name, func(h ledger.History, q ledger.Sequence) { used[h] = max(used[h], q) }); err != nil {
			return err
		}
	}
	for h, q := range used {
		row, err := historyRow(conn, h)
		if err != nil && !isDamage(err) {
			return err
		}
		known := s.newest.of(row)
		top, err := topPlace(conn, row)
		known = max(known, ledger.Sequence(top&maxSequence))
		if err != nil && !isDamage(err) {
			return err
		}
		if q > known {
			s.doubts.add(h, q)
		}
	}
	return nil
}

// eachRecord calls f with the history and the sequence of each record whose beginning
// lies in the file.
func eachRecord(name string, f func(ledger.History, ledger.Sequence)) error {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	const most = 512 // of what is read of a record
	r := bufio.NewReaderSize(file, 1<<20)
	for {
		b, err := r.Peek(1 << 20)
		if len(b) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		skip := max(1, len(b)-most)
		if err == io.EOF {
			skip = len(b)
		}
		for i := 0; i < skip; {
			at := bytes.Index(b[i:], []byte(recordBegin))
			if at < 0 || i+at >= skip {
				break
			}
			i += at
			if h, q, ok := historyIn(b[i:]); ok {
				f(h, q)
			}
			i++
		}
		if _, err := r.Discard(skip); err != nil {
			return err
		}
	}
}

// gatherUnindexed reads the entries that the indexes lack, for a writer that starts, and
// those that it can where the disk does not give all.
func (s *Store) gatherUnindexed(w *writer, files ...string) error {
	after, err := w.indexedUntil()
	if err != nil {
		return err
	}
	names := historyCache{}
	last, err := lastKnownRow(w.conn)
	if err != nil {
		return err
	}
	row, lost := after, false
	tops := map[int64]ledger.Sequence{} // the newest that the index has, by history
	take := func(e ledger.Entry, row, history int64) {
		if e.Whole() {
			w.add(e, row, history)
			// Somebody may have put it in. As the newest in memory it would hide what the
			// indexes have behind it.
			top, known := tops[history]
			if !known {
				place, err := topPlace(w.conn, history)
				if err == nil {
					top = ledger.Sequence(place & maxSequence)
				}
				tops[history] = top
			}
			w.rows[len(w.rows)-1].past = e.Sequence <= top
		} else if of, err := historyRow(w.conn, e.History); err == nil {
			history = of
		}
		s.newest.note(history, e.Sequence)
	}
	odd := false
	err = query(w.conn, entriesAfter, math.MaxInt, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row) }, func(stmt *sqlite.Stmt) {
		if odd = odd || stmt.ColumnInt64(7) != row+1; odd {
			return
		}
		row++
		e := readEntry(stmt, "", new(arena).record(stmt))
		var failed error
		if e.History, failed = names.nameOf(w.conn, stmt.ColumnInt64(8), e.Record); failed != nil {
			odd = true
			return
		}
		take(e, row, stmt.ColumnInt64(8))
	})
	if err != nil && !isDamage(err) {
		return err
	}
	if odd || err != nil {
		for row < last {
			p, err := s.readCarefully(w.conn, names, row)
			if err != nil {
				return err
			}
			for i, e := range p.entries {
				if history, err := historyRow(w.conn, e.History); err == nil && history != 0 && len(e.Record) > 0 {
					take(e, p.rows[i], history)
				}
			}
			lost = lost || int64(len(p.entries)) < min(row+feedPage, last)-row
			if p.next <= row {
				break
			}
			row = p.next
		}
	}
	if lost || isDamage(err) {
		return s.findDoubts(w.conn, files...)
	}
	return nil
}

// indexedUntil returns the row up to which the indexes have all entries. Where the file
// does not tell it any more, it is one that is surely not too great.
func (w *writer) indexedUntil() (row int64, err error) {
	rows := 0
	err = query(w.conn, `SELECT entry FROM indexed`, math.MaxInt, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) {
		if stmt.ColumnType(0) == sqlite.TypeInteger {
			rows, row = rows+1, stmt.ColumnInt64(0)
		}
	})
	if err == nil && rows == 1 || err != nil && !isDamage(err) {
		return row, err
	}
	err = query(w.conn, `SELECT max(entry) FROM places`, 1, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) { row = max(0, stmt.ColumnInt64(0)-2*maxUnindexed) })
	if isDamage(err) {
		err = nil
	}
	if err == nil {
		// It may not take a new value either; then each start finds it so.
		for _, sql := range []string{`DELETE FROM indexed`, `INSERT INTO indexed VALUES (0)`} {
			_ = w.exec(sql)
		}
		_ = w.bound(`UPDATE indexed SET entry = ?`, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row) })
	}
	return row, err
}
