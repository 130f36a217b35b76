package picture

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
)

// The largest pictures that are kept.
const (
	// MaxBytes and MaxPixels are those of a PNG or a WebP. The stream of a PNG is unpacked,
	// so they bound what a small file can unpack to.
	MaxBytes  = 20 << 20
	MaxPixels = 50_000_000
	// DefaultJPEGBytes and DefaultJPEGPixels are those of a JPEG where nothing else is set.
	// Keeping one decodes nothing, so they leave room for the largest cameras in phones.
	DefaultJPEGBytes  = 40 << 20
	DefaultJPEGPixels = 250_000_000
)

// Limits are those of the pictures that are kept, and of what is done to keep them. The zero
// value has the defaults.
type Limits struct {
	// JPEGBytes and JPEGPixels are those of a JPEG; 0 stands for the default.
	JPEGBytes, JPEGPixels int64
	// Kept says that the file was kept before and is only looked at. Its compressed data are
	// not gone over again, and what is limited since is no fault of it.
	Kept bool
	// Enough is asked again and again while compressed data are gone over, and ends that
	// where it returns true. The picture is kept then as its parts say. Where it is nil, all
	// are gone over.
	Enough func() bool
}

// Bytes returns how many bytes a picture of the type may have.
func (l Limits) Bytes(contentType string) int64 {
	if contentType == JPEG {
		return cmp.Or(l.JPEGBytes, DefaultJPEGBytes)
	}
	return MaxBytes
}

// Pixels returns how many pixels a picture of the type may have.
func (l Limits) Pixels(contentType string) int64 {
	if contentType == JPEG {
		return cmp.Or(l.JPEGPixels, DefaultJPEGPixels)
	}
	return MaxPixels
}

// ErrTooLarge means that a picture has more pixels than are kept. It is a *TooLargeError.
var ErrTooLarge = errors.New("picture has too many pixels")

// A TooLargeError says how many pixels a picture has, and how many it may have.
type TooLargeError struct {
	Width, Height int
	Limit         int64
}

// Check returns a *TooLargeError where a picture of the type has too many pixels.
func (l Limits) Check(contentType string, width, height int) error {
	if limit := l.Pixels(contentType); int64(width)*int64(height) > limit {
		return &TooLargeError{width, height, limit}
	}
	return nil
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%d by %d pixels are more than %g megapixels", e.Width, e.Height, e.Megapixels())
}

// Is reports whether the target is ErrTooLarge.
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }

// Megapixels is the limit in megapixels.
func (e *TooLargeError) Megapixels() float64 { return float64(e.Limit) / 1e6 }

// TypeSize is how many bytes of a file TypeOf wants to see.
const TypeSize = 12

// TypeOf returns the type of a picture whose file begins so, or nothing where it begins
// like none that is kept.
func TypeOf(start []byte) string {
	start = start[:min(len(start), TypeSize)]
	switch {
	case bytes.HasPrefix(start, []byte{0xff, soi}):
		return JPEG
	case bytes.HasPrefix(start, pngSignature):
		return PNG
	case bytes.HasPrefix(start, []byte("RIFF")) && len(start) == TypeSize && bytes.HasSuffix(start, []byte("WEBP")):
		return WebP
	}
	return ""
}
