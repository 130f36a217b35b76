package inspections

import (
	"context"
	"errors"

	"xuncha/ledger"
	"xuncha/sites"
)

// ErrNotFound means that a site's history has no such entry.
var ErrNotFound = errors.New("no such check-in")

// A Store keeps the history of each site. It is safe for concurrent use. A
// failure that may pass wraps ledger.ErrUnavailable or ledger.ErrFull; a
// context that ended gives its own error.
type Store interface {
	// Append stores the draft as the entry after its history's newest one, or
	// nothing at all, and returns it once it would survive a power cut. Where
	// the history has an entry with the draft's id already, whatever it says,
	// that entry is returned with existed true and nothing is stored.
	//
	// A call whose context ends may or may not have stored the entry: the
	// caller asks again with the same id.
	Append(ctx context.Context, d ledger.Draft) (e ledger.Entry, existed bool, err error)

	// History returns up to n entries of the site, newest first, with a
	// sequence less than before; a before of 0 starts at the newest. A site
	// without entries is no error.
	History(ctx context.Context, id sites.SiteID, before ledger.Sequence, n int) ([]ledger.Entry, error)

	// Entry returns the entry of the site with the id, or ErrNotFound.
	Entry(ctx context.Context, id sites.SiteID, entry string) (ledger.Entry, error)

	// Entries returns the entries with the keys, in the order of the keys, or
	// ErrNotFound where one of them is missing.
	Entries(ctx context.Context, keys []Key) ([]ledger.Entry, error)

	// Replay calls each with every entry of every site's history, each
	// history's in order, and stops at the first error, which it returns. What
	// is appended meanwhile may or may not be among them. The entry's slices
	// are only valid during the call.
	Replay(ctx context.Context, each func(ledger.Entry) error) error
}

// A SharedStore is a Store that other servers may append to as well.
type SharedStore interface {
	Store

	// Changes begins to follow what is stored in sites' histories from now on,
	// by this server or another. Whoever replays the store after it was called
	// and then follows misses nothing.
	Changes(ctx context.Context) (Changes, error)
}

// Changes is what a SharedStore was given since it is followed. It is for one
// goroutine at a time.
type Changes interface {
	// Next calls each with the entries that are new since the call before, in no
	// order, and stops at the first error, which it returns; what was not passed
	// is new at the next call then. An entry may be passed more than once. One that another server was told is stored is
	// passed at the latest by the call after that, or, where the database was
	// away meanwhile, by the first that succeeds. The entry's slices are the
	// caller's.
	Next(ctx context.Context, each func(ledger.Entry) error) error
}

// A Key names an entry by its place.
type Key struct {
	Site     sites.SiteID
	Sequence ledger.Sequence
}
