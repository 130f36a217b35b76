package sitestest

import (
	"bytes"
	"context"
	"sync"

	"xuncha/sites"
)

// MemoryRows are kept in memory, for tests of what stands above them. The zero value has none.
type MemoryRows struct {
	mu   sync.Mutex
	rows map[string][]byte
}

var _ sites.Rows = (*MemoryRows)(nil)

// PutRows implements sites.Rows.
func (m *MemoryRows) PutRows(ctx context.Context, sum string, rows []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.rows == nil {
		m.rows = map[string][]byte{}
	}
	m.rows[sum] = bytes.Clone(rows)
	return nil
}

// Rows implements sites.Rows.
func (m *MemoryRows) Rows(ctx context.Context, sum string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows, ok := m.rows[sum]
	if !ok {
		return nil, sites.ErrRowsUnknown
	}
	return bytes.Clone(rows), nil
}
