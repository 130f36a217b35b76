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
	// is, and is returned so. Where something was received of the photo, Partials still
	// has it after a power cut, though perhaps with less of its bytes.
	Keep(ctx context.Context, k Kept, content io.WriterTo) (Kept, error)
	// KeptOf returns the photos of the check-ins that have arrived, purged or not,
	// in no order.
	KeptOf(ctx context.Context, of []inspections.CheckInRef) ([]Kept, error)
	// Kept returns up to n of the photos that were not purged, of check-ins under
	// the order or, where that is empty, under any, that come after the one named,
	// by site, check-in and declared hash.
	Kept(ctx context.Context, order sites.OrderID, after Ref, n int) ([]Kept, error)
	// Open opens the file with the hash; where it is not there it is ErrLost. One that
	// was set aside is put back first.
	Open(ctx context.Context, stored inspections.Digest) (File, error)
	// Purge notes that the photo was purged, also of one that is not kept, and
	// deletes its file unless other photos have the same.
	Purge(ctx context.Context, k Kept) error
	// Tidy finishes purges and removes beginnings of files that a crash left, and
	// returns how many there were. It deletes no file that may be all there is of a
	// photo, and leaves those alone that are being stored.
	Tidy(ctx context.Context) (removed int, err error)
	// SetAside sets the files aside, under the day, that no photo has: a crash or a copy
	// left them, or what the store knows of photos is older than they are. Photos are no
	// more found by them, and nothing is lost. It puts those back that a photo has again.
	// It calls drop with each of the others and the day on which it was set aside, and
	// deletes it where that is true; an error ends it. It leaves those alone that are
	// being stored.
	SetAside(ctx context.Context, today Day, drop func(stored inspections.Digest, on Day) (bool, error)) (Aside, error)
}

// A Day is a day in UTC as people write it, 2026-11-26. Days are in the order of their
// texts.
type Day string

// DayOf returns the day of a time.
func DayOf(t time.Time) Day { return Day(t.UTC().Format(time.DateOnly)) }

// ParseDay reads a day.
func ParseDay(s string) (Day, error) {
	_, err := time.Parse(time.DateOnly, s)
	return Day(s), err
}

// end returns when the day ends. One that ParseDay does not read ends never.
func (d Day) end() (time.Time, bool) {
	t, err := time.Parse(time.DateOnly, string(d))
	return t.AddDate(0, 0, 1), err == nil
}

// An Aside is what SetAside has done.
type Aside struct {
	// Unknown were set aside, Back put back, and Dropped deleted.
	Unknown, Back, Dropped int
	// Where is where those lie that were set aside, for people to look.
	Where string
}

// A ReceivedKeeper is a Store that can keep what was received as it is, without
// writing it again.
type ReceivedKeeper interface {
	// KeepReceived is Keep with all that was received of the photo as its content, of
	// which the caller knows that its hash is the declared one. Where it cannot be kept
	// so just now, the error wraps errors.ErrUnsupported, and Keep may do it.
	KeepReceived(ctx context.Context, k Kept) (Kept, error)
}
