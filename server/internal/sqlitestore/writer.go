package sqlitestore

import (
	"context"
	"errors"
	"sync/atomic"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
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
	jobs  chan *job
	done  chan struct{}
	heads map[ledger.History]*knownHead
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
	err   error
	done  chan error
}

// refused wraps the error of a job that has written nothing, so that the
// others in its transaction are not held up.
type refused struct{ error }

func startWriter(conn *sqlite.Conn) *writer {
	w := &writer{
		conn:  conn,
		jobs:  make(chan *job, maxBatch),
		done:  make(chan struct{}),
		heads: map[ledger.History]*knownHead{},
	}
	go w.loop()
	return w
}

// stop lets the writer end. No other call may be under way.
func (w *writer) stop() error {
	close(w.jobs)
	<-w.done
	return w.conn.Close()
}

// do runs a write and returns once it would survive a power cut, or was not
// made. A write whose context ends before its turn is not made; one whose turn
// has come is waited for, because it uses the caller's memory.
func (w *writer) do(ctx context.Context, f func(*writer) error) error {
	j := &job{ctx: ctx, run: f, done: make(chan error, 1)}
	select {
	case w.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
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

func (w *writer) loop() {
	defer close(w.done)
	batch := make([]*job, 0, maxBatch)
	for j := range w.jobs {
		batch = append(batch[:0], j)
		for waiting := len(w.jobs); waiting > 0 && len(batch) < maxBatch; waiting-- {
			batch = append(batch, <-w.jobs)
		}
		err := w.commit(batch)
		for _, j := range batch {
			if j.err == nil {
				j.err = err
			}
			j.done <- j.err
		}
		clear(batch)
	}
}

// commit runs the jobs in one transaction. Where a job was refused or left
// behind, its own err is set. The error returned is that of all others, of
// which none is stored then.
func (w *writer) commit(batch []*job) error {
	err := w.exec(`BEGIN IMMEDIATE`)
	for _, j := range batch {
		if err != nil {
			break
		}
		if !j.taken.CompareAndSwap(false, true) {
			continue
		}
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		var r refused
		if err = j.run(w); errors.As(err, &r) {
			j.err, err = r.error, nil
		}
	}
	if err == nil {
		err = w.exec(`COMMIT`)
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
	return err
}

func (w *writer) exec(sql string) error {
	return query(w.conn, sql, 1, func(*sqlite.Stmt) {}, func(*sqlite.Stmt) {})
}

// head returns the newest entry of a history.
func (w *writer) head(name ledger.History) (*knownHead, error) {
	if h := w.heads[name]; h != nil {
		return h, nil
	}
	h := &knownHead{}
	err := query(w.conn, `SELECT id FROM histories WHERE name = ?`, 1,
		func(stmt *sqlite.Stmt) { stmt.BindText(1, string(name)) },
		func(stmt *sqlite.Stmt) { h.row = stmt.ColumnInt64(0) })
	if err != nil {
		return nil, err
	}
	newest, err := appendSpan(nil, w.conn, spanNewestFirst, name, 1, maxSequence, 1)
	if err != nil {
		return nil, err
	}
	if len(newest) > 0 {
		h.Head = newest[0].Head()
	}
	w.heads[name] = h
	return h, nil
}

// append stores the draft after its history's newest entry, or returns the
// entry that has its id already.
func (w *writer) append(d ledger.Draft) (e ledger.Entry, existed bool, err error) {
	h, err := w.head(d.History)
	if err != nil {
		return e, false, err
	}
	if h.row == 0 {
		stmt, err := w.conn.Prepare(`INSERT INTO histories (name) VALUES (?)`)
		if err != nil {
			return e, false, err
		}
		stmt.BindText(1, string(d.History))
		if _, err := stmt.Step(); err != nil {
			return e, false, err
		}
		h.row = w.conn.LastInsertRowID()
	}
	e = h.Seal(d)
	stmt, err := w.conn.Prepare(`INSERT INTO entries (place, history, id, kind, time, account, hash, record)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (history, id) DO NOTHING`)
	if err != nil {
		return e, false, err
	}
	stmt.BindInt64(1, h.row<<32|int64(e.Sequence))
	stmt.BindInt64(2, h.row)
	stmt.BindText(3, e.ID)
	stmt.BindText(4, string(e.Kind))
	stmt.BindInt64(5, e.Time.UnixNano())
	stmt.BindText(6, e.Account)
	stmt.BindBytes(7, e.Hash[:])
	stmt.BindBytes(8, e.Record)
	if _, err := stmt.Step(); err != nil {
		return e, false, err
	}
	if w.conn.Changes() > 0 {
		h.Head = e.Head()
		return e, false, nil
	}
	return findID(w.conn, d.History, d.ID)
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
