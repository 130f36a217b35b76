package picture

import (
	"encoding/binary"
	"fmt"
)

// Flags of the VP8X chunk (RFC 9649, 2.7).
const (
	webpAnimated = 0x02
	webpEXIF     = 0x08
	webpAlpha    = 0x10
	webpICC      = 0x20
)

func (p *Picture) readWebP(r *reader) error {
	head, err := r.next(12)
	if err != nil {
		return err
	}
	size := int64(binary.LittleEndian.Uint32(head[4:]))
	if size < 4 || 8+size > r.end {
		return errShort
	}
	r.end = 8 + size
	var (
		extended, hasAlpha, lossless bool
		canvasWidth, canvasHeight    int
		profile, transparent, image  *piece
	)
	for r.at < r.end {
		start := r.at
		head, err := r.next(8)
		if err != nil {
			return err
		}
		kind, n := string(head[:4]), int64(binary.LittleEndian.Uint32(head[4:]))
		wrong := func(what string) error {
			return fmt.Errorf("%w: WebP, chunk %q at byte %d: %s", ErrNotPicture, kind, start, what)
		}
		if r.end-r.at < n {
			return errShort
		}
		begin, err := r.peek(int(min(n, windowSize)))
		if err != nil {
			return err
		}
		whole := &piece{at: start, n: 8 + n, joined: true}
		switch kind {
		case "VP8X":
			if start != 12 || n != 10 {
				return wrong("does not belong there")
			}
			if begin[0]&webpAnimated != 0 {
				return wrong("is of an animation")
			}
			extended = true
			canvasWidth, canvasHeight = 1+uint24(begin[4:]), 1+uint24(begin[7:])
		case "VP8 ", "VP8L":
			if image != nil {
				return wrong("is a second image")
			}
			image, lossless = whole, kind == "VP8L"
			if lossless {
				hasAlpha, err = p.vp8l(begin)
			} else {
				err = p.vp8(begin, n)
			}
			if err != nil {
				return err
			}
		case "ALPH":
			if image != nil || transparent != nil || !extended || n < 1 {
				return wrong("does not belong there")
			}
			transparent = whole
		case "ANIM", "ANMF":
			return wrong("is of an animation")
		case "ICCP":
			if image == nil && profile == nil && extended && n <= maxProfile {
				if profile, err = webpProfile(r, n); err != nil {
					return err
				}
			}
		case "EXIF":
			p.Orientation = orientationOf(begin)
		}
		// A chunk of odd length is followed by a byte of nothing, which some leave
		// out at the very end.
		if err := r.skip(min(n+n&1, r.end-r.at)); err != nil {
			return err
		}
	}
	switch {
	case image == nil:
		return fmt.Errorf("%w: WebP: there is no image in it", ErrNotPicture)
	case lossless && transparent != nil:
		return fmt.Errorf("%w: WebP: its transparency is in two places", ErrNotPicture)
	case extended && (canvasWidth != p.Width || canvasHeight != p.Height):
		return fmt.Errorf("%w: WebP: its canvas is not as large as its image", ErrNotPicture)
	}
	if err := p.goOverWebP(image, transparent, lossless); err != nil {
		return err
	}
	return p.assembleWebP(profile, transparent, image, hasAlpha || transparent != nil)
}

// webpProfile returns a chunk with the colours of the profile that comes next, or nil where
// it has none.
func webpProfile(r *reader, n int64) (*piece, error) {
	content := make([]byte, n)
	if m, err := r.src.ReadAt(content, r.at); m < len(content) {
		return nil, err
	}
	profile := reduced(content)
	if profile == nil {
		return nil, nil
	}
	b := binary.LittleEndian.AppendUint32([]byte("ICCP"), uint32(len(profile)))
	b = append(b, profile...)
	return &piece{bytes: b, n: int64(len(b))}, nil
}

// assembleWebP puts together what is kept (RFC 9649, 2.7), in the simple format
// where nothing but the image is.
func (p *Picture) assembleWebP(profile, transparent, image *piece, hasAlpha bool) error {
	var flags byte
	extended := profile != nil || transparent != nil || p.Orientation != 1
	size := 4 + padded(image.n)
	for _, x := range []struct {
		flag byte
		has  bool
		n    int64
	}{
		{webpICC, profile != nil, 0}, {webpAlpha, hasAlpha, 0}, {webpEXIF, p.Orientation != 1, 8 + int64(len(exifOf(1)))},
	} {
		if x.has {
			flags |= x.flag
			size += x.n
		}
	}
	var parts []*piece
	for _, q := range []*piece{profile, transparent} {
		if q != nil {
			parts = append(parts, q)
			size += padded(q.n)
		}
	}
	head := []byte("RIFF")
	if extended {
		size += 8 + 10
	}
	head = binary.LittleEndian.AppendUint32(head, uint32(size))
	head = append(head, "WEBP"...)
	if extended {
		head = append(head, "VP8X\x0a\x00\x00\x00"...)
		head = append(head, flags, 0, 0, 0)
		for _, n := range []int{p.Width - 1, p.Height - 1} {
			head = append(head, byte(n), byte(n>>8), byte(n>>16))
		}
	}
	if err := p.add(head); err != nil {
		return err
	}
	for _, q := range append(parts, image) {
		var err error
		if q.joined {
			err = p.keep(q.at, q.n)
		} else {
			err = p.add(q.bytes)
		}
		if err != nil {
			return err
		}
		if q.n&1 != 0 {
			if err := p.add([]byte{0}); err != nil {
				return err
			}
		}
	}
	if p.Orientation == 1 {
		return nil
	}
	exif := exifOf(p.Orientation)
	return p.add(append(binary.LittleEndian.AppendUint32([]byte("EXIF"), uint32(len(exif))), exif...))
}

func padded(n int64) int64 { return n + n&1 }

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// vp8 reads the header of a lossy image of n bytes (RFC 6386, 9.1).
func (p *Picture) vp8(b []byte, n int64) error {
	if len(b) < 10 || b[0]&1 != 0 || string(b[3:6]) != "\x9d\x01\x2a" {
		return fmt.Errorf("%w: WebP: its image does not begin like one", ErrNotPicture)
	}
	width, height := binary.LittleEndian.Uint16(b[6:])&0x3fff, binary.LittleEndian.Uint16(b[8:])&0x3fff
	p.decoding = 3 * int64(width) * int64(height)
	p.work = 6*int64(width)*int64(height) + 32*n // its decoder reads all of it at once
	return p.measure(int(width), int(height))
}

// vp8l reads the header of a lossless image (RFC 9649, 3.4), and whether it is
// transparent.
func (p *Picture) vp8l(b []byte) (hasAlpha bool, err error) {
	if len(b) < 5 || b[0] != 0x2f || b[4]>>5 != 0 {
		return false, fmt.Errorf("%w: WebP: its image does not begin like one", ErrNotPicture)
	}
	bits := binary.LittleEndian.Uint32(b[1:])
	width, height := 1+int(bits&0x3fff), 1+int(bits>>14&0x3fff)
	p.decoding = 8 * int64(width) * int64(height)
	return bits>>28&1 != 0, p.measure(width, height)
}
