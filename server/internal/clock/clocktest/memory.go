package clocktest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"xuncha/ledger"
	"xuncha/server/internal/clock"
)

var _ clock.Notes = (*MemoryNotes)(nil)

// A MemoryNotes keeps notes for tests of what stands above them. Its zero value has none.
type MemoryNotes struct {
	mu    sync.Mutex
	notes map[string]note
}

type note struct {
	value    []byte
	revision int64
}

// Note implements clock.Notes.
func (m *MemoryNotes) Note(ctx context.Context, name string) ([]byte, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	n, ok := m.notes[name]
	if !ok {
		return nil, 0, fmt.Errorf("%s: %w", name, clock.ErrNoNote)
	}
	return slices.Clone(n.value), n.revision, nil
}

// PutNote implements clock.Notes.
func (m *MemoryNotes) PutNote(ctx context.Context, name string, revision int64, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if at := m.notes[name].revision; at != revision {
		return fmt.Errorf("%w: it is at %d", ledger.ErrMoved, at)
	}
	if m.notes == nil {
		m.notes = map[string]note{}
	}
	m.notes[name] = note{slices.Clone(value), revision + 1}
	return nil
}
