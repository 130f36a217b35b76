package ledger

import (
	"context"
	"errors"
)

var (
	// ErrNotFound means that a history has no such entry.
	ErrNotFound = errors.New("no such entry")
	// ErrCursor means that a cursor was not made by a feed of this database.
	ErrCursor = errors.New("not a cursor of this store")
	// ErrWaiting means that a feed waits for entries that may still come.
	ErrWaiting = errors.New("entries that were begun may still come")
	// ErrPartly means that a part of the store cannot be reached, and that the rest of it
	// can. It comes with ErrUnavailable. What the feed has not given comes later.
	ErrPartly = errors.New("a part of the store does not answer")
)

// A Cursor is a place in a store's feed. It is text that only engines read. It
// can be kept, and used on any server of the same database. The empty cursor is
// the beginning.
type Cursor string

// A FeedEntry is an entry with its place in the feed. Its slices, and After, are
// only valid until the next one is asked for. Where an error or the end comes instead
// of a next one, After is still valid.
type FeedEntry struct {
	Entry
	// After returns the cursor behind the entry.
	After func() Cursor
}

// stride is how many entries a follower takes before it notes where it is.
const stride = 1000

// A Follower reads a store's feed from where it was last, and gives each entry to
// all that want to know of it. It is for one goroutine at a time.
type Follower struct {
	store  Store
	at     Cursor
	takers []func(Entry) error
}

// NewFollower returns a follower that is behind the cursor. Each of the takers is
// called with every entry; its slices are only lent. A taker may be given an
// entry more than once: again where it or another has failed.
func NewFollower(s Store, from Cursor, takers ...func(Entry) error) *Follower {
	return &Follower{store: s, at: from, takers: takers}
}

// CatchUp gives the takers what is new. It stops at the first error, which it
// returns; what was not taken then comes again with the next call. ErrWaiting
// means that all that there is was taken.
func (f *Follower) CatchUp(ctx context.Context) error {
	var after func() Cursor
	n := 0
	for e, err := range f.store.Feed(ctx, f.at) {
		if err != nil {
			if after != nil {
				f.at = after()
			}
			return err
		}
		if err := giveAll(f.takers, e.Entry); err != nil {
			return err
		}
		if n++; n%stride == 0 {
			f.at, after = e.After(), nil
		} else {
			after = e.After
		}
	}
	if after != nil {
		f.at = after()
	}
	return nil
}

// Cursor returns where the follower is: behind all that was taken.
func (f *Follower) Cursor() Cursor { return f.at }
