package inspections

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"xuncha/inspections/picture"
)

// This file holds what is made of the photos that a check-in declares, and by which rules
// one of them is not taken. A photo never refuses its check-in: the visit has been, whatever
// the camera wrote.

const (
	// MaxPhotos is how many photos of a check-in are kept.
	MaxPhotos = 10
	// MaxDeclaredPhotos is how many a check-in can declare.
	MaxDeclaredPhotos = 100
	// MaxMediaType is how long the name of a photo's type may be that is put on record.
	MaxMediaType = 100
)

var (
	// ErrPhotoFormat means that photos of the declared type are not kept.
	ErrPhotoFormat = errors.New("photos of this type are not kept")
	// ErrPhotoTooLarge means that a declared photo has more bytes than are kept.
	ErrPhotoTooLarge = errors.New("photo has too many bytes")
	// ErrTooManyPhotos means that a check-in has as many photos as are kept of one.
	ErrTooManyPhotos = errors.New("check-in has too many photos")
)

// A Refusal says why a declared photo is not taken. It is empty where the photo is.
type Refusal string

// The refusals, as records spell them.
const (
	// FormatUnsupported: it is no JPEG, PNG or WebP, or its file is empty.
	FormatUnsupported Refusal = "format_unsupported"
	// PhotoTooLarge: it has more bytes than are kept of its type.
	PhotoTooLarge Refusal = "photo_too_large"
	// PictureTooLarge: it has more pixels than are kept of its type.
	PictureTooLarge Refusal = "picture_too_large"
	// TooManyPhotos: MaxPhotos of the check-in are taken already.
	TooManyPhotos Refusal = "too_many_photos"
)

// Err returns the error that the refusal is, without the limit: ErrPhotoFormat,
// ErrPhotoTooLarge, picture.ErrTooLarge or ErrTooManyPhotos; nil where there is none.
func (r Refusal) Err() error {
	switch r {
	case "":
		return nil
	case PhotoTooLarge:
		return ErrPhotoTooLarge
	case PictureTooLarge:
		return picture.ErrTooLarge
	case TooManyPhotos:
		return ErrTooManyPhotos
	}
	return ErrPhotoFormat
}

var refusals = []Refusal{FormatUnsupported, PhotoTooLarge, PictureTooLarge, TooManyPhotos}

// A Photo is a picture of the premises as the phone declares it.
type Photo struct {
	// SHA256 is that of the file on the phone.
	SHA256 Digest
	// Size is in bytes.
	Size int64
	// ContentType is a media type without parameters, in lower case, such as image/jpeg; it
	// is empty where what the phone says is none.
	ContentType string
	// Width and Height are in pixels; 0 where the phone does not know them.
	Width, Height int32
	// Refused tells why the photo is not taken, as it was judged when the check-in was
	// stored.
	Refused Refusal
}

// A PhotoError says why a declared photo is not taken.
type PhotoError struct {
	Photo Photo
	// Limit is how many bytes a photo of its type may have.
	Limit int64
	err   error
}

func (e *PhotoError) Error() string {
	return fmt.Sprintf("%d bytes of type %q: %v", e.Photo.Size, e.Photo.ContentType, e.err)
}

// Unwrap returns ErrPhotoFormat, ErrPhotoTooLarge or ErrTooManyPhotos.
func (e *PhotoError) Unwrap() error { return e.err }

// Refused returns why the photo is not taken, with the limits that hold today: a
// *PhotoError or a *picture.TooLargeError. It is nil where the photo is taken.
func (s *Service) Refused(p Photo) error {
	switch err := p.Refused.Err(); err {
	case nil:
		return nil
	case picture.ErrTooLarge:
		return &picture.TooLargeError{Width: int(p.Width), Height: int(p.Height), Limit: s.Limits.Pixels(p.ContentType)}
	default:
		return &PhotoError{p, s.Limits.Bytes(p.ContentType), err}
	}
}

// LimitsOf returns the limits by which what has come of a photo is judged. What its check-in
// declared was accepted by the limits of then, and is not refused after the upload where
// smaller ones are set since.
func (s *Service) LimitsOf(p Photo) picture.Limits {
	l := s.Limits
	if p.Refused == "" && p.ContentType == picture.JPEG {
		l.JPEGPixels = max(l.Pixels(picture.JPEG), int64(p.Width)*int64(p.Height))
	}
	return l
}

// judge returns the photos, with the refusal of each that is not taken.
func (s *Service) judge(photos []Photo) []Photo {
	out, taken := slices.Clone(photos), 0
	for i := range out {
		p := &out[i]
		switch {
		case !isKept(p.ContentType) || p.Size < 1:
			p.Refused = FormatUnsupported
		case p.Size > s.Limits.Bytes(p.ContentType):
			p.Refused = PhotoTooLarge
		case s.Limits.Check(p.ContentType, int(p.Width), int(p.Height)) != nil:
			p.Refused = PictureTooLarge
		case taken == MaxPhotos:
			p.Refused = TooManyPhotos
		default:
			taken++
		}
	}
	return out
}

// declared returns the photos in the one spelling that is judged, stored and compared, each
// file once. Phones write the same type in many ways, and say -1 of what they do not know.
func declared(photos []Photo) []Photo {
	if len(photos) == 0 {
		return nil
	}
	out := make([]Photo, 0, len(photos))
	for _, p := range photos {
		p.ContentType, p.Refused = mediaType(p.ContentType), ""
		p.Size, p.Width, p.Height = max(0, p.Size), max(0, p.Width), max(0, p.Height)
		i := slices.IndexFunc(out, func(q Photo) bool { return q.SHA256 == p.SHA256 })
		if i < 0 {
			out = append(out, p)
		} else {
			out[i] = likelier(out[i], p)
		}
	}
	return out
}

// likelier returns the one of two declarations of one file that is more likely right, in
// whichever order they come: one with a type that is kept, then the one with more bytes,
// since no phone knows of bytes that are not there.
func likelier(a, b Photo) Photo {
	kept := func(p Photo) int {
		if isKept(p.ContentType) {
			return 1
		}
		return 0
	}
	if cmp.Or(cmp.Compare(kept(a), kept(b)), cmp.Compare(a.Size, b.Size), cmp.Compare(a.ContentType, b.ContentType),
		cmp.Compare(a.Width, b.Width), cmp.Compare(a.Height, b.Height)) < 0 {
		return b
	}
	return a
}

// samePhoto reports whether two declarations are of one file. How many pixels it has does
// not count, which an app may say once it was updated, nor what was judged.
func samePhoto(a, b Photo) bool {
	return a.SHA256 == b.SHA256 && a.Size == b.Size && a.ContentType == b.ContentType
}

func isKept(contentType string) bool {
	return contentType == picture.JPEG || contentType == picture.PNG || contentType == picture.WebP
}

// aliases are other names of types that are kept.
var aliases = map[string]string{
	"image/jpg": picture.JPEG, "image/pjpeg": picture.JPEG, "image/x-jpeg": picture.JPEG, "image/x-citrix-jpeg": picture.JPEG,
	"image/x-png": picture.PNG, "image/x-citrix-png": picture.PNG, "image/x-webp": picture.WebP,
}

// mediaType returns the type without parameters and in its usual spelling (RFC 9110, section
// 8.3.1). What is no media type gives nothing: it could say anything, and records are kept
// for ever.
func mediaType(contentType string) string {
	if isKept(contentType) {
		return contentType
	}
	name, _, _ := strings.Cut(contentType, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	kind, sub, _ := strings.Cut(name, "/")
	if !isToken(kind) || !isToken(sub) || len(name) > MaxMediaType {
		return ""
	}
	return cmp.Or(aliases[name], name)
}

// isToken reports whether the text is a token of RFC 9110, section 5.6.2, as types are.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}
