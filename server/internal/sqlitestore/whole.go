package sqlitestore

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"xuncha/ledger"
)

// newestAfter gives the newest indexed entry of each history, by name.
const newestAfter = `SELECT h.name, e.sequence, e.time, e.hash FROM histories h LEFT JOIN entries e
	ON e.entry = (SELECT entry FROM places WHERE place = (SELECT max(place) FROM places WHERE place BETWEEN h.id << 32 AND (h.id << 32) + 4294967295))
	WHERE h.name > ? ORDER BY h.name`

// Heads implements ledger.Store.
func (s *Store) Heads(ctx context.Context, each func(ledger.History, ledger.Head) error) error {
	names := make([]ledger.History, 0, feedPage)
	heads := make([]ledger.Head, 0, feedPage)
	// What is not indexed yet is in memory, and looked at first.
	unindexed := s.recent.unindexedHeads()
	for last := ledger.History(""); ; last = names[len(names)-1] {
		names, heads = names[:0], heads[:0]
		err := s.read(ctx, func(conn *sqlite.Conn) error {
			return query(conn, newestAfter, feedPage, func(stmt *sqlite.Stmt) { stmt.BindText(1, string(last)) }, func(stmt *sqlite.Stmt) {
				h := ledger.Head{Sequence: ledger.Sequence(stmt.ColumnInt64(1)), Time: time.Unix(0, stmt.ColumnInt64(2)).UTC()}
				stmt.ColumnBytes(3, h.Hash[:])
				name := ledger.History(stmt.ColumnText(0))
				if u, ok := unindexed[name]; ok && u.Sequence > h.Sequence {
					h = u
				}
				names, heads = append(names, name), append(heads, h)
			})
		})
		if err != nil {
			return err
		}
		for i, name := range names {
			if heads[i].Sequence == 0 {
				continue
			}
			if err := each(name, heads[i]); err != nil {
				return err
			}
		}
		if len(names) < feedPage {
			return nil
		}
	}
}

// CountEntries returns how many entries there are.
func (s *Store) CountEntries(ctx context.Context) (n int64, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		// They are numbered without gaps, and none is ever deleted.
		n, err = lastKnownRow(conn)
		return err
	})
	return n, err
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
			return forJob(name, err)
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
