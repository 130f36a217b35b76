package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"

	"modernc.org/sqlite/vfs"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"xuncha/ledger"
	"xuncha/server/internal/engine"
)

// errAtRest is the error of whoever wants to write to a store that was opened at rest.
var errAtRest = fmt.Errorf("%w: the data folder was opened only to be read", errors.ErrUnsupported)

// OpenAtRest opens a data folder to read what is in it. Nothing in it is changed: what
// is in the log stays there, a folder of an earlier version stays as it is, and a folder
// that cannot be written to is enough. What needs a newer schema, such as looking up
// entries by their ids, fails then. While it is open no server can have the folder; the
// error is ErrLocked where one has it, and ErrLost where the database is missing.
func OpenAtRest(ctx context.Context, dir string) (_ *Store, err error) {
	s := &Store{recent: newRecent(), reads: make(chan *sqlite.Conn, readers), ids: &ids{slotOf: slotOf, wanted: make(chan struct{})}}
	s.stopBackground = func() {}
	s.photos = &photoStore{Store: s, dir: filepath.Join(dir, photosFolder)}
	var conns []*sqlite.Conn
	var closers []func() error
	release := sync.OnceValue(func() (err error) {
		for i := range closers {
			err = errors.Join(err, closers[len(closers)-1-i]())
		}
		return err
	})
	s.release = release
	defer func() {
		if err == nil {
			return
		}
		for _, conn := range conns {
			conn.Close()
		}
		_ = release()
		err = fmt.Errorf("data folder %s: %w", dir, translate(err))
	}()
	if err := checkFolder(dir, Options{}); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, File)); err != nil {
		return nil, err
	}
	lock, err := lockAtRest(dir)
	if err != nil {
		return nil, err
	}
	if lock != nil {
		closers = append(closers, lock.Close)
	}
	if info, err := os.Stat(filepath.Join(dir, File+"-journal")); err == nil && info.Size() > 0 {
		return nil, errors.New("its making was interrupted; a server that starts on it ends that")
	}
	frozen, err := openFrozen(dir)
	if err != nil {
		return nil, err
	}
	closers = append(closers, frozen.close)
	name, files, err := vfs.New(frozen)
	if err != nil {
		return nil, err
	}
	closers = append(closers, files.Close)
	for range readers {
		conn, err := sqlite.OpenConn("file:"+File+"?immutable=1&vfs="+name, sqlite.OpenReadOnly|sqlite.OpenURI)
		if err != nil {
			return nil, err
		}
		conns = append(conns, conn)
		// Of a file that was cut short, SQLite reads what there is only with writable_schema,
		// by which nothing can be written here all the same.
		for _, setting := range []string{`PRAGMA writable_schema = on`, fmt.Sprintf(`PRAGMA cache_size = -%d`, readCacheKiB), `PRAGMA temp_store = memory`} {
			if err := sqlitex.ExecuteTransient(conn, setting, nil); err != nil {
				return nil, err
			}
		}
	}
	version, err := schemaVersion(conns[0], len(migrations))
	if err != nil {
		return nil, err
	}
	if version == 0 {
		// Where the log was removed early, it had all that there was.
		if _, _, err := checkEntries(conns[0], dir, Options{}); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s is empty", ErrForeign, File)
	}
	if err := s.loadUnindexed(ctx, conns[0]); err != nil {
		return nil, err
	}
	for _, conn := range conns {
		s.reads <- conn
	}
	return s, nil
}

// lockAtRest takes the folder, so that no server starts meanwhile. Where nobody can
// write to the folder, none can, and there may be no file to lock.
func lockAtRest(dir string) (*os.File, error) {
	f, err := lockFolder(dir)
	if err == nil || errors.Is(err, ErrLocked) {
		return f, err
	}
	f, err = os.Open(filepath.Join(dir, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	taken, err := engine.TryLock(f)
	if err == nil && taken {
		return f, nil
	}
	if err == nil {
		err = ErrLocked
	}
	return nil, errors.Join(err, f.Close())
}

// loadUnindexed puts into memory what the indexes lack, as far as it can be read: whoever
// looks at a damaged folder goes through all rows anyway.
func (s *Store) loadUnindexed(ctx context.Context, conn *sqlite.Conn) error {
	conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(nil)
	var entries []ledger.Entry
	var rows []indexRow
	err := query(conn, unindexed, math.MaxInt, func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) {
		e := readEntry(stmt, ledger.History(stmt.ColumnText(9)), new(arena).record(stmt))
		entries = append(entries, e)
		rows = append(rows, indexRow{entryID: entryID{e.History, e.ID}, entry: stmt.ColumnInt64(7), history: stmt.ColumnInt64(8), Sequence: e.Sequence})
	})
	if err != nil && !unreadable(err) {
		return err
	}
	s.recent.publish(rows, entries)
	return nil
}
