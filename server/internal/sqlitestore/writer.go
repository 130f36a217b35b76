package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync/atomic"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
	"xuncha/server/internal/engine"
)

const (
	// maxBatch is how many waiting writes one transaction takes in.
	maxBatch = 512
	// maxHeads bounds the memory of heads; past it they are read again.
	maxHeads = 250_000
	// partSize is how long, in bytes, a part of the rows of an import is.
	partSize = 1 << 20
)

// writerSettings make a commit return only once it is on the disk, and let the
// log grow to 4,000 pages of 4 KiB before what is in it moves to the database:
// long enough that pages written often move seldom.
var writerSettings = []string{
	`PRAGMA synchronous = FULL`,
	`PRAGMA wal_autocheckpoint = 4000`,
	`PRAGMA journal_size_limit = 33554432`,
}

// A writer is the one goroutine that writes. The folder is locked, so what it
// knows of the heads of histories is right until a transaction fails.
type writer struct {
	conn  *sqlite.Conn
	queue *engine.Queue[*job]
	heads map[ledger.History]*knownHead

	recent  *recent
	ids     *ids
	marker  *marker
	reserve *reserve
	files   *whereabouts
	doubts  *doubts
	newest  *newest
	// unindexable is why the indexes cannot be written any more; nil where they can.
	unindexable error
	// mostUnindexed is how many entries wait at least before they are indexed, and
	// indexing is nil while none is under way.
	mostUnindexed int
	indexing      *indexing
	// quiet tells that the transaction under way was begun to index, however few wait.
	quiet bool
	// What the transaction under way has added, and what is to be indexed of it.
	fresh []ledger.Entry
	rows  []indexRow
	byID  map[entryID]ledger.Entry
}

// A knownHead is a history's row and its newest entry. The row is 0 where the
// history is not stored yet.
type knownHead struct {
	row int64
	ledger.Head
}

// A job is one write, run inside a transaction that it may share.
type job struct {
	ctx context.Context
	run func(*writer) error
	// taken is set by whoever comes first: the writer to run the job, or the
	// caller to leave.
	taken atomic.Bool
	ours  bool // the writer has taken it
	// reserved tells that it may use the room that is kept in reserve.
	reserved bool
	err      error
	done     chan error
}

// refused wraps the error of a job that has written nothing, so that the
// others in its transaction are not held up.
type refused struct{ error }

// startWriter reads what the indexes lack and starts the writer of the file.
func (s *Store) startWriter(conn *sqlite.Conn, path string, o Options) (*writer, error) {
	w := &writer{
		conn:    conn,
		queue:   engine.NewQueue[*job](maxBatch),
		heads:   map[ledger.History]*knownHead{},
		recent:  s.recent,
		ids:     s.ids,
		marker:  s.marker,
		reserve: s.reserve,
		files:   openWhereabouts(path, o),
		doubts:  &s.doubts,
		newest:  &s.newest,
		byID:    map[entryID]ledger.Entry{},

		mostUnindexed: maxUnindexed,
	}
	stored, err := lastKnownRow(conn)
	if err != nil {
		return nil, err
	}
	// A number that was changed must not take all memory.
	if info, err := os.Stat(path); err == nil {
		stored = min(stored, info.Size()/leastEntry+maxUnindexed)
	}
	s.ids.grow(int(stored + stored/4))
	err = query(conn, `SELECT 1 FROM ids`, 1, func(*sqlite.Stmt) {}, func(*sqlite.Stmt) { s.ids.old = true })
	if err != nil && !isDamage(err) {
		return nil, err
	}
	if err := s.gatherUnindexed(w, path, path+"-wal"); err != nil {
		return nil, err
	}
	s.recent.publish(w.rows, w.fresh)
	w.forget()
	go w.queue.Run(w.work)
	return w, nil
}

// leastEntry is how many bytes an entry takes at least.
const leastEntry = 200

// stop lets the writer end. No other call may be under way.
func (w *writer) stop() error {
	w.queue.Close()
	// The next start has less to read then. Where it fails, it reads more.
	_ = w.indexAll()
	return w.conn.Close()
}

// do runs a write and returns once it would survive a power cut, or was not
// made. A write whose context ends before its turn is not made; one whose turn
// has come is waited for, because it uses the caller's memory.
func (w *writer) do(ctx context.Context, f func(*writer) error) error {
	j := &job{ctx: ctx, run: f, reserved: ledger.MayUseReserve(ctx), done: make(chan error, 1)}
	if err := w.queue.Put(ctx, j); err != nil {
		return err
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-j.done
	}
}

// work does a batch and tells each caller what came of it.
func (w *writer) work(batch []*job) {
	w.commitAll(batch)
	for _, j := range batch {
		j.done <- j.err
	}
}

// commitAll runs the jobs of a batch and sets the err of each.
func (w *writer) commitAll(batch []*job) {
	err := w.commit(batch)
	if errors.Is(err, ledger.ErrFull) {
		w.reserve.found(err)
		// What may use the reserve is done once more, without the rest.
		var reserved, rest []*job
		for _, j := range batch {
			if j.reserved {
				reserved = append(reserved, j)
			} else {
				rest = append(rest, j)
			}
		}
		if len(reserved) > 0 && (w.reserve.giveUp() || len(rest) > 0) {
			setErrors(reserved, w.commit(reserved))
			batch = rest
		}
	}
	setErrors(batch, err)
}

// setErrors gives each job that was not refused the error of its transaction.
func setErrors(jobs []*job, err error) {
	for _, j := range jobs {
		if j.err == nil {
			j.err = err
		}
	}
}

// begin reports whether the job is to be run, once more where it was run in vain. Where
// its caller has left, it is not.
func (j *job) begin() bool {
	if !j.ours && !j.taken.CompareAndSwap(false, true) {
		return false
	}
	j.ours = true
	j.err = j.ctx.Err()
	return j.err == nil
}

// commit runs the jobs in one transaction. Where a job was refused or left behind, its
// own err is set.
// The error returned is that of all others, of which none is stored then.
func (w *writer) commit(jobs []*job) error {
	err := w.files.check()
	if err == nil {
		err = w.exec(`BEGIN IMMEDIATE`)
	}
	for _, j := range jobs {
		if err != nil {
			break
		}
		if !j.begin() {
			continue
		}
		var r refused
		if err = j.run(w); errors.As(err, &r) {
			j.err, err = r.error, nil
		}
	}
	next := 0
	if err == nil && w.unindexable == nil {
		next, err = w.indexSome(max(leastIndexed, indexedEach*len(jobs), w.quietSteps()))
		if isDamage(err) {
			// What cannot be indexed waits in memory, and the next start reads it again.
			w.unindexable, next, err = err, 0, nil
			w.indexing = nil
		}
	}
	if err == nil {
		err = w.exec(`COMMIT`)
	}
	if err == nil {
		w.recent.publish(w.rows, w.fresh)
		w.indexedUpTo(next)
		w.mark()
		for _, row := range w.rows {
			w.newest.note(row.history, row.Sequence)
		}
	}
	if err != nil {
		// SQLite has rolled back already after some errors.
		if !w.conn.AutocommitEnabled() {
			err = errors.Join(err, w.exec(`ROLLBACK`))
		}
		err = translate(err)
	}
	if err != nil || len(w.heads) > maxHeads {
		clear(w.heads)
	}
	w.forget()
	w.quiet = false
	return err
}

// mark notes how far the transaction that was committed has brought the database.
func (w *writer) mark() {
	switch n := len(w.fresh); n {
	case 0:
	case 1:
		w.marker.note(w.rows[0].entry, w.fresh[0].Hash)
	default:
		w.marker.note(w.rows[n-1].entry, w.fresh[n-2].Hash, w.fresh[n-1].Hash)
	}
}

// add notes an entry that the transaction under way has added.
func (w *writer) add(e ledger.Entry, row, history int64) {
	w.fresh = append(w.fresh, e)
	id := entryID{e.History, e.ID}
	slot := w.ids.slotOf(e.History, e.ID)
	w.ids.add(slot)
	w.rows = append(w.rows, indexRow{entryID: id, entry: row, history: history, Sequence: e.Sequence, slot: slot})
	w.byID[id] = e
}

// forget ends what add noted.
func (w *writer) forget() {
	clear(w.fresh)
	w.fresh, w.rows = w.fresh[:0], w.rows[:0]
	clear(w.byID)
}

func (w *writer) exec(sql string) error { return w.bound(sql, func(*sqlite.Stmt) {}) }

// bound runs a statement that gives no rows.
func (w *writer) bound(sql string, bind func(*sqlite.Stmt)) error {
	return query(w.conn, sql, 1, bind, func(*sqlite.Stmt) {})
}

// head returns the newest entry of a history.
func (w *writer) head(name ledger.History) (*knownHead, error) {
	if h := w.heads[name]; h != nil {
		return h, nil
	}
	h := &knownHead{}
	var err error
	if h.row, err = historyRow(w.conn, name); err != nil {
		return nil, err
	}
	newest, _ := w.recent.tail(name)
	var found *ledger.Entry
	if len(newest) == 0 {
		if newest, err = appendSpan(nil, w.conn, spanNewestFirst, name, 1, maxSequence, 1); err != nil {
			return nil, err
		}
		if len(newest) > 0 {
			found = &newest[0]
		}
	}
	if len(newest) > 0 {
		h.Head = newest[len(newest)-1].Head()
	}
	if err := w.unsureHead(name, h, found); err != nil {
		return nil, err
	}
	w.heads[name] = h
	return h, nil
}

// find returns the entry of a history with the id.
func (w *writer) find(name ledger.History, id string) (e ledger.Entry, found bool, err error) {
	if e, found = w.byID[entryID{name, id}]; !found {
		e, found = w.recent.byID(name, id)
	}
	if found {
		e.Record = bytes.Clone(e.Record)
		return e, true, nil
	}
	e, found, err = w.ids.findMaybe(w.conn, name, id)
	if isDamage(err) {
		return findSlowly(w.conn, name, id)
	}
	if past, waits := w.recent.pastByID(name, id); err == nil && !found && waits {
		past.Record = bytes.Clone(past.Record)
		return past, true, nil
	}
	return e, found, err
}

// append stores the draft after its history's newest entry, or returns the
// entry that has its id already.
func (w *writer) append(d ledger.Draft) (e ledger.Entry, existed bool, err error) {
	h, err := w.head(d.History)
	var altered *ledger.AlteredError
	if d.Kind == ledger.KindRepaired && errors.As(err, &altered) {
		h, err = w.repairHead(d.History)
	}
	if err != nil {
		return e, false, forJob(d.History, err)
	}
	if e, existed, err = w.find(d.History, d.ID); err != nil || existed {
		return e, existed, forJob(d.History, err)
	}
	e = h.Seal(d)
	return e, false, w.insert(h, e)
}

// insert stores the entry that follows h.
func (w *writer) insert(h *knownHead, e ledger.Entry) error {
	if h.row == 0 {
		err := w.bound(`INSERT INTO histories (name) VALUES (?)`, func(stmt *sqlite.Stmt) { stmt.BindText(1, string(e.History)) })
		if err != nil {
			return err
		}
		h.row = w.conn.LastInsertRowID()
	}
	err := w.bound(`INSERT INTO entries (history, sequence, id, kind, time, account, hash, record)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, func(stmt *sqlite.Stmt) {
		stmt.BindInt64(1, h.row)
		stmt.BindInt64(2, int64(e.Sequence))
		stmt.BindText(3, e.ID)
		stmt.BindText(4, string(e.Kind))
		stmt.BindInt64(5, e.Time.UnixNano())
		stmt.BindText(6, e.Account)
		stmt.BindBytes(7, e.Hash[:])
		stmt.BindBytes(8, e.Record)
	})
	if err != nil {
		return err
	}
	w.add(e, w.conn.LastInsertRowID(), h.row)
	h.Head = e.Head()
	return nil
}

// putRows stores the rows in parts, so that no buffer needs to hold them all.
func (w *writer) putRows(sum string, rows []byte) error {
	stmt, err := w.conn.Prepare(`INSERT INTO rows (sum, part, bytes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	for part := int64(0); part == 0 || len(rows) > 0; part++ {
		n := min(partSize, len(rows))
		stmt.BindText(1, sum)
		stmt.BindInt64(2, part)
		stmt.BindBytes(3, rows[:n])
		if _, err := stmt.Step(); err != nil {
			return err
		}
		if err := stmt.Reset(); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}
