package inspectionstest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/sites"
)

// A Memory is a store of both ports for tests of what stands above them. It
// keeps what it is given until it is garbage. Its zero value is empty.
type Memory struct {
	mu      sync.Mutex
	entries map[ledger.History][]ledger.Entry
	rows    map[string][]byte

	MemoryPhotos

	// Fail, where it is set, is asked before each append, with the draft. Where
	// it returns an error, that is the answer; the entry is stored all the same
	// where stored is true, as when a reply is lost.
	Fail func(d ledger.Draft) (stored bool, err error)
}

func (m *Memory) append(d ledger.Draft) (ledger.Entry, error) {
	var failure error
	if m.Fail != nil {
		var stored bool
		if stored, failure = m.Fail(d); failure != nil && !stored {
			return ledger.Entry{}, failure
		}
	}
	if m.entries == nil {
		m.entries = map[ledger.History][]ledger.Entry{}
	}
	var head ledger.Head
	if list := m.entries[d.History]; len(list) > 0 {
		head = list[len(list)-1].Head()
	}
	e := head.Seal(d)
	m.entries[d.History] = append(m.entries[d.History], e)
	return e, failure
}

// Append implements inspections.Store.
func (m *Memory) Append(ctx context.Context, d ledger.Draft) (ledger.Entry, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return ledger.Entry{}, false, err
	}
	for _, e := range m.entries[d.History] {
		if e.ID == d.ID {
			return e, true, nil
		}
	}
	e, err := m.append(d)
	return e, false, err
}

// AppendAfter implements sites.Store.
func (m *Memory) AppendAfter(ctx context.Context, after ledger.Sequence, d ledger.Draft) (ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return ledger.Entry{}, err
	}
	if n := len(m.entries[d.History]); ledger.Sequence(n) != after {
		return ledger.Entry{}, fmt.Errorf("%w: it is at %d", ledger.ErrMoved, n)
	}
	return m.append(d)
}

// RosterEntries implements sites.Store.
func (m *Memory) RosterEntries(_ context.Context, after ledger.Sequence, n int) ([]ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.entries[ledger.Roster]
	list = list[min(int(after), len(list)):]
	return slices.Clone(list[:min(n, len(list))]), nil
}

// PutRows implements sites.Store.
func (m *Memory) PutRows(_ context.Context, sum string, rows []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil {
		m.rows = map[string][]byte{}
	}
	m.rows[sum] = slices.Clone(rows)
	return nil
}

// Rows implements sites.Store.
func (m *Memory) Rows(_ context.Context, sum string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rows, ok := m.rows[sum]
	if !ok {
		return nil, sites.ErrRowsUnknown
	}
	return slices.Clone(rows), nil
}

// History implements inspections.Store.
func (m *Memory) History(_ context.Context, id sites.SiteID, before ledger.Sequence, n int) ([]ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ledger.Entry
	for _, e := range slices.Backward(m.entries[id.History()]) {
		if (before == 0 || e.Sequence < before) && len(out) < n {
			out = append(out, e)
		}
	}
	return out, nil
}

// Entry implements inspections.Store.
func (m *Memory) Entry(_ context.Context, id sites.SiteID, entry string) (ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries[id.History()] {
		if e.ID == entry {
			return e, nil
		}
	}
	return ledger.Entry{}, inspections.ErrNotFound
}

// Entries implements inspections.Store.
func (m *Memory) Entries(_ context.Context, keys []inspections.Key) ([]ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]ledger.Entry, 0, len(keys))
	for _, k := range keys {
		list := m.entries[k.Site.History()]
		if k.Sequence < 1 || int(k.Sequence) > len(list) {
			return nil, inspections.ErrNotFound
		}
		out = append(out, list[k.Sequence-1])
	}
	return out, nil
}

// Replay implements inspections.Store.
func (m *Memory) Replay(_ context.Context, each func(ledger.Entry) error) error {
	m.mu.Lock()
	all := maps.Clone(m.entries)
	m.mu.Unlock()
	delete(all, ledger.Roster)
	delete(all, ledger.Accounts)
	for _, list := range all {
		for _, e := range list {
			if err := each(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Heads implements ledger.Archive.
func (m *Memory) Heads(_ context.Context, each func(ledger.History, ledger.Head) error) error {
	m.mu.Lock()
	all := maps.Clone(m.entries)
	m.mu.Unlock()
	for _, h := range slices.Sorted(maps.Keys(all)) {
		if err := each(h, all[h][len(all[h])-1].Head()); err != nil {
			return err
		}
	}
	return nil
}

// Span implements ledger.Archive.
func (m *Memory) Span(_ context.Context, h ledger.History, after ledger.Sequence, n int) ([]ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.entries[h]
	list = list[min(len(list), int(after)):]
	return slices.Clone(list[:min(n, len(list))]), nil
}

// Put implements ledger.Archive.
func (m *Memory) Put(_ context.Context, entries []ledger.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var head ledger.Head
	h := entries[0].History
	if list := m.entries[h]; len(list) > 0 {
		head = list[len(list)-1].Head()
	}
	if entries[0].Sequence != head.Sequence+1 {
		return ledger.ErrMoved
	}
	for _, e := range entries {
		var err error
		if head, err = head.Follow(e); err != nil {
			return err
		}
	}
	if m.entries == nil {
		m.entries = map[ledger.History][]ledger.Entry{}
	}
	m.entries[h] = append(m.entries[h], entries...)
	return nil
}

// Count returns how many entries the history has.
func (m *Memory) Count(h ledger.History) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries[h])
}

var (
	_ inspections.Store = (*Memory)(nil)
	_ sites.Store       = (*Memory)(nil)
	_ ledger.Archive    = (*Memory)(nil)
)
