package sqlitestore

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
	"xuncha/server/internal/clock"
)

var _ clock.Notes = (*Store)(nil)

const (
	noteByName = `SELECT value, revision FROM notes WHERE name = +?`
	lastTime   = `SELECT time, record FROM entries ORDER BY entry DESC`
)

// Note implements clock.Notes.
func (s *Store) Note(ctx context.Context, name string) (value []byte, revision int64, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, noteByName, 1,
			func(stmt *sqlite.Stmt) { stmt.BindText(1, name) },
			func(stmt *sqlite.Stmt) { value, revision = bytesOf(stmt, 0), stmt.ColumnInt64(1) })
	})
	if err == nil && revision == 0 {
		err = fmt.Errorf("%s: %w", name, clock.ErrNoNote)
	}
	return value, revision, err
}

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

// PutNote implements clock.Notes.
func (s *Store) PutNote(ctx context.Context, name string, revision int64, value []byte) error {
	return s.write(ctx, func(w *writer) error {
		var at int64
		err := query(w.conn, noteByName, 1,
			func(stmt *sqlite.Stmt) { stmt.BindText(1, name) },
			func(stmt *sqlite.Stmt) { at = stmt.ColumnInt64(1) })
		if err != nil {
			return err
		}
		if at != revision {
			return refused{fmt.Errorf("%w: %s is at revision %d, not at %d", ledger.ErrMoved, name, at, revision)}
		}
		return w.bound(`INSERT INTO notes (name, revision, value) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, value = excluded.value`, func(stmt *sqlite.Stmt) {
			stmt.BindText(1, name)
			stmt.BindInt64(2, revision+1)
			stmt.BindBytes(3, value)
		})
	})
}
