package ledger

import (
	"context"
	"hash/maphash"
	"sync"
)

const (
	// batchEntries is how many entries change hands at once, and batchBytes how many
	// bytes their records have on average at most.
	batchEntries = 256
	batchBytes   = 512 * batchEntries
	// batchesWaiting is how many batches may wait for each goroutine that takes them.
	batchesWaiting = 4
)

// ReadAll is CatchUp for very many entries, as at a start. Up to so many goroutines
// call the takers at the same time; each history's entries come in their order, and
// those of different histories in any. Where a taker fails, the follower stays where
// it was.
func (f *Follower) ReadAll(ctx context.Context, goroutines int) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := reading{takers: f.takers, stop: stop, spare: make(chan *batch, (batchesWaiting+2)*goroutines)}
	lanes := make([]lane, goroutines)
	for i := range lanes {
		lanes[i] = lane{make(chan *batch, batchesWaiting), new(batch)}
		r.running.Go(func() { r.take(lanes[i].waiting) })
	}
	seed := maphash.MakeSeed()
	var after func() Cursor
	var err error
	for e, failed := range f.store.Feed(ctx, f.at) {
		if err = failed; err != nil {
			break
		}
		l := &lanes[maphash.String(seed, string(e.History))%uint64(goroutines)]
		l.batch.add(e.Entry)
		if len(l.batch.entries) == batchEntries {
			l.waiting <- l.batch
			l.batch = r.empty()
		}
		after = e.After
	}
	for _, l := range lanes {
		l.waiting <- l.batch
		close(l.waiting)
	}
	r.running.Wait()
	if r.err != nil {
		return r.err
	}
	if after != nil {
		f.at = after()
	}
	return err
}

// A reading is one ReadAll.
type reading struct {
	takers  []func(Entry) error
	running sync.WaitGroup
	// spare has those that were taken, to be filled again. It has room for all that there
	// can be: those that wait, one being taken and one being filled for each goroutine.
	spare chan *batch

	stop   context.CancelFunc
	failed sync.Once
	err    error // of the first taker that failed
}

// A lane is the way of entries to one of the goroutines that take them.
type lane struct {
	waiting chan *batch
	batch   *batch // being filled
}

// A batch is some entries of a feed.
type batch struct {
	entries []Entry
	records []byte
}

// add takes in a copy of an entry, because a feed only lends it.
func (b *batch) add(e Entry) {
	if len(e.Record) > cap(b.records)-len(b.records) {
		// The records before stay in the memory that they have.
		b.records = make([]byte, 0, max(len(e.Record), batchBytes))
	}
	start := len(b.records)
	b.records = append(b.records, e.Record...)
	e.Record = b.records[start:len(b.records):len(b.records)]
	b.entries = append(b.entries, e)
}

// empty returns a batch to fill.
func (r *reading) empty() *batch {
	select {
	case b := <-r.spare:
		b.entries, b.records = b.entries[:0], b.records[:0]
		return b
	default:
		return &batch{entries: make([]Entry, 0, batchEntries), records: make([]byte, 0, batchBytes)}
	}
}

// take gives the takers what waits, until there is nothing more or one of them fails.
func (r *reading) take(waiting <-chan *batch) {
	broken := false
	for b := range waiting {
		for i := 0; i < len(b.entries) && !broken; i++ {
			if err := giveAll(r.takers, b.entries[i]); err != nil {
				r.failed.Do(func() { r.err = err })
				r.stop()
				broken = true // but whoever fills batches must not wait for ever
			}
		}
		r.spare <- b
	}
}

// giveAll gives an entry to all that want to know of it.
func giveAll(takers []func(Entry) error, e Entry) error {
	for _, take := range takers {
		if err := take(e); err != nil {
			return err
		}
	}
	return nil
}
