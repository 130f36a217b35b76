package sites

import (
	"context"

	"xuncha/ledger"
)

// A Store keeps the roster's history and the rows of its imports. It is safe
// for concurrent use. A failure that may pass wraps ledger.ErrUnavailable.
type Store interface {
	// AppendAfter stores the draft as the entry of its history after the one
	// with the sequence after (0: as the first), or nothing at all, and returns
	// it once it would survive a power cut. Where the history's newest entry is
	// another, the error is ledger.ErrMoved.
	AppendAfter(ctx context.Context, after ledger.Sequence, d ledger.Draft) (ledger.Entry, error)

	// RosterEntries returns up to n entries with a sequence greater than after,
	// oldest first. No entry is no error.
	RosterEntries(ctx context.Context, after ledger.Sequence, n int) ([]ledger.Entry, error)

	// PutRows stores bytes under their SHA-256, written in hexadecimal, and
	// returns once they would survive a power cut. Bytes that are there already
	// are no error.
	PutRows(ctx context.Context, sum string, rows []byte) error

	// Rows returns the bytes stored under the sum, or ErrRowsUnknown.
	Rows(ctx context.Context, sum string) ([]byte, error)
}
