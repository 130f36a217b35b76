package mongostore

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"xuncha/ledger"
)

// A writer stores what callers put in. Each history has a lane of its own, so that
// histories do not wait for one another. Each entry gets a number of the server's own
// series, by which others learn of it.
type writer struct {
	store  *Store
	heads  *heads
	turns  *turns
	series series
	telling

	mu      sync.Mutex
	lanes   map[ledger.History]*lane // those with something to do, or to settle
	running sync.WaitGroup           // for their goroutines
}

// newWriter returns a writer that does nothing by itself yet.
func newWriter(s *Store) *writer {
	return &writer{
		store: s, heads: s.heads, turns: newTurns(), lanes: map[ledger.History]*lane{},
		telling: telling{fresh: uuid.NewString(), hurry: make(chan struct{}, 1), lock: make(chan struct{}, 1)},
	}
}

// stop lets the writer end. No call may be under way.
func (w *writer) stop() {
	w.stopTelling()
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	w.settleAll(ctx)
	// Callers may have left while their entries were on the way: only now nothing is any
	// more.
	w.running.Wait()
	unsure := w.unsure()
	// Where this fails, others only go on asking for what never comes.
	_ = w.end(ctx, unsure)
}

// do puts a job in and waits for it, or until the caller leaves, which may be while
// the entry is on its way.
func (w *writer) do(j *job) error {
	if err := j.ctx.Err(); err != nil {
		return err
	}
	j.done = make(chan error, 1)
	w.mu.Lock()
	w.lane(j.history()).put(j)
	w.mu.Unlock()
	select {
	case err := <-j.done:
		return err
	case <-j.ctx.Done():
		return j.ctx.Err()
	}
}

// lane returns the lane of a history. It needs w.mu.
func (w *writer) lane(h ledger.History) *lane {
	l := w.lanes[h]
	if l == nil {
		l = &lane{writer: w, history: h}
		w.lanes[h] = l
	}
	return l
}

// settleSome is how many lanes settle at once. Those of a shard that does not answer
// must not take all the turns.
const settleSome = 16

// settleAll has the lanes find out what has become of what they tried to store, unless
// the database does not answer some of them. It returns how many do not know then.
func (w *writer) settleAll(ctx context.Context) int {
	for {
		jobs := w.settling(ctx)
		failed := false
		for _, j := range jobs {
			failed = <-j.done != nil || failed
		}
		if failed || len(jobs) < settleSome {
			break
		}
	}
	return w.unsure()
}

// unsure returns how many lanes do not know what has become of what they tried to store.
func (w *writer) unsure() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lanes {
		if l.isUnsure() {
			n++
		}
	}
	return n
}

// settling sets some lanes to settle, by jobs that store nothing.
func (w *writer) settling(ctx context.Context) (jobs []*job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for h, l := range w.lanes {
		if len(jobs) == settleSome {
			break
		}
		if !l.isUnsure() {
			continue
		}
		j := &job{ctx: ctx, draft: ledger.Draft{History: h}, settles: true, done: make(chan error, 1)}
		jobs = append(jobs, j)
		l.put(j)
	}
	return jobs
}

// document returns the entry as it is stored.
func document(e ledger.Entry, mark string) entryDoc {
	return entryDoc{
		Mark: mark, History: string(e.History), Sequence: int64(e.Sequence), ID: e.ID, Kind: string(e.Kind),
		Time: e.Time.UnixNano(), Account: e.Account, Hash: e.Hash[:], Record: e.Record,
	}
}

// markOf returns the mark of the entry with the number n of a series.
func markOf(series string, n int64) string { return fmt.Sprintf("%s/%016x", series, n) }

// readMark reads what markOf has written.
func readMark(mark string) (series string, n int64, err error) {
	series, digits, ok := strings.Cut(mark, "/")
	n, err = strconv.ParseInt(digits, 16, 64)
	if !ok || err != nil {
		return "", 0, fmt.Errorf("%w: an entry has the mark %q, which is none", ledger.ErrBroken, mark)
	}
	return series, n, nil
}

// Append implements ledger.Store.
func (s *Store) Append(ctx context.Context, d ledger.Draft) (ledger.Entry, bool, error) {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return ledger.Entry{}, false, err
	}
	defer leave()
	d.Content = bytes.Clone(d.Content) // the caller may leave, and use it again
	j := &job{ctx: ctx, draft: d}
	if err := s.writer.do(j); err != nil {
		return ledger.Entry{}, false, err
	}
	return j.entry, j.existed, nil
}

// AppendAfter implements ledger.Store.
func (s *Store) AppendAfter(ctx context.Context, after ledger.Sequence, d ledger.Draft) (ledger.Entry, error) {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return ledger.Entry{}, err
	}
	defer leave()
	d.Content = bytes.Clone(d.Content)
	j := &job{ctx: ctx, draft: d, after: &after}
	if err := s.writer.do(j); err != nil {
		return ledger.Entry{}, err
	}
	return j.entry, nil
}

// Put implements ledger.Store.
func (s *Store) Put(ctx context.Context, entries []ledger.Entry) error {
	leave, err := s.gate.Enter(ctx)
	if err != nil || len(entries) == 0 {
		return err
	}
	defer leave()
	// All of them are checked before any is stored.
	var head ledger.Head
	err = s.timed(ctx, func(ctx context.Context) (err error) {
		head, err = s.readHead(ctx, entries[0].History, 0)
		return err
	})
	if err != nil {
		return translate(ctx, err)
	}
	if entries[0].Sequence != head.Sequence+1 {
		return fmt.Errorf("%w: %s is at %d, not at %d", ledger.ErrMoved, entries[0].History, head.Sequence, entries[0].Sequence-1)
	}
	for _, e := range entries {
		if head, err = head.Follow(e); err != nil {
			return err
		}
	}
	entries = slices.Clone(entries)
	for i := range entries {
		entries[i].Record = bytes.Clone(entries[i].Record)
	}
	for part := range slices.Chunk(entries, maxBatch) {
		if err := s.writer.do(&job{ctx: ctx, sealed: part}); err != nil {
			return err
		}
	}
	return nil
}
