package ledger

import "context"

// An Archive is a store seen as the histories that it holds, for whoever
// copies or checks them whole. It is safe for concurrent use.
type Archive interface {
	// Heads calls each with every history and its newest entry's head, by name
	// in the order of its bytes, and stops at the first error, which it returns.
	Heads(ctx context.Context, each func(History, Head) error) error

	// Span returns up to n entries of the history with a sequence greater than
	// after, oldest first. No entry is no error.
	Span(ctx context.Context, h History, after Sequence, n int) ([]Entry, error)

	// Put stores entries of one history as they are, each the one after the
	// other and the first after the history's newest, and returns once they
	// would survive a power cut. Where the history's newest entry is another
	// than the one before the first, nothing is stored and the error is
	// ErrMoved; where they do not follow from one another it is ErrBroken, and
	// nothing is stored either. Any other failure leaves the first few of them,
	// or none.
	Put(ctx context.Context, entries []Entry) error
}
