// Package sqlitestore is the embedded engine: one SQLite file and the files of
// photos in a data folder that one server holds alone. What it acknowledges survives a power cut.
//
// Writes go through one goroutine, which commits all that is waiting in one
// transaction, so that many callers share one flush of the disk. Reads have
// connections of their own and never wait for writes.
package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"xuncha/ledger"
	"xuncha/server/internal/engine"
	"xuncha/sites"
)

var (
	_ ledger.Store = (*Store)(nil)
	_ sites.Rows   = (*Store)(nil)
)

// File is the name of the database in the data folder.
const File = "xuncha.db"

const (
	// readers is how many reads can run at once.
	readers = 4
	// readCacheKiB is the page cache of each connection for reading. The operating
	// system caches the file anyway; a small cache keeps an idle server small.
	readCacheKiB = 2048
	// writeCacheKiB is that of the writer, which looks up an id for each entry and
	// writes most pages of the indexes again and again. It fills as they grow.
	writeCacheKiB = 16384
	// busyTimeout is how long a connection waits for a lock of SQLite's own.
	// Nobody but this process has the file, so none is held for long.
	busyTimeout = 10 * time.Second
)

// A Store is an open data folder. It is safe for concurrent use.
type Store struct {
	lock    *os.File
	marker  *marker
	reserve *reserve
	writer  *writer
	recent  *recent
	ids     *ids
	photos  *photoStore
	reads   chan *sqlite.Conn // those not in use
	gate    engine.Gate

	// doubts and newest tell where an append would use a sequence once more.
	doubts doubts
	newest newest

	// release gives up what a store that was opened at rest has; nil of any other.
	release func() error

	stopBackground   context.CancelFunc
	filling, indexer sync.WaitGroup
}

// Open opens the data folder, and makes it where there is none, readable by its
// owner alone. The error is ErrLocked where another server has it, ErrForeign
// or ErrNewer where this version cannot use what is in it, and ErrLost where it lacks
// what was acknowledged; nothing is made or deleted in it then. A migration that
// takes long stops, and is undone, where ctx ends.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	s, err := openWith(ctx, dir, o, slotOf)
	if errors.Is(engine.FileError(err), ledger.ErrFull) && giveUpReserve(dir) {
		// To open takes a little room too.
		s, err = openWith(ctx, dir, o, slotOf)
	}
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w. %s was cut short or altered. %s", err, File, wayBack)
	}
	return s, err
}

// openWith is Open with the function that gives ids their slots.
func openWith(ctx context.Context, dir string, o Options, slotOf func(ledger.History, string) int64) (_ *Store, err error) {
	o = o.completed()
	s := &Store{
		recent: newRecent(), reads: make(chan *sqlite.Conn, readers), ids: &ids{slotOf: slotOf, wanted: make(chan struct{})},
		marker: &marker{path: filepath.Join(dir, markFile), log: o.Log},
	}
	var conns []*sqlite.Conn
	restore := func() {}
	defer func() {
		if err == nil {
			return
		}
		for _, conn := range conns {
			conn.Close()
		}
		if errors.Is(err, ErrLost) {
			restore()
		}
		if s.lock != nil {
			s.lock.Close()
		}
		err = fmt.Errorf("data folder %s: %w", dir, translate(err))
	}()
	gone := checkFolder(dir, o)
	if err := o.accept(dir, gone); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if s.lock, err = lockFolder(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, File)
	if err := createFile(path); err != nil {
		return nil, err
	}
	restore = untouched(dir)
	connect := func(flags sqlite.OpenFlags) (*sqlite.Conn, error) {
		conn, err := sqlite.OpenConn(path, flags)
		if err == nil {
			conns = append(conns, conn)
			conn.SetBusyTimeout(busyTimeout)
		}
		return conn, err
	}
	// The first connection only reads. Whatever is wrong with the database, its files stay
	// as they are: closing one that writes would give up what its log has behind a fault.
	first, err := connect(sqlite.OpenReadOnly)
	if err != nil {
		return nil, err
	}
	_, err = schemaVersion(first, len(migrations))
	if sqlite.ErrCode(err) == sqlite.ResultReadOnlyRollback {
		if err := rollBack(path); err != nil {
			return nil, err
		}
		_, err = schemaVersion(first, len(migrations))
	}
	if err != nil {
		return nil, err
	}
	now, renew, err := checkEntries(first, dir, o)
	if gone != nil && errors.Is(err, ErrLost) {
		err = nil // which was said, and accepted, of the whole database
	}
	if err := o.accept(dir, err); err != nil {
		return nil, err
	}
	writing, err := connect(sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	if err := prepareFile(ctx, writing); err != nil {
		return nil, err
	}
	for range readers - 1 {
		if _, err := connect(sqlite.OpenReadOnly); err != nil {
			return nil, err
		}
	}
	for _, conn := range conns {
		cache := readCacheKiB
		if conn == writing {
			cache = writeCacheKiB
		} else {
			s.reads <- conn
		}
		if err := sqlitex.ExecuteTransient(conn, fmt.Sprintf(`PRAGMA cache_size = -%d`, cache), nil); err != nil {
			return nil, err
		}
	}
	if s.marker.now = now; renew {
		if err := s.renewMark(writing, now); err != nil {
			return nil, err
		}
	}
	// By now it is known that the folder is ours.
	if s.photos, err = openPhotos(s, dir); err != nil {
		return nil, err
	}
	if s.reserve, err = openReserve(dir, o); err != nil {
		return nil, err
	}
	if s.writer, err = s.startWriter(writing, path, o); err != nil {
		return nil, errors.Join(err, s.reserve.close())
	}
	// What runs in the background outlives the call that opens the store.
	background, stop := context.WithCancel(context.Background())
	s.stopBackground = stop
	// Where it fails, ids are looked up without the filter.
	s.filling.Go(func() { _ = s.fill(background) })
	s.indexer.Go(func() { s.indexWhileQuiet(background) })
	return s, nil
}

// createFile makes sure that there is a database file. SQLite would let others
// read a file that it makes itself.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// A new name survives a power cut once its folder is flushed.
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if err := engine.SyncFolder(dir); err != nil {
			return err
		}
	}
	return nil
}

// rollBack undoes a transaction of the time before the file had a write-ahead log, which a
// power cut has left half done. Nothing was acknowledged then, and nothing can be read
// until it is undone.
func rollBack(path string) error {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	_, err = number(conn, `SELECT count(*) FROM sqlite_schema`)
	return errors.Join(err, conn.Close())
}

// prepareFile checks whose file it is before it changes anything in it.
func prepareFile(ctx context.Context, conn *sqlite.Conn) error {
	conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(nil)
	if _, err := schemaVersion(conn, len(migrations)); err != nil {
		return err
	}
	mode := ""
	err := sqlitex.ExecuteTransient(conn, `PRAGMA journal_mode = wal`, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error { mode = stmt.ColumnText(0); return nil },
	})
	if err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("%s cannot have a write-ahead log there: its journal stays %q", File, mode)
	}
	for _, setting := range writerSettings {
		if err := sqlitex.ExecuteTransient(conn, setting, nil); err != nil {
			return err
		}
	}
	return migrate(conn, migrations)
}

// Close waits for the calls that are under way, then releases the folder. A
// call that comes later gives ledger.ErrUnavailable.
func (s *Store) Close() error {
	s.stopBackground()
	s.filling.Wait()
	s.indexer.Wait()
	return s.gate.Close(func() error {
		var errs []error
		for range readers {
			errs = append(errs, (<-s.reads).Close())
		}
		if s.release != nil {
			return errors.Join(append(errs, s.release())...)
		}
		// The last connection to close moves what is in the log to the database.
		return errors.Join(append(errs, s.writer.stop(), s.marker.close(), s.reserve.close(), s.lock.Close())...)
	})
}

// Shared tells that nobody else writes to the folder.
func (s *Store) Shared() bool { return false }

// ErrDamaged means that the database's file is not what SQLite has written. It comes with
// ledger.ErrUnavailable: calls keep what they have until somebody has seen to it.
var ErrDamaged = ledger.ErrDamaged

// final are SQLite's codes of what is a mistake in the program: a statement or a value is
// wrong. Whatever else it says is a fault of the disk or the system, or may pass: locks,
// files that cannot be read or opened just now, memory that is short.
var final = []sqlite.ResultCode{
	sqlite.ResultError, // also of an error that is not SQLite's
	sqlite.ResultInternal, sqlite.ResultNotFound, sqlite.ResultConstraint, sqlite.ResultMismatch,
	sqlite.ResultMisuse, sqlite.ResultNoLFS, sqlite.ResultAuth, sqlite.ResultFormat, sqlite.ResultRange,
}

// translate gives SQLite's errors the meaning that callers know.
func translate(err error) error {
	switch code := sqlite.ErrCode(err); {
	case err == nil, slices.Contains(final, code.ToPrimary()):
		return err
	case code.ToPrimary() == sqlite.ResultFull, code == sqlite.ResultIOErrSHMSize:
		return fmt.Errorf("%w: %w", ledger.ErrFull, err)
	case isDamage(err):
		return fmt.Errorf("%w: %w: %w", ledger.ErrUnavailable, ErrDamaged, err)
	}
	return fmt.Errorf("%w: %w", ledger.ErrUnavailable, err)
}

// indexWhileQuiet brings the indexes up to date whenever nobody has written for a
// while. So a server that has little to do needs no memory for what waits.
func (s *Store) indexWhileQuiet(ctx context.Context) {
	tick := time.NewTicker(quietAfter)
	defer tick.Stop()
	for before := -1; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		waiting := s.recent.waiting()
		if waiting == before && s.indexQuietly(ctx) == nil {
			waiting = s.recent.waiting()
		}
		before = waiting
	}
}

// indexQuietly indexes what waits, in transactions so short that whoever writes
// meanwhile is not held up.
func (s *Store) indexQuietly(ctx context.Context) error {
	waiting := s.recent.waiting()
	if waiting == 0 {
		return nil
	}
	for range 2 * (waiting/quietIndexed + 1) { // the places, and then the slots
		if err := s.write(ctx, func(w *writer) error { w.quiet = true; return nil }); err != nil {
			return err
		}
	}
	return nil
}

// Append implements ledger.Store.
func (s *Store) Append(ctx context.Context, d ledger.Draft) (e ledger.Entry, existed bool, err error) {
	err = s.write(ctx, func(w *writer) error {
		e, existed, err = w.append(d)
		return err
	})
	if err != nil {
		return ledger.Entry{}, false, err
	}
	return e, existed, nil
}

// AppendAfter implements ledger.Store.
func (s *Store) AppendAfter(ctx context.Context, after ledger.Sequence, d ledger.Draft) (e ledger.Entry, err error) {
	err = s.write(ctx, func(w *writer) error {
		h, err := w.head(d.History)
		if err != nil {
			return forJob(d.History, err)
		}
		if h.Sequence != after {
			return refused{fmt.Errorf("%w: %s is at %d, not at %d", ledger.ErrMoved, d.History, h.Sequence, after)}
		}
		var existed bool
		if e, existed, err = w.append(d); existed {
			return refused{fmt.Errorf("%w: %s has the id %s", ledger.ErrMoved, d.History, d.ID)}
		}
		return err
	})
	if err != nil {
		return ledger.Entry{}, err
	}
	return e, nil
}

// PutRows implements sites.Rows.
func (s *Store) PutRows(ctx context.Context, sum string, rows []byte) error {
	return s.write(ctx, func(w *writer) error { return w.putRows(sum, rows) })
}

func (s *Store) write(ctx context.Context, f func(*writer) error) error {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if s.release != nil {
		return errAtRest
	}
	if err := s.reserve.admit(ctx); err != nil {
		return err
	}
	return s.writer.do(ctx, f)
}
