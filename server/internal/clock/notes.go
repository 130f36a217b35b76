package clock

import (
	"context"
	"errors"
)

// ErrNoNote means that nothing is stored under a note's name.
var ErrNoNote = errors.New("no such note")

// Notes are what servers remember from one start to the next beside all histories, such
// as their heartbeats. A deployment loses nothing that it answers for with them, and no
// copy takes them along. Implementations are safe for concurrent use. A failure that may
// pass wraps ledger.ErrUnavailable or ledger.ErrFull.
type Notes interface {
	// Note returns the value under the name and its revision, or ErrNoNote.
	Note(ctx context.Context, name string) (value []byte, revision int64, err error)

	// PutNote stores the value under the name at the revision after the one given, in
	// place of what is there, and returns once it would survive a power cut. A revision
	// of 0 says that nothing is there. Where the newest revision is another, nothing is
	// changed and the error is ledger.ErrMoved; so of two that put after the same
	// revision, one fails.
	PutNote(ctx context.Context, name string, revision int64, value []byte) error
}
