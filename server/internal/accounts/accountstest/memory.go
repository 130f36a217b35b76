package accountstest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
)

var _ accounts.Secrets = (*MemorySecrets)(nil)

// A MemorySecrets keeps secrets for tests of what stands above them. Its zero value has
// none.
type MemorySecrets struct {
	mu      sync.Mutex
	secrets map[string]secret
	full    bool
}

// Fill makes the store full, or ends that: whatever would change something is
// ledger.ErrFull then, unless its context may use the reserve.
func (m *MemorySecrets) Fill(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = full
}

// room returns ledger.ErrFull where there is none for a write. It needs m.mu.
func (m *MemorySecrets) room(ctx context.Context) error {
	if m.full && !ledger.MayUseReserve(ctx) {
		return fmt.Errorf("to order: %w", ledger.ErrFull)
	}
	return nil
}

type secret struct {
	value    []byte
	revision int64
}

// Secret implements accounts.Secrets.
func (m *MemorySecrets) Secret(ctx context.Context, name string) ([]byte, int64, error) {
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

// PutSecret implements accounts.Secrets.
func (m *MemorySecrets) PutSecret(ctx context.Context, name string, revision int64, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.room(ctx); err != nil {
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

// DeleteSecret implements accounts.Secrets.
func (m *MemorySecrets) DeleteSecret(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.room(ctx); err != nil {
		return err
	}
	delete(m.secrets, name)
	return nil
}

// Secrets implements accounts.Secrets.
func (m *MemorySecrets) Secrets(_ context.Context, prefix string, each func(name string, value []byte) error) error {
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

// SecretsAfter implements accounts.Secrets.
func (m *MemorySecrets) SecretsAfter(ctx context.Context, prefix, after string, n int) (out []accounts.Secret, err error) {
	err = m.Secrets(ctx, prefix, func(name string, value []byte) error {
		if name > after && name != prefix && len(out) < n {
			out = append(out, accounts.Secret{Name: name, Value: value})
		}
		return ctx.Err()
	})
	return out, err
}
