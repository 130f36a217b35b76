package ledger

import (
	"cmp"
	"errors"
	"fmt"
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

// Alterations is what is known of histories that do not verify. A nil one knows of
// none. It is safe for concurrent use.
type Alterations struct {
	mu       sync.RWMutex
	faults   map[History][]Fault // by their sequence
	revision uint64
}

// Add notes a fault, and reports whether it is new. Of those at one place the first
// one stays.
func (a *Alterations) Add(f Fault) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.faults[f.History]
	i, there := slices.BinarySearchFunc(known, f.Sequence, func(k Fault, q Sequence) int { return cmp.Compare(k.Sequence, q) })
	if there || i == maxFaults {
		return false
	}
	if a.faults == nil {
		a.faults = map[History][]Fault{}
	}
	known = slices.Insert(slices.Clone(known), i, f)
	a.faults[f.History] = known[:min(len(known), maxFaults)]
	a.revision++
	return true
}

// Clear forgets the faults of a history, as after all of it was read again, and
// reports whether there were any.
func (a *Alterations) Clear(h History) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, there := a.faults[h]
	if there {
		delete(a.faults, h)
		a.revision++
	}
	return there
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
	_, there := slices.BinarySearchFunc(a.faults[h], q, func(k Fault, q Sequence) int { return cmp.Compare(k.Sequence, q) })
	return there
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

// Revision returns a number that is another one whenever All would return something
// else.
func (a *Alterations) Revision() uint64 {
	if a == nil {
		return 0
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.revision
}
