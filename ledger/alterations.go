package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// ErrAltered means that a history does not verify: something has changed, removed or
// slipped in an entry. Nothing is added to it until somebody has decided what to do.
var ErrAltered = errors.New("the history does not verify")

// maxFaults is how many faults of one history are kept. The first of them are.
const maxFaults = 1000

// A Fault is a place in a history that does not verify.
type Fault struct {
	History  History
	Sequence Sequence
	// Why says what is wrong there, in English, for whoever runs the server.
	Why string
	// Since is when it was found.
	Since time.Time
}

// An AlteredError is the error of whoever wants to add to a history that does not
// verify. It wraps ErrAltered.
type AlteredError struct {
	Fault
}

func (e *AlteredError) Error() string {
	return fmt.Sprintf("%v: %s at sequence %d: %s", ErrAltered, e.History, e.Sequence, e.Why)
}

// Unwrap returns ErrAltered.
func (e *AlteredError) Unwrap() error { return ErrAltered }

// A Finder is one of those that find faults. What one of them finds later replaces what
// it found before.
type Finder string

// The finders of faults.
const (
	// ByChain is whoever reads histories and verifies them.
	ByChain Finder = "chain"
	// ByIndex is whoever compares a store's indexes with its entries.
	ByIndex Finder = "index"
	// ByState is whoever makes a state of a history's entries and of what they name.
	ByState Finder = "state"
)

// Alterations is what is known of histories that do not verify. A nil one knows of
// none. It is safe for concurrent use.
type Alterations struct {
	mu       sync.RWMutex
	found    map[History]map[Finder][]Fault // by their sequence
	faults   map[History][]Fault            // those of all finders, by their sequence
	aside    map[History][]Sequence         // in order
	revision uint64
}

// Add notes a fault, and reports whether it is new. Of those at one place the first
// one stays.
func (a *Alterations) Add(f Fault) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.found[f.History][ByChain]
	if i, there := find(known, f.Sequence); there || i == maxFaults {
		return false
	}
	return a.set(f.History, ByChain, append(slices.Clone(known), f)) > 0
}

// Set lets the faults of a history that the finder knows now stand for those that it
// knew before, and returns how many places are new that do not verify. Of a place that
// is known, the time stays.
func (a *Alterations) Set(h History, by Finder, faults []Fault) (fresh int) {
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set(h, by, faults)
}

// set is Set for whoever holds the lock.
func (a *Alterations) set(h History, by Finder, faults []Fault) (fresh int) {
	before := a.found[h][by]
	kept := make([]Fault, 0, min(len(faults), maxFaults))
	for _, f := range slices.SortedStableFunc(slices.Values(faults), bySequence) {
		if n := len(kept); n == maxFaults || n > 0 && kept[n-1].Sequence == f.Sequence {
			continue
		}
		if i, there := find(before, f.Sequence); there {
			f.Since = before[i].Since
		}
		kept = append(kept, f)
	}
	if slices.Equal(before, kept) {
		return 0
	}
	if a.found == nil {
		a.found, a.faults = map[History]map[Finder][]Fault{}, map[History][]Fault{}
	}
	finders := maps.Clone(a.found[h])
	if finders == nil {
		finders = map[Finder][]Fault{}
	}
	finders[by] = kept
	if len(kept) == 0 {
		delete(finders, by)
	}
	var all []Fault
	for _, of := range slices.Sorted(maps.Keys(finders)) {
		for _, f := range finders[of] {
			if i, there := find(all, f.Sequence); !there {
				all = slices.Insert(all, i, f)
			}
		}
	}
	for _, f := range all {
		if _, there := find(a.faults[h], f.Sequence); !there {
			fresh++
		}
	}
	a.found[h], a.faults[h] = finders, all
	if len(all) == 0 {
		delete(a.found, h)
		delete(a.faults, h)
	}
	a.revision++
	return fresh
}

func bySequence(a, b Fault) int { return cmp.Compare(a.Sequence, b.Sequence) }

// find returns where among faults that of the sequence is, or would be.
func find(faults []Fault, q Sequence) (int, bool) {
	return slices.BinarySearchFunc(faults, q, func(f Fault, q Sequence) int { return cmp.Compare(f.Sequence, q) })
}

// Clear forgets the faults of a history, as after all of it was read again, and
// reports whether there were any.
func (a *Alterations) Clear(h History) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, there := a.faults[h]
	if there {
		delete(a.found, h)
		delete(a.faults, h)
		a.revision++
	}
	return there
}

// PutAside lets the sequences be those of the history's entries that repairs have set
// aside.
func (a *Alterations) PutAside(h History, sequences []Sequence) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Equal(a.aside[h], sequences) {
		return
	}
	if a.aside == nil {
		a.aside = map[History][]Sequence{}
	}
	if a.aside[h] = slices.Sorted(slices.Values(sequences)); len(sequences) == 0 {
		delete(a.aside, h)
	}
	a.revision++
}

// SetAside reports whether a repair has set the entry of the history with the sequence
// aside.
func (a *Alterations) SetAside(h History, q Sequence) bool {
	if a == nil {
		return false
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	_, there := slices.BinarySearch(a.aside[h], q)
	return there
}

// AllSetAside returns what repairs have set aside, by history.
func (a *Alterations) AllSetAside() map[History][]Sequence {
	if a == nil {
		return nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return maps.Clone(a.aside) // whose lists never change
}

// Of returns nil where nothing is wrong with the history as far as is known, or an
// *AlteredError with the first place that does not verify.
func (a *Alterations) Of(h History) error {
	if a == nil {
		return nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if known := a.faults[h]; len(known) > 0 {
		return &AlteredError{known[0]}
	}
	return nil
}

// At reports whether the entry of the history with the sequence is known not to verify.
func (a *Alterations) At(h History, q Sequence) bool {
	if a == nil {
		return false
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	_, there := find(a.faults[h], q)
	return there
}

// OfEntry reports what is known of an entry as it was read: whether it does not verify, and
// whether a repair has set it aside. One that somebody has moved is known by its place,
// which its record says; and one that is not what its record says does not verify, even
// where nobody has noticed it yet.
func (a *Alterations) OfEntry(e Entry) (altered, aside bool) {
	if a == nil {
		return false, false
	}
	altered, aside = a.At(e.History, e.Sequence), a.SetAside(e.History, e.Sequence)
	if altered || aside || e.Whole() {
		return altered, aside
	}
	if read, err := Parse(e.Record); err == nil && read.History == e.History {
		aside = a.SetAside(e.History, read.Sequence)
	}
	return !aside, aside
}

// Histories returns those that do not verify, by name. It takes nothing while there are
// none.
func (a *Alterations) Histories() []History {
	if a == nil {
		return nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Sorted(maps.Keys(a.faults))
}

// All returns all faults, by history and then by sequence.
func (a *Alterations) All() (out []Fault) {
	if a == nil {
		return nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, h := range slices.Sorted(maps.Keys(a.faults)) {
		out = append(out, a.faults[h]...)
	}
	return out
}

// Revision returns a number that is another one whenever All or AllSetAside would
// return something else.
func (a *Alterations) Revision() uint64 {
	if a == nil {
		return 0
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.revision
}

// Snapshot writes what repairs have set aside, which a start does not read again that
// goes on behind a snapshot. It implements Snapshotter.
func (a *Alterations) Snapshot(w io.Writer) error { return json.NewEncoder(w).Encode(a.AllSetAside()) }

// Restore implements Snapshotter.
func (a *Alterations) Restore(r io.Reader) error {
	var aside map[History][]Sequence
	if err := json.NewDecoder(r).Decode(&aside); err != nil {
		return err
	}
	for h, sequences := range aside {
		a.PutAside(h, sequences)
	}
	return nil
}
