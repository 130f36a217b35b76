package picture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/image/vp8l"
)

const (
	// maxLossless is how many bytes the decoder of lossless images may work in. Of one that
	// takes more, only as much is looked at as tells an image from something else.
	maxLossless  = 160 << 20
	lookedAtOnly = 4 << 10
	// maxBehindLossless is how many bytes an encoder may leave behind its last bit, of a word.
	maxBehindLossless = 8
)

// goOverWebP goes over the compressed data of the image, and of its transparency where that is
// apart.
func (p *Picture) goOverWebP(image, transparent *piece, lossless bool) error {
	if p.limits.Kept {
		return nil
	}
	err := func() error {
		if lossless {
			return p.goOverLossless(nil, image.at+8, image.n-8, p.decoding)
		}
		if err := walkVP8(p.src, image.at+8, image.n-8, p.Width, p.Height, p.limits.Enough); err != nil || transparent == nil {
			return err
		}
		return p.goOverAlpha(transparent.at+8, transparent.n-8)
	}()
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// goOverAlpha goes over a transparency (RFC 9649, 2.7.1.2): a byte for each pixel, or a lossless
// image without its header.
func (p *Picture) goOverAlpha(at, n int64) error {
	var kind [1]byte
	if _, err := io.ReadFull(io.NewSectionReader(p.src, at, 1), kind[:]); err != nil {
		return err
	}
	switch kind[0] & 3 {
	case 0:
		if n-1 != int64(p.Width)*int64(p.Height) {
			return fmt.Errorf("%w: WebP: its transparency is of another size", ErrNotPicture)
		}
		return nil
	case 1:
		head := binary.LittleEndian.AppendUint32([]byte{0x2f}, uint32(p.Width-1)|uint32(p.Height-1)<<14)
		return p.goOverLossless(head, at+1, n-1, 8*int64(p.Width)*int64(p.Height))
	}
	return fmt.Errorf("%w: WebP: its transparency is of a kind that is not supported", ErrNotPicture)
}

// goOverLossless goes over a lossless image whose decoder works in so many bytes. It has the
// head, and n bytes of the file from at on.
func (p *Picture) goOverLossless(head []byte, at, n, memory int64) error {
	r := &countedBytes{src: bufio.NewReader(io.MultiReader(bytes.NewReader(head), io.NewSectionReader(p.src, at, n))), enough: p.limits.Enough}
	if memory > maxLossless {
		r.most = lookedAtOnly
	}
	_, err := vp8l.Decode(r)
	switch {
	case r.stopped:
		return errEnough
	case err != nil:
		return fmt.Errorf("%w: WebP: its image: %v", ErrNotPicture, err)
	case r.n+maxBehindLossless < n:
		return fmt.Errorf("%w: WebP: its image is followed by something else", ErrNotPicture)
	}
	return nil
}

// countedBytes counts the bytes that a decoder takes, and ends it where that is enough.
type countedBytes struct {
	src     *bufio.Reader
	n, most int64 // most is 0 where there is no such limit
	enough  func() bool
	stopped bool
}

// ReadByte implements io.ByteReader.
func (c *countedBytes) ReadByte() (byte, error) {
	if c.n++; c.most > 0 && c.n > c.most || c.n%askedBytes == 0 && c.enough != nil && c.enough() {
		c.stopped = true
		return 0, errEnough
	}
	return c.src.ReadByte()
}

// Read implements io.Reader, which the decoder does not use.
func (c *countedBytes) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }
