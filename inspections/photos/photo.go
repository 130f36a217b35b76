package photos

import (
	"errors"
	"fmt"
	"io"

	"xuncha/inspections"
	"xuncha/sites"
)

var (
	// ErrUnknown means that the check-in declares no such photo.
	ErrUnknown = errors.New("the check-in declares no such photo")
	// ErrMissing means that the photo has not arrived.
	ErrMissing = errors.New("the photo has not arrived")
	// ErrRefused means that the photo was not taken when its check-in arrived, so that it
	// will never be there.
	ErrRefused = errors.New("the photo was refused when its check-in arrived")
	// ErrPurged means that the time for which a photo is kept is over.
	ErrPurged = errors.New("the time to keep the photo is over")
	// ErrLost means that a photo was stored and is not there, or is not as it
	// was: somebody has been in the store.
	ErrLost = errors.New("a stored photo is lost or altered")
	// ErrOffset means that bytes were sent that do not follow those that are
	// there.
	ErrOffset = errors.New("does not follow what is there")
	// ErrSize means that more bytes were sent than were declared.
	ErrSize = errors.New("is longer than was declared")
	// ErrHash means that what was sent has not the hash that was declared.
	ErrHash = errors.New("has another hash than was declared")
	// ErrType means that a picture is of another type than was declared.
	ErrType = errors.New("is of another type than was declared")
)

// A Ref names a photo of a check-in, by the hash that was declared.
type Ref struct {
	inspections.CheckInRef
	SHA256 inspections.Digest
}

// about returns an error about the photo.
func (r Ref) about(err error) error {
	return &sites.FieldError{Field: "sha256", Err: fmt.Errorf("%s: %w", r.SHA256, err)}
}

// A Kept is a photo that has arrived.
type Kept struct {
	Ref
	// Stored and Size are of the file that was stored, with nothing but the
	// picture in it.
	Stored inspections.Digest
	Size   int64
	// ContentType is image/jpeg, image/png or image/webp.
	ContentType string
	// Order is the closure order that the check-in was made under.
	Order sites.OrderID
	// Purged tells that the file was deleted.
	Purged bool
}

// A File is open for reading.
type File interface {
	io.ReaderAt
	io.Closer
	// Size is in bytes.
	Size() int64
}

// A State is how much of a declared photo there is: nothing of one that is Refused.
type State struct {
	inspections.Photo
	// Received is how many bytes have come, of the file on the phone.
	Received int64
	// Stored tells that all of it is stored for good; Purged, that it was, and is
	// shown no more because its time is over.
	Stored, Purged bool
}
