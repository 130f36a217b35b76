package ledgertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"xuncha/ledger"
)

// A Fault is what becomes of one write to a Memory. The zero Fault is none.
type Fault struct {
	// Err is the write's answer.
	Err error
	// Stored tells that the entry is stored all the same, as when a reply is lost.
	Stored bool
	// Until, where it is not nil, makes the write wait until it is closed, or until
	// the caller leaves.
	Until <-chan struct{}
	// First is stored in the history before the write, as by another server.
	First *ledger.Draft
}

// The faults that there are.
var (
	// Refused has stored nothing and never will.
	Refused = Fault{Err: fmt.Errorf("to order: %w", ledger.ErrFull)}
	// Failed has stored nothing, and the caller cannot know that.
	Failed = Fault{Err: fmt.Errorf("to order: %w", ledger.ErrUnavailable)}
	// FailedButStored has stored the entry, and the caller cannot know that.
	FailedButStored = Fault{Err: Failed.Err, Stored: true}
)

// Slow waits until the channel is closed.
func Slow(until <-chan struct{}) Fault { return Fault{Until: until} }

// Moved lets another writer be first with the draft.
func Moved(first ledger.Draft) Fault { return Fault{First: &first} }

// A Memory is a store for tests of what stands above it. It keeps what it is given
// until it is garbage, and fails the test that uses it wrongly: that changes what
// it was lent, or writes what no engine should be given.
type Memory struct {
	tb TB

	mu      sync.Mutex
	entries map[ledger.History][]ledger.Entry
	feed    []ledger.Entry // as they came
	fault   func(ledger.Draft) Fault
	altered bool // by Alter, and not by those who use the store
	full    bool
}

var _ ledger.Store = (*Memory)(nil)

// TB is what a store in memory needs of a test: that of package testing, or of a
// library of property tests.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Cleanup(func())
}

// New returns an empty store.
func New(tb TB) *Memory {
	m := &Memory{tb: tb, entries: map[ledger.History][]ledger.Entry{}}
	tb.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.altered {
			return
		}
		heads := map[ledger.History]ledger.Head{}
		for _, e := range m.feed {
			head, err := heads[e.History].Follow(e)
			if err != nil {
				tb.Errorf("somebody has changed what a store holds: %v", err)
				return
			}
			heads[e.History] = head
		}
	})
	return m
}

// OnWrite has f asked before each Append and AppendAfter that would store
// something what is to become of it; nil ends that.
func (m *Memory) OnWrite(f func(ledger.Draft) Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// Fill makes the store full, or ends that: every Append and AppendAfter that would store
// something is Refused then, unless its context may use the reserve.
func (m *Memory) Fill(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = full
}

// misused fails the test.
func (m *Memory) misused(format string, args ...any) {
	m.tb.Helper()
	m.tb.Errorf("a store is used wrongly: "+format, args...)
}

// check looks at a draft as no engine does.
func (m *Memory) check(d ledger.Draft) {
	m.tb.Helper()
	switch {
	case d.History == "" || d.ID == "" || d.Kind == "" || d.Account == "":
		m.misused("the draft %s %q of the kind %q by %q has an empty field", d.History, d.ID, d.Kind, d.Account)
	case d.Time.IsZero():
		m.misused("the draft %s %q has no time", d.History, d.ID)
	case len(d.Content) > ledger.MaxContent:
		m.misused("the draft %s %q has %d bytes of content", d.History, d.ID, len(d.Content))
	case !json.Valid(d.Content) || d.Content[0] != '{' || bytes.ContainsAny(d.Content, "\n\r"):
		m.misused("the content of the draft %s %q is not one line with a JSON object: %q", d.History, d.ID, d.Content)
	}
}

// own returns a copy that the caller may do with as it likes.
func own(entries []ledger.Entry) []ledger.Entry {
	out := slices.Clone(entries)
	for i := range out {
		out[i].Record = bytes.Clone(out[i].Record)
	}
	return out
}

// store seals and stores a draft. It needs m.mu.
func (m *Memory) store(d ledger.Draft) ledger.Entry {
	var head ledger.Head
	if list := m.entries[d.History]; len(list) > 0 {
		head = list[len(list)-1].Head()
	}
	e := head.Seal(d)
	m.entries[d.History] = append(m.entries[d.History], e)
	m.feed = append(m.feed, e)
	return e
}

// find looks for an id. It needs m.mu.
func (m *Memory) find(h ledger.History, id string) (ledger.Entry, bool) {
	for _, e := range m.entries[h] {
		if e.ID == id {
			return own([]ledger.Entry{e})[0], true
		}
	}
	return ledger.Entry{}, false
}

// suffer asks what is to become of a write, and waits where it is to be slow.
func (m *Memory) suffer(ctx context.Context, d ledger.Draft) (Fault, error) {
	m.check(d)
	m.mu.Lock()
	f, full := m.fault, m.full
	m.mu.Unlock()
	var fault Fault
	if full && !ledger.MayUseReserve(ctx) {
		fault = Refused
	} else if f != nil {
		fault = f(d)
	}
	if fault.Until != nil {
		select {
		case <-fault.Until:
		case <-ctx.Done():
		}
	}
	if fault.First != nil {
		m.mu.Lock()
		// A third may have stored what has the same id since the fault was asked for.
		if _, found := m.find(fault.First.History, fault.First.ID); !found {
			m.store(*fault.First)
		}
		m.mu.Unlock()
	}
	return fault, ctx.Err()
}

// end stores the draft where it is to be, and gives the fault's answer. It needs
// m.mu.
func (m *Memory) end(d ledger.Draft, fault Fault) (ledger.Entry, error) {
	if fault.Err != nil && !fault.Stored {
		return ledger.Entry{}, fault.Err
	}
	e := m.store(d)
	if fault.Err != nil {
		return ledger.Entry{}, fault.Err
	}
	return own([]ledger.Entry{e})[0], nil
}

// Append implements ledger.Store.
func (m *Memory) Append(ctx context.Context, d ledger.Draft) (ledger.Entry, bool, error) {
	d.Content = bytes.Clone(d.Content)
	if err := ctx.Err(); err != nil {
		return ledger.Entry{}, false, err
	}
	m.mu.Lock()
	e, found := m.find(d.History, d.ID)
	m.mu.Unlock()
	if found {
		return e, true, nil
	}
	fault, err := m.suffer(ctx, d)
	if err != nil {
		return ledger.Entry{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, found := m.find(d.History, d.ID); found {
		return e, true, nil
	}
	e, err = m.end(d, fault)
	return e, false, err
}

// AppendAfter implements ledger.Store.
func (m *Memory) AppendAfter(ctx context.Context, after ledger.Sequence, d ledger.Draft) (ledger.Entry, error) {
	d.Content = bytes.Clone(d.Content)
	if err := ctx.Err(); err != nil {
		return ledger.Entry{}, err
	}
	fault, err := m.suffer(ctx, d)
	if err != nil {
		return ledger.Entry{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := ledger.Sequence(0)
	if list := m.entries[d.History]; len(list) > 0 {
		at = list[len(list)-1].Sequence
	}
	if at != after {
		return ledger.Entry{}, fmt.Errorf("%w: %s is at %d, not at %d", ledger.ErrMoved, d.History, at, after)
	}
	if _, found := m.find(d.History, d.ID); found {
		return ledger.Entry{}, fmt.Errorf("%w: %s has the id %s", ledger.ErrMoved, d.History, d.ID)
	}
	return m.end(d, fault)
}

// behind returns where the entries begin that have a sequence greater than after.
func behind(list []ledger.Entry, after ledger.Sequence) int {
	return sort.Search(len(list), func(i int) bool { return list[i].Sequence > after })
}

// Newest implements ledger.Store.
func (m *Memory) Newest(ctx context.Context, h ledger.History, before ledger.Sequence, n int) ([]ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n < 0 || before < 0 {
		m.misused("Newest of %s: %d before %d", h, n, before)
	}
	list := m.entries[h]
	if before > 0 {
		list = list[:behind(list, before-1)]
	}
	list = own(list[max(0, len(list)-n):])
	slices.Reverse(list)
	return list, ctx.Err()
}

// Span implements ledger.Store.
func (m *Memory) Span(ctx context.Context, h ledger.History, after ledger.Sequence, n int) ([]ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n < 0 || after < 0 {
		m.misused("Span of %s: %d after %d", h, n, after)
	}
	list := m.entries[h]
	list = list[behind(list, after):]
	return own(list[:min(n, len(list))]), ctx.Err()
}

// Entry implements ledger.Store.
func (m *Memory) Entry(ctx context.Context, h ledger.History, id string) (ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return ledger.Entry{}, err
	}
	e, found := m.find(h, id)
	if !found {
		return e, fmt.Errorf("%s, id %s: %w", h, id, ledger.ErrNotFound)
	}
	return e, nil
}

// Entries implements ledger.Store.
func (m *Memory) Entries(ctx context.Context, keys []ledger.Key) ([]ledger.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]ledger.Entry, 0, len(keys))
	for _, k := range keys {
		list := m.entries[k.History]
		i := behind(list, k.Sequence-1)
		if i == len(list) || list[i].Sequence != k.Sequence {
			return nil, fmt.Errorf("%s, sequence %d: %w", k.History, k.Sequence, ledger.ErrNotFound)
		}
		out = append(out, list[i])
	}
	return own(out), ctx.Err()
}

// Heads implements ledger.Store.
func (m *Memory) Heads(ctx context.Context, each func(ledger.History, ledger.Head) error) error {
	m.mu.Lock()
	all := maps.Clone(m.entries)
	m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, h := range slices.Sorted(maps.Keys(all)) {
		if err := each(h, all[h][len(all[h])-1].Head()); err != nil {
			return err
		}
	}
	return nil
}

// Put implements ledger.Store.
func (m *Memory) Put(ctx context.Context, entries []ledger.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil || len(entries) == 0 {
		return err
	}
	var head ledger.Head
	h := entries[0].History
	if list := m.entries[h]; len(list) > 0 {
		head = list[len(list)-1].Head()
	}
	if entries[0].Sequence != head.Sequence+1 {
		return fmt.Errorf("%w: %s is at %d", ledger.ErrMoved, h, head.Sequence)
	}
	for _, e := range entries {
		if e.History != h {
			m.misused("Put of entries of %s and %s at once", h, e.History)
		}
		var err error
		if head, err = head.Follow(e); err != nil {
			return err
		}
	}
	entries = own(entries)
	m.entries[h] = append(m.entries[h], entries...)
	m.feed = append(m.feed, entries...)
	return nil
}

// Feed implements ledger.Store. Its cursor is how many entries came before.
func (m *Memory) Feed(ctx context.Context, from ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		at := 0
		if from != "" {
			digits, ours := strings.CutPrefix(string(from), "memory:")
			var err error
			if at, err = strconv.Atoi(digits); !ours || err != nil || at < 0 || at > m.length() {
				yield(ledger.FeedEntry{}, fmt.Errorf("%q: %w", from, ledger.ErrCursor))
				return
			}
		}
		after := func() ledger.Cursor { return ledger.Cursor("memory:" + strconv.Itoa(at)) }
		for end := m.length(); at < end; {
			if err := ctx.Err(); err != nil {
				yield(ledger.FeedEntry{}, err)
				return
			}
			m.mu.Lock()
			e := own(m.feed[at : at+1])[0]
			m.mu.Unlock()
			at++
			more := yield(ledger.FeedEntry{Entry: e, After: after}, nil)
			clear(e.Record) // it was only lent
			if !more {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(ledger.FeedEntry{}, err)
		}
	}
}

func (m *Memory) length() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.feed)
}

// Count returns how many entries the history has.
func (m *Memory) Count(h ledger.History) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries[h])
}
