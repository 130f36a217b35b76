// Package picture takes everything out of an image file but the picture, without
// compressing it again: EXIF and with it positions, times and names of devices,
// XMP, IPTC, makers' notes, comments, embedded thumbnails, further images, and
// whatever follows the end. What is needed to show the picture stays: the
// compressed data byte for byte, the colours of the colour profile, and which side is up.
//
// It works by what may stay, not by what must go: a part of a file that is not
// known to be needed is left out. Parts that stay and are short are written anew
// from what they say, so that they have no room for anything else.
//
// Formats are JPEG (ITU-T T.81; JFIF 1.02; ICC.1:2022 annex B.4), PNG (W3C PNG,
// third edition) and WebP (RFC 9649).
//
// The picture is read where it lies, a piece at a time. Its compressed data are gone over to
// their end before it is kept, so that nothing passes as a picture that only begins like one.
// No pixels are kept meanwhile, but for those of a lossless WebP, which is decoded.
package picture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
)

// maxPieces bounds the parts that a picture consists of. Cameras write less than a hundred,
// and some programs one for each 4 KiB.
const maxPieces = 16384

// ErrNotPicture means that a file is no whole JPEG, PNG or WebP file, or is of a kind
// that no camera writes and that cannot be shown everywhere.
var ErrNotPicture = errors.New("is no picture that can be kept")

// ErrPanicked means that a picture has shown a fault of what reads it, with the stack.
var ErrPanicked = errors.New("a picture made its reader panic")

// The content types that there are.
const (
	JPEG = "image/jpeg"
	PNG  = "image/png"
	WebP = "image/webp"
)

// A Picture is what there is to keep of an image file. It reads the file when it
// is written, so that the file must stay as it is.
type Picture struct {
	// ContentType is JPEG, PNG or WebP.
	ContentType string
	// Width and Height are those of the stored pixels, before they are turned as
	// Orientation says.
	Width, Height int
	// Orientation says how the pixels are to be turned, 1 to 8 as in EXIF 2.32,
	// 4.6.4 A; 1 is not at all.
	Orientation int

	limits Limits
	src    *source
	whole  int64 // the size of the file
	pieces []piece
	size   int64
	// decoding is how many bytes it takes to decode the pixels.
	decoding int64
	// work is about how many samples a decoder goes over before it asks again.
	work int64
}

// A piece is either bytes or a part of the file.
type piece struct {
	bytes  []byte
	at, n  int64
	joined bool // bytes are nil
}

// Read finds what there is to keep of the file with the size. Of the limits it holds
// those on pixels. Errors wrap ErrNotPicture or ErrTooLarge and say what is wrong where,
// or are those of the file, whatever follows from them.
// A panic becomes ErrPanicked.
func Read(file io.ReaderAt, size int64, limits Limits) (_ *Picture, err error) {
	src := &source{ReaderAt: file}
	defer func() { err = src.blame(err) }()
	defer Guard(&err)
	p := &Picture{limits: limits, src: src, whole: size, Orientation: 1}
	r := &reader{src: src, end: size}
	start, err := r.peek(TypeSize)
	if err != nil {
		return nil, err
	}
	switch p.ContentType = TypeOf(start); p.ContentType {
	case JPEG:
		err = p.readJPEG(r)
	case PNG:
		err = p.readPNG(r)
	case WebP:
		err = p.readWebP(r)
	default:
		return nil, fmt.Errorf("%w: it begins like no JPEG, PNG or WebP file", ErrNotPicture)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Guard turns a panic of what reads a picture into ErrPanicked; it must be deferred. A file
// that somebody has made must not end what goes on beside it.
func Guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v\n%s", ErrPanicked, p, debug.Stack())
	}
}

// A source is a file of which is known whether it could not be read. Decoders turn that
// into errors of their own, and then it would look like a fault of the picture.
type source struct {
	io.ReaderAt
	failed error
}

// ReadAt implements io.ReaderAt.
func (s *source) ReadAt(b []byte, at int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(b, at)
	if err != nil && err != io.EOF {
		s.failed = err
	}
	return n, err
}

// blame returns why the file could not be read in place of the error, where that was so.
func (s *source) blame(err error) error {
	if err != nil && s.failed != nil {
		err, s.failed = s.failed, nil
	}
	return err
}

// Size returns how many bytes WriteTo writes.
func (p *Picture) Size() int64 { return p.size }

// Unchanged reports whether WriteTo writes the very file that was read: there is
// nothing in it but the picture. Where that cannot be told, it is false.
func (p *Picture) Unchanged() bool {
	if p.size != p.whole {
		return false
	}
	at := int64(0)
	for _, q := range p.pieces {
		if q.joined {
			if q.at != at {
				return false
			}
			at += q.n
			continue
		}
		there := make([]byte, len(q.bytes))
		if n, _ := p.src.ReadAt(there, at); n < len(there) || !bytes.Equal(there, q.bytes) {
			return false
		}
		at += int64(len(q.bytes))
	}
	return true
}

// Reader returns the file with nothing but the picture in it. The same picture
// always gives the same bytes.
func (p *Picture) Reader() io.Reader {
	readers := make([]io.Reader, len(p.pieces))
	for i, q := range p.pieces {
		if q.joined {
			readers[i] = io.NewSectionReader(p.src, q.at, q.n)
		} else {
			readers[i] = bytes.NewReader(q.bytes)
		}
	}
	return io.MultiReader(readers...)
}

// WriteTo writes what Reader gives.
func (p *Picture) WriteTo(w io.Writer) (n int64, err error) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	write := func(b []byte) error {
		m, err := w.Write(b)
		n += int64(m)
		return err
	}
	for _, q := range p.pieces {
		if !q.joined {
			if err := write(q.bytes); err != nil {
				return n, err
			}
		}
		for at, end := q.at, q.at+q.n; at < end; {
			b := buffer[:min(bufferSize, end-at)]
			if m, err := p.src.ReadAt(b, at); m < len(b) {
				if err == nil || err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return n, err
			}
			if err := write(b); err != nil {
				return n, err
			}
			at += int64(len(b))
		}
	}
	return n, nil
}

// bufferSize is how many bytes are written at once.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// measure notes how large the picture is, and refuses one that is too large.
func (p *Picture) measure(width, height int) error {
	if width < 1 || height < 1 {
		return fmt.Errorf("%w: it is %d by %d pixels", ErrNotPicture, width, height)
	}
	if err := p.limits.Check(p.ContentType, width, height); err != nil {
		return err
	}
	p.Width, p.Height = width, height
	return nil
}

// add adds bytes to what is kept.
func (p *Picture) add(b []byte) error {
	p.size += int64(len(b))
	return p.append(piece{bytes: b})
}

// keep adds n bytes of the file from at on.
func (p *Picture) keep(at, n int64) error {
	p.size += n
	if last := len(p.pieces) - 1; last >= 0 && p.pieces[last].joined && p.pieces[last].at+p.pieces[last].n == at {
		p.pieces[last].n += n
		return nil
	}
	return p.append(piece{at: at, n: n, joined: true})
}

func (p *Picture) append(q piece) error {
	if len(p.pieces) == maxPieces {
		return fmt.Errorf("%w: it has too many parts", ErrNotPicture)
	}
	p.pieces = append(p.pieces, q)
	return nil
}

// A reader goes through a file.
type reader struct {
	src io.ReaderAt
	at  int64 // where it is
	end int64 // where the file, or what there is to read of it, ends

	window []byte // of the file, from begin on
	begin  int64
}

// windowSize is how much is read at once.
const windowSize = 64 << 10

// errShort means that the file ends too early.
var errShort = fmt.Errorf("%w: it ends too early", ErrNotPicture)

// peek returns the next n bytes, at most windowSize, which are valid until the
// next call.
func (r *reader) peek(n int) ([]byte, error) {
	if r.end-r.at < int64(n) {
		return nil, errShort
	}
	if i := r.at - r.begin; i >= 0 && i+int64(n) <= int64(len(r.window)) {
		return r.window[i : i+int64(n)], nil
	}
	if r.window == nil {
		r.window = make([]byte, windowSize)
	}
	r.window = r.window[:min(int64(cap(r.window)), r.end-r.at)]
	r.begin = r.at
	if m, err := r.src.ReadAt(r.window, r.at); m < len(r.window) {
		r.window = r.window[:0]
		if err == io.EOF {
			err = errShort
		}
		return nil, err
	}
	return r.window[:n], nil
}

// next returns the next n bytes and goes behind them.
func (r *reader) next(n int) ([]byte, error) {
	b, err := r.peek(n)
	if err == nil {
		r.at += int64(n)
	}
	return b, err
}

// skip goes over n bytes.
func (r *reader) skip(n int64) error {
	if n < 0 || r.end-r.at < n {
		return errShort
	}
	r.at += n
	return nil
}

// rest returns at least one of the bytes that are left, as many as are at hand.
func (r *reader) rest() ([]byte, error) {
	if _, err := r.peek(1); err != nil {
		return nil, err
	}
	return r.window[r.at-r.begin:], nil
}
