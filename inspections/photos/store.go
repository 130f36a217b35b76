package photos

import (
	"context"
	"io"
	"time"

	"xuncha/inspections"
	"xuncha/sites"
)

// A Store keeps the files of photos, those that have arrived and the beginnings
// of those that have not, and what is to be found quickly of them. All of the
// latter follows from the histories, which count. It is safe for concurrent use.
// A failure that may pass wraps ledger.ErrUnavailable or ledger.ErrFull.
//
// Files that have arrived are named by their own hash and there once, for
// however many check-ins they are.
type Store interface {
	inspections.Claims

	// Receive adds bytes of the photo from the offset on. Those that are there
	// already stay as they are, so that what is opened by Partial never changes.
	// Beyond what was received it is ErrOffset.
	Receive(ctx context.Context, p Ref, offset int64, b []byte) error
	// Secure returns once what was received would survive a power cut.
	Secure(ctx context.Context, p Ref) error
	// Partial opens what was received; where that is nothing it is ErrMissing.
	Partial(ctx context.Context, p Ref) (File, error)
	// Discard removes what was received. That there is nothing is no error.
	Discard(ctx context.Context, p Ref) error
	// Partials calls each with every photo of which something was received, how
	// much, and when the last of it came, and stops at the first error.
	Partials(ctx context.Context, each func(p Ref, received int64, last time.Time) error) error

	// Keep stores the content as the file of the photo, claims the file's hash for
	// the check-in, and returns the photo with the hash and the size of the file
	// once that would survive a power cut. Both are of what was written, whatever k
	// has there. Where the content fails, nothing is stored. Another photo with the
	// same file shares it. A photo that is kept already, or was purged, stays as it
	// is, and is returned so.
	Keep(ctx context.Context, k Kept, content io.WriterTo) (Kept, error)
	// KeptOf returns the photos of the check-ins that have arrived, purged or not,
	// in no order.
	KeptOf(ctx context.Context, of []inspections.CheckInRef) ([]Kept, error)
	// Kept returns up to n of the photos that were not purged, of check-ins under
	// the order or, where that is empty, under any, that come after the one named,
	// by site, check-in and declared hash.
	Kept(ctx context.Context, order sites.OrderID, after Ref, n int) ([]Kept, error)
	// Open opens the file with the hash; where it is not there it is ErrLost.
	Open(ctx context.Context, stored inspections.Digest) (File, error)
	// Purge notes that the photo was purged, also of one that is not kept, and
	// deletes its file unless other photos have the same.
	Purge(ctx context.Context, k Kept) error
	// Tidy deletes files that no photo has, which a crash or a copy left, and
	// returns how many there were. It leaves those alone that are being stored.
	Tidy(ctx context.Context) (removed int, err error)
}

// A ReceivedKeeper is a Store that can keep what was received as it is, without
// writing it again.
type ReceivedKeeper interface {
	// KeepReceived is Keep with all that was received of the photo as its content, of
	// which the caller knows that its hash is the declared one. Where it cannot be kept
	// so just now, the error wraps errors.ErrUnsupported, and Keep may do it.
	KeepReceived(ctx context.Context, k Kept) (Kept, error)
}
