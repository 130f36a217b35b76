package sqlitestore

import (
	"bytes"
	"slices"
	"sort"
	"sync"

	"xuncha/ledger"
)

const (
	// maxUnindexed is how many entries wait until they are indexed. Indexing them
	// together touches far fewer pages than one at a time would.
	maxUnindexed = 16384
	// keepTail is how many entries of a history stay in memory once they are
	// indexed: some of the newest pages.
	keepTail = 64
	// maxRecent bounds the indexed entries in memory, of about a kilobyte each.
	maxRecent = 8192
)

// recent holds the newest entries of histories in memory. All that are not in
// the indexes yet are here, so whoever looks for an entry looks here first and
// in the database after it; the other way round would miss what was indexed
// in between. Only what has been committed is here.
type recent struct {
	mu        sync.RWMutex
	tails     map[ledger.History][]ledger.Entry // the newest last
	unindexed []indexRow
	ids       map[entryID]ledger.Sequence // of the unindexed
	past      map[entryID]ledger.Entry    // of the unindexed that are not in the tails
	count     int                         // of entries in tails
	forgotten int                         // how many times tails were given up
}

// An indexRow is what the indexes say of an entry: its row, its history's, its
// sequence and its id's slot.
type indexRow struct {
	entryID
	entry, history int64
	ledger.Sequence
	slot int64
	// past tells that the index of places leads to it or past it already, as after a crash
	// amid indexing, so that it is not among the newest. Its slot may lack all the same.
	past bool
}

// An entryID is the key by which a writer knows an entry.
type entryID struct {
	ledger.History
	id string
}

func newRecent() *recent {
	return &recent{tails: map[ledger.History][]ledger.Entry{}, ids: map[entryID]ledger.Sequence{}, past: map[entryID]ledger.Entry{}}
}

// tail returns the newest entries of h that are in memory, the newest last, and
// the moment for which that holds. What lies before them is in the indexes. The
// slice and its records are not to be changed or handed out.
func (r *recent) tail(h ledger.History) (tail []ledger.Entry, asOf int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tails[h], r.forgotten
}

// byID returns an entry that is not in the indexes yet. Its record is not to be
// changed or handed out.
func (r *recent) byID(h ledger.History, id string) (ledger.Entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	at, ok := r.ids[entryID{h, id}]
	if !ok {
		return ledger.Entry{}, false
	}
	t := r.tails[h]
	for i := behind(t, at-1); i < len(t) && t[i].Sequence == at; i++ {
		if t[i].ID == id {
			return t[i], true
		}
	}
	return ledger.Entry{}, false
}

// pastByID returns an entry that is not in the indexes for sure yet, nor among the newest. It
// counts only where the indexes have none with the id, and is looked for before they are:
// it may be indexed in between. Its record is not to be changed or handed out.
func (r *recent) pastByID(h ledger.History, id string) (ledger.Entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.past[entryID{h, id}]
	return e, ok
}

// behind returns where in a tail the entries behind the sequence begin. Those of a tail
// are in their order, and mostly without gaps; entries that somebody has removed are gaps.
func behind(t []ledger.Entry, q ledger.Sequence) int {
	if len(t) == 0 || q < t[0].Sequence {
		return 0
	}
	if i := q - t[0].Sequence + 1; i <= ledger.Sequence(len(t)) && t[i-1].Sequence == q && (i == ledger.Sequence(len(t)) || t[i].Sequence > q) {
		return int(i)
	}
	return sort.Search(len(t), func(i int) bool { return t[i].Sequence > q })
}

// waiting returns how many entries are not in the indexes yet.
func (r *recent) waiting() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.unindexed)
}

// appendCopies appends entries to out with records of their own.
func appendCopies(out []ledger.Entry, entries ...ledger.Entry) []ledger.Entry {
	size := 0
	for _, e := range entries {
		size += len(e.Record)
	}
	records := make(arena, 0, size)
	for _, e := range entries {
		e.Record = append(records.take(len(e.Record))[:0], e.Record...)
		out = append(out, e)
	}
	return out
}

// unindexedRows returns what is not in the indexes yet.
func (r *recent) unindexedRows() []indexRow {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.unindexed)
}

// unindexedHeads returns the heads of the histories that the indexes lack entries of.
func (r *recent) unindexedHeads() map[ledger.History]ledger.Head {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := map[ledger.History]ledger.Head{}
	for key := range r.ids {
		if tail := r.tails[key.History]; len(tail) > 0 {
			out[key.History] = tail[len(tail)-1].Head()
		}
	}
	return out
}

// publish takes in what was committed.
func (r *recent) publish(fresh []indexRow, entries []ledger.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range entries {
		row := fresh[i]
		if row.past {
			r.unindexed = append(r.unindexed, row)
			if _, twice := r.past[row.entryID]; !twice {
				e.Record = bytes.Clone(e.Record)
				r.past[row.entryID] = e
			}
			continue
		}
		t := r.tails[e.History]
		if len(t) > 0 {
			e.History = t[0].History // so that each name is in memory once
			row.History = e.History
		}
		r.ids[row.entryID] = e.Sequence
		r.unindexed = append(r.unindexed, row)
		e.Record = bytes.Clone(e.Record) // the caller has the other
		if i := behind(t, e.Sequence); i < len(t) {
			// It was moved, or put in. Somebody may be reading the tail.
			r.tails[e.History] = slices.Insert(slices.Clone(t), i, e)
		} else {
			r.tails[e.History] = append(t, e)
		}
		r.count++
	}
}

// indexed notes that the first n of the unindexed are in the indexes by now.
func (r *recent) indexed(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range r.unindexed[:n] {
		if row.past {
			delete(r.past, row.entryID)
		} else {
			delete(r.ids, row.entryID)
		}
	}
	r.unindexed = slices.Clone(r.unindexed[n:])
	r.shrink()
}

// remember takes in the newest entries of a history, read from the indexes,
// the newest first, unless there is a tail by now, or was since asOf.
func (r *recent) remember(h ledger.History, newestFirst []ledger.Entry, asOf int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forgotten != asOf || len(r.tails[h]) > 0 || len(newestFirst) == 0 || r.count+keepTail > maxRecent {
		return
	}
	// As far as they are in their order: what somebody has moved is looked up each time.
	n := 1
	for n < min(len(newestFirst), keepTail) && newestFirst[n].Sequence < newestFirst[n-1].Sequence {
		n++
	}
	if !newestFirst[0].Whole() {
		return
	}
	tail := make([]ledger.Entry, n)
	for i, e := range newestFirst[:n] {
		e.Record = bytes.Clone(e.Record)
		tail[n-1-i] = e
	}
	r.tails[h] = tail
	r.count += n
}

// shrink gives up what memory should not hold of the indexed entries.
func (r *recent) shrink() {
	waiting := map[ledger.History]int{}
	for _, row := range r.unindexed {
		if !row.past {
			waiting[row.History]++
		}
	}
	for h, t := range r.tails {
		if over := len(t) - max(keepTail, waiting[h]); over > 0 {
			r.tails[h] = append(make([]ledger.Entry, 0, len(t)-over+16), t[over:]...)
			r.count -= over
		}
	}
	most := maxRecent + len(r.unindexed)
	if r.count <= most {
		return
	}
	r.forgotten++
	for h, t := range r.tails { // in no order, which is as good as any
		if r.count <= most-maxRecent/2 {
			break
		}
		over := len(t) - waiting[h]
		if r.count -= over; over == len(t) {
			delete(r.tails, h)
		} else if over > 0 {
			r.tails[h] = slices.Clone(t[over:])
		}
	}
}
