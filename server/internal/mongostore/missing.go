package mongostore

import (
	"sync"
	"time"

	"xuncha/ledger"
)

// missingFor is for how long an entry must be missing that another one follows until it
// counts as gone. Until then it may be on its way.
const missingFor = 10 * time.Second

// missing are the entries that were looked for and were not there, with when that was
// noticed first.
type missing struct {
	mu    sync.Mutex
	since map[ledger.Key]time.Time
}

// note takes down that an entry is missing, and reports whether it counts as gone.
func (m *missing) note(k ledger.Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	since, known := m.since[k]
	if !known {
		if m.since == nil || len(m.since) > maxHeads {
			m.since = map[ledger.Key]time.Time{}
		}
		since = time.Now()
		m.since[k] = since
	}
	return time.Since(since) >= missingFor
}
