package sqlitestore

import (
	"context"
	"fmt"
	"math"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/engine"
)

var _ accounts.Secrets = (*Store)(nil)

// secretsSince is the schema version since which there are secrets. A folder that is
// read at rest may have an earlier one.
const secretsSince = 2

const (
	secretByName = `SELECT value, revision FROM secrets WHERE name = +?`
	// What somebody has put another kind of name in is among all.
	allSecrets   = `SELECT name, value FROM secrets ORDER BY name`
	secretsFrom  = `SELECT name, value FROM secrets WHERE name >= ? AND name < ? ORDER BY name`
	secretsAfter = `SELECT name, value FROM secrets WHERE name > ? AND name < ? ORDER BY name LIMIT ?`
)

// Secret implements accounts.Secrets.
func (s *Store) Secret(ctx context.Context, name string) (value []byte, revision int64, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, secretByName, 1,
			func(stmt *sqlite.Stmt) { stmt.BindText(1, name) },
			func(stmt *sqlite.Stmt) { value, revision = bytesOf(stmt, 0), stmt.ColumnInt64(1) })
	})
	if err == nil && revision == 0 {
		err = fmt.Errorf("%s: %w", name, accounts.ErrNoSecret)
	}
	return value, revision, err
}

func bytesOf(stmt *sqlite.Stmt, column int) []byte {
	b := make([]byte, stmt.ColumnLen(column))
	stmt.ColumnBytes(column, b)
	return b
}

// PutSecret implements accounts.Secrets.
func (s *Store) PutSecret(ctx context.Context, name string, revision int64, value []byte) error {
	return s.write(ctx, func(w *writer) error {
		var at int64
		err := query(w.conn, `SELECT revision FROM secrets WHERE name = +?`, 1,
			func(stmt *sqlite.Stmt) { stmt.BindText(1, name) },
			func(stmt *sqlite.Stmt) { at = stmt.ColumnInt64(0) })
		if err != nil {
			return err
		}
		if at != revision {
			return refused{fmt.Errorf("%w: %s is at revision %d, not at %d", ledger.ErrMoved, name, at, revision)}
		}
		return w.bound(`INSERT INTO secrets (name, revision, value) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, value = excluded.value`, func(stmt *sqlite.Stmt) {
			stmt.BindText(1, name)
			stmt.BindInt64(2, revision+1)
			stmt.BindBytes(3, value)
		})
	})
}

// DeleteSecret implements accounts.Secrets.
func (s *Store) DeleteSecret(ctx context.Context, name string) error {
	return s.write(ctx, func(w *writer) error {
		return w.bound(`DELETE FROM secrets WHERE name = +?`, func(stmt *sqlite.Stmt) { stmt.BindText(1, name) })
	})
}

// Secrets implements accounts.Secrets.
func (s *Store) Secrets(ctx context.Context, prefix string, each func(name string, value []byte) error) error {
	var all []accounts.Secret
	err := s.read(ctx, func(conn *sqlite.Conn) error {
		if version, err := number(conn, `PRAGMA user_version`); err != nil || version < secretsSince {
			return err
		}
		each := func(stmt *sqlite.Stmt) {
			all = append(all, accounts.Secret{Name: stmt.ColumnText(0), Value: bytesOf(stmt, 1)})
		}
		if prefix == "" {
			return query(conn, allSecrets, math.MaxInt, func(*sqlite.Stmt) {}, each)
		}
		return query(conn, secretsFrom, math.MaxInt, func(stmt *sqlite.Stmt) {
			stmt.BindText(1, prefix)
			stmt.BindText(2, engine.Beyond(prefix))
		}, each)
	})
	if err != nil {
		return err
	}
	for _, s := range all {
		if err := each(s.Name, s.Value); err != nil {
			return err
		}
	}
	return nil
}

// SecretsAfter implements accounts.Secrets.
func (s *Store) SecretsAfter(ctx context.Context, prefix, after string, n int) (out []accounts.Secret, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, secretsAfter, n,
			func(stmt *sqlite.Stmt) {
				stmt.BindText(1, max(prefix, after))
				stmt.BindText(2, engine.Beyond(prefix))
				stmt.BindInt64(3, int64(n))
			},
			func(stmt *sqlite.Stmt) {
				out = append(out, accounts.Secret{Name: stmt.ColumnText(0), Value: bytesOf(stmt, 1)})
			})
	})
	return out, err
}
