package ledger

import (
	"context"
	"iter"
)

// A Key names an entry by its history and its sequence there.
type Key struct {
	History  History
	Sequence Sequence
}

// A Store keeps histories of entries. It is all that an engine is asked about
// them. It is safe for concurrent use.
//
// A failure that may pass wraps ErrUnavailable or ErrFull. A context that ended
// gives its own error. The slices of entries that a method returns are the
// caller's; those of the feed are only lent.
type Store interface {
	// Append stores the draft as the entry after its history's newest one, or
	// nothing at all, and returns it once it would survive a power cut. Where
	// the history has an entry with the draft's id already, whatever it says,
	// that entry is returned with existed true and nothing is stored.
	//
	// A call that fails with ErrUnavailable, or whose context ends, may or may not
	// have stored the entry: the caller asks again with the same id.
	Append(ctx context.Context, d Draft) (e Entry, existed bool, err error)

	// AppendAfter stores the draft as the entry of its history after the one
	// with the sequence after (0: as the first), or nothing at all, and returns
	// it once it would survive a power cut. Where the history's newest entry is
	// another, or it has the draft's id already, the error is ErrMoved. After any
	// other failure the entry may or may not be stored.
	AppendAfter(ctx context.Context, after Sequence, d Draft) (Entry, error)

	// Newest returns up to n entries of the history with a sequence less than
	// before, newest first; a before of 0 starts at the newest. No entry is no
	// error.
	Newest(ctx context.Context, h History, before Sequence, n int) ([]Entry, error)

	// Span returns up to n entries of the history with a sequence greater than
	// after, oldest first. No entry is no error.
	Span(ctx context.Context, h History, after Sequence, n int) ([]Entry, error)

	// Entry returns the entry of the history with the id, or ErrNotFound.
	Entry(ctx context.Context, h History, id string) (Entry, error)

	// Entries returns the entries with the keys, in the order of the keys, or
	// ErrNotFound where one of them is missing.
	Entries(ctx context.Context, keys []Key) ([]Entry, error)

	// Heads calls each with every history and its newest entry's head, by name
	// in the order of its bytes, and stops at the first error, which it returns.
	Heads(ctx context.Context, each func(History, Head) error) error

	// Put stores entries of one history as they are, each the one after the
	// other and the first after the history's newest, and returns once they
	// would survive a power cut. Where the history's newest entry is another
	// than the one before the first, nothing is stored and the error is
	// ErrMoved; where they do not follow from one another it is ErrBroken, and
	// nothing is stored either. Any other failure leaves the first few of them,
	// or none.
	Put(ctx context.Context, entries []Entry) error

	// Feed gives every entry of every history that lies behind the cursor, once,
	// each history's in their order, and ends when there is nothing more by now.
	// What is stored meanwhile may or may not be among them; it lies behind the
	// last cursor otherwise. An error is the last thing that the feed gives.
	//
	// The error is ErrCursor where the cursor was not made by a feed of this
	// database. It wraps ErrWaiting where the feed has given all that there is,
	// and the database cannot say yet whether entries are still to come that were
	// begun earlier: whoever asks again behind the last cursor gets them if so. It wraps
	// ErrPartly where only a part of the database can be reached.
	Feed(ctx context.Context, from Cursor) iter.Seq2[FeedEntry, error]
}
