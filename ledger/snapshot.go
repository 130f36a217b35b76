package ledger

import "io"

// A Snapshotter is what entries add up to, and can be written down so that a later
// start need not read them all. What is written is a cache: only the same program reads
// it, so its form may change at any time.
type Snapshotter interface {
	// Snapshot writes the state as it is at the call, or a later one. The state goes on
	// changing meanwhile.
	Snapshot(w io.Writer) error
	// Restore replaces the state by one that Snapshot of the same program wrote. After
	// an error the state is what it was before.
	Restore(r io.Reader) error
}
