package sqlitestore

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
	"xuncha/server/internal/clock"
)

var _ clock.Notes = (*Store)(nil)

const noteByName = `SELECT value, revision FROM notes WHERE name = +?`

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
