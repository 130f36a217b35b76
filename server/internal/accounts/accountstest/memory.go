package accountstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
)

var _ accounts.Store = (*Memory)(nil)

// A Memory is a store for tests of what stands above it. It keeps what it is
// given until it is garbage. Its zero value is empty.
type Memory struct {
	mu      sync.Mutex
	entries map[ledger.History][]ledger.Entry
	secrets map[string]secret
}

type secret struct {
	value    []byte
	revision int64
}

// AppendAfter implements accounts.Store.
func (m *Memory) AppendAfter(ctx context.Context, after ledger.Sequence, d ledger.Draft) (ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return ledger.Entry{}, err
	}
	if m.entries == nil {
		m.entries = map[ledger.History][]ledger.Entry{}
	}
	var head ledger.Head
	if list := m.entries[d.History]; len(list) > 0 {
		head = list[len(list)-1].Head()
	}
	if head.Sequence != after {
		return ledger.Entry{}, fmt.Errorf("%w: it is at %d", ledger.ErrMoved, head.Sequence)
	}
	e := head.Seal(d)
	m.entries[d.History] = append(m.entries[d.History], e)
	return e, nil
}

// Span implements accounts.Store.
func (m *Memory) Span(_ context.Context, h ledger.History, after ledger.Sequence, n int) ([]ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.entries[h]
	list = list[min(len(list), int(after)):]
	return slices.Clone(list[:min(n, len(list))]), nil
}

// Append implements accounts.Store.
func (m *Memory) Append(ctx context.Context, d ledger.Draft) (ledger.Entry, bool, error) {
	m.mu.Lock()
	list := m.entries[d.History]
	m.mu.Unlock()
	for _, e := range list {
		if e.ID == d.ID {
			return e, true, nil
		}
	}
	e, err := m.AppendAfter(ctx, ledger.Sequence(len(list)), d)
	if errors.Is(err, ledger.ErrMoved) {
		return m.Append(ctx, d)
	}
	return e, false, err
}

// Newest implements accounts.Store.
func (m *Memory) Newest(_ context.Context, h ledger.History, before ledger.Sequence, n int) ([]ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.entries[h]
	if before > 0 {
		list = list[:min(int(before)-1, len(list))]
	}
	list = slices.Clone(list[max(0, len(list)-n):])
	slices.Reverse(list)
	return list, nil
}

// Secret implements accounts.Store.
func (m *Memory) Secret(ctx context.Context, name string) ([]byte, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s, ok := m.secrets[name]
	if !ok {
		return nil, 0, fmt.Errorf("%s: %w", name, accounts.ErrNoSecret)
	}
	return slices.Clone(s.value), s.revision, nil
}

// PutSecret implements accounts.Store.
func (m *Memory) PutSecret(ctx context.Context, name string, revision int64, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if at := m.secrets[name].revision; at != revision {
		return fmt.Errorf("%w: it is at %d", ledger.ErrMoved, at)
	}
	if m.secrets == nil {
		m.secrets = map[string]secret{}
	}
	m.secrets[name] = secret{slices.Clone(value), revision + 1}
	return nil
}

// DeleteSecret implements accounts.Store.
func (m *Memory) DeleteSecret(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.secrets, name)
	return nil
}

// Secrets implements accounts.Store.
func (m *Memory) Secrets(_ context.Context, prefix string, each func(name string, value []byte) error) error {
	m.mu.Lock()
	all := maps.Clone(m.secrets)
	m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, prefix) {
			if err := each(name, slices.Clone(all[name].value)); err != nil {
				return err
			}
		}
	}
	return nil
}
