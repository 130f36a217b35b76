package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

// TestLimits holds how many pixels a picture of each type may have: a JPEG as many as the
// largest cameras in phones write, or as the limits say, and no other more than before.
func TestLimits(t *testing.T) {
	jpeg := func(width, height uint16) []byte {
		b := plainJPEG(t, 16, 16)
		at := bytes.Index(b, []byte{0xff, sof0})
		binary.BigEndian.PutUint16(b[at+5:], height)
		binary.BigEndian.PutUint16(b[at+7:], width)
		return b
	}
	png := func(width, height uint32) []byte {
		b := plainPNG(t, 16, 16)
		binary.BigEndian.PutUint32(b[16:], width)
		binary.BigEndian.PutUint32(b[20:], height)
		return resum(b, 8)
	}
	wide := Limits{JPEGPixels: math.MaxInt64}
	for _, c := range []struct {
		name   string
		file   []byte
		limits Limits
		limit  int64 // 0 where it is kept
	}{
		{"50 megapixels of a phone", jpeg(8192, 6144), Limits{}, 0},
		{"108 megapixels of a phone", jpeg(12000, 9000), Limits{}, 0},
		{"200 megapixels of a phone", jpeg(16320, 12240), Limits{}, 0},
		{"250 megapixels", jpeg(20000, 12500), Limits{}, 0},
		{"one row more", jpeg(20000, 12501), Limits{}, DefaultJPEGPixels},
		{"12 megapixels where no more are kept", jpeg(4000, 3000), Limits{JPEGPixels: 12e6}, 0},
		{"one row more than 12 megapixels", jpeg(4000, 3001), Limits{JPEGPixels: 12e6}, 12e6},
		{"the largest JPEG where all are kept", jpeg(65535, 65535), wide, 0},
		{"a PNG of one row too many", png(10000, 5001), wide, MaxPixels},
		{"a WebP of too many", webpFile(webpChunk("VP8L", []byte{0x2f, 0xff, 0xff, 0xff, 0x0f, 0})), wide, MaxPixels},
	} {
		c.limits.Kept = true // their compressed data are those of a small picture
		_, err := Read(bytes.NewReader(c.file), int64(len(c.file)), c.limits)
		var large *TooLargeError
		switch {
		case c.limit == 0 && err != nil:
			t.Errorf("%s: got %v, want it kept", c.name, err)
		case c.limit != 0 && (!errors.As(err, &large) || !errors.Is(err, ErrTooLarge) || large.Limit != c.limit):
			t.Errorf("%s: got %v, want it to have more than %d", c.name, err, c.limit)
		}
	}
	for contentType, want := range map[string][2]int64{JPEG: {5, DefaultJPEGBytes}, PNG: {MaxBytes, MaxBytes}, WebP: {MaxBytes, MaxBytes}} {
		if got := [2]int64{Limits{JPEGBytes: 5}.Bytes(contentType), Limits{}.Bytes(contentType)}; got != want {
			t.Errorf("%s: got %v bytes, want %v", contentType, got, want)
		}
	}
}
