package ledgertest

import "xuncha/ledger"

// Alter lets f change what the store holds of a history, as a disk that goes bad does,
// or somebody who writes to the database past the server. f owns the entries that it is
// given.
func Alter(m *Memory, h ledger.History, f func([]ledger.Entry) []ledger.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.altered = true
	old := m.entries[h]
	fresh := f(own(old))
	m.entries[h] = fresh
	var feed []ledger.Entry
	for _, e := range m.feed {
		if e.History != h {
			feed = append(feed, e)
		}
	}
	m.feed = append(feed, fresh...)
}
