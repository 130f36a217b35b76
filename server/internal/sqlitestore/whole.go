package sqlitestore

import (
	"context"
	"fmt"
	"math"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
)

// Heads implements ledger.Store.
func (s *Store) Heads(ctx context.Context, each func(ledger.History, ledger.Head) error) error {
	var names []ledger.History
	err := s.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, `SELECT name FROM histories ORDER BY name`, math.MaxInt, func(*sqlite.Stmt) {},
			func(stmt *sqlite.Stmt) { names = append(names, ledger.History(stmt.ColumnText(0))) })
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		newest, err := s.Newest(ctx, name, 0, 1)
		if err != nil {
			return err
		}
		if len(newest) == 0 {
			continue
		}
		if err := each(name, newest[0].Head()); err != nil {
			return err
		}
	}
	return nil
}

// Span implements ledger.Store.
func (s *Store) Span(ctx context.Context, h ledger.History, after ledger.Sequence, n int) (out []ledger.Entry, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		out, err = s.span(conn, h, after, n)
		return err
	})
	return out, err
}

// Put implements ledger.Store. All of the entries are stored, or none.
func (s *Store) Put(ctx context.Context, entries []ledger.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	return s.write(ctx, func(w *writer) error {
		name := entries[0].History
		h, err := w.head(name)
		if err != nil {
			return err
		}
		// The whole chain is checked before anything is stored.
		head := h.Head
		if entries[0].Sequence != head.Sequence+1 {
			return refused{fmt.Errorf("%w: %s is at %d, not at %d", ledger.ErrMoved, name, head.Sequence, entries[0].Sequence-1)}
		}
		for _, e := range entries {
			if head, err = head.Follow(e); err != nil {
				return refused{err}
			}
		}
		for _, e := range entries {
			if err := w.insert(h, e); err != nil {
				return err
			}
		}
		return nil
	})
}
