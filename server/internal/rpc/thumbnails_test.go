package rpc

import (
	"bytes"
	"encoding/binary"
	"image/jpeg"
	"testing"

	"google.golang.org/grpc/codes"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestScansOfAThumbnail holds that a progressive JPEG with a usual number of scans has a
// thumbnail; one with so many that a decoder would be busy with them for long has none, and
// is still shown in full; and one with more than any program writes is not taken.
func TestScansOfAThumbnail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, test := range []struct {
		scans int
		want  codes.Code
	}{{12, codes.OK}, {100, codes.FailedPrecondition}, {101, codes.InvalidArgument}} {
		file := progressive(4000, 3000, test.scans)
		c := w.checkIn(i)
		c.Photos = declare(file)
		w.submit(t, c)
		if test.want == codes.InvalidArgument {
			_, err := w.send(t.Context(), c, file, 0, len(file))
			wantStatus(t, err, test.want, "NOT_A_PICTURE", "data")
			continue
		}
		w.mustUpload(t, t.Context(), c, file)
		_, small, err := w.download(t.Context(), c, file, xunchav1.Variant_VARIANT_THUMBNAIL)
		if test.want == codes.OK {
			if size, bad := jpeg.DecodeConfig(bytes.NewReader(small)); err != nil || bad != nil || size.Width != 320 {
				t.Errorf("%d scans: got %v, %v, %v; want a thumbnail", test.scans, size, err, bad)
			}
		} else {
			wantStatus(t, err, test.want, "NO_THUMBNAIL", "")
		}
		if _, full, err := w.download(t.Context(), c, file, xunchav1.Variant_VARIANT_FULL); err != nil || !bytes.Equal(full, file) {
			t.Errorf("%d scans: got %d bytes, %v", test.scans, len(full), err)
		}
	}
}

// progressive returns a grey JPEG whose first scan says that all blocks are grey, and whose
// others say in a few bytes that nothing is to be added to them.
func progressive(width, height uint16, scans int) []byte {
	b := []byte{0xff, 0xd8}
	segment := func(code byte, data ...byte) {
		b = append(b, 0xff, code)
		b = binary.BigEndian.AppendUint16(b, uint16(2+len(data)))
		b = append(b, data...)
	}
	segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)...)
	frame := binary.BigEndian.AppendUint16([]byte{8}, height)
	segment(0xc2, append(binary.BigEndian.AppendUint16(frame, width), 1, 1, 0x11, 0)...)
	one := make([]byte, 16) // a table with one code of one bit
	one[0] = 1
	segment(0xc4, append(append([]byte{0x00}, one...), 0)...)    // of no difference
	segment(0xc4, append(append([]byte{0x10}, one...), 0xe0)...) // of 16,384 blocks and more
	blocks := (int(width) + 7) / 8 * ((int(height) + 7) / 8)
	segment(0xda, 1, 1, 0, 0, 0, 0)
	b = append(b, make([]byte, (blocks+7)/8)...)
	for range scans - 1 {
		segment(0xda, 1, 1, 0, 1, 63, 0)
		b = append(b, make([]byte, (blocks/(1<<14)+1)*15/8+1)...)
	}
	return append(b, 0xff, 0xd9)
}
