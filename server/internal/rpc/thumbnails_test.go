package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"image/jpeg"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"xuncha/inspections/photos"
	"xuncha/inspections/picture"
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

// A watchedFile is a stored file that says when it is read.
type watchedFile struct {
	*bytes.Reader
	read func()
}

func (f watchedFile) ReadAt(b []byte, at int64) (int, error) {
	f.read()
	return f.Reader.ReadAt(b, at)
}

func (watchedFile) Close() error { return nil }

// thumbnailOf asks for the thumbnail of the file, and calls read at each reading of it.
func thumbnailOf(ctx context.Context, made *thumbnails, file []byte, read func()) ([]byte, error) {
	k := photos.Kept{Stored: sha256.Sum256(file), Size: int64(len(file)), ContentType: "image/jpeg"}
	return made.of(ctx, "somebody", k, func(context.Context) (photos.File, error) {
		return watchedFile{bytes.NewReader(file), read}, nil
	})
}

// TestThumbnailGivenUp holds that a thumbnail which takes more than 2 s of the processor is
// given up and not tried again, and no other is.
func TestThumbnailGivenUp(t *testing.T) {
	for _, width := range []int{2000, 4000} { // which is decoded, and which is shown in an eighth
		file := makePhoto(3, width, 1500, "")
		var spent time.Duration
		measured, stopped := 0, 0
		made := must(newThumbnails(func() (func() time.Duration, func()) {
			measured++
			return func() time.Duration { spent += 300 * time.Millisecond; return spent }, func() { stopped++ }
		}))(t)
		reads := 0
		if _, err := thumbnailOf(t.Context(), made, file, func() { reads++ }); !errors.Is(err, errThumbnail) || !strings.Contains(err.Error(), "more than 2s") {
			t.Errorf("%d pixels: got %v, want %v", width, err, errThumbnail)
		}
		if spent != 2100*time.Millisecond || measured != 1 || stopped != 1 {
			t.Errorf("%d pixels: it was given up after %v, measured %d times and stopped %d times", width, spent, measured, stopped)
		}
		reads = 0
		if _, err := thumbnailOf(t.Context(), made, file, func() { reads++ }); !errors.Is(err, errThumbnail) || reads != 0 {
			t.Errorf("%d pixels, again: got %v after %d reads, want %v at once", width, err, reads, errThumbnail)
		}
		made.stopwatch = nil
		if _, err := thumbnailOf(t.Context(), made, makePhoto(4, width, 1500, ""), func() {}); err != nil {
			t.Errorf("%d pixels, another photo: %v", width, err)
		}
	}
}

// TestThumbnailNobodyWaitsFor holds that a thumbnail is given up once the deadlines of all who
// wait for it are over, and is made for whoever asks later.
func TestThumbnailNobodyWaitsFor(t *testing.T) {
	file := makePhoto(3, 2000, 1500, "")
	all := 0
	must(thumbnailOf(t.Context(), must(newThumbnails(nil))(t), file, func() { all++ }))(t)
	synctest.Test(t, func(t *testing.T) {
		made := must(newThumbnails(nil))(t)
		reads, held := 0, make(chan struct{})
		hold := func() {
			if reads++; reads == 3 {
				<-held
			}
		}
		var failed [2]error
		for i := range failed {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i)*time.Second)
				defer cancel()
				_, failed[i] = thumbnailOf(ctx, made, file, hold)
			}()
		}
		time.Sleep(3 * time.Second)
		close(held)
		synctest.Wait()
		if reads > all/10 || !errors.Is(failed[0], context.DeadlineExceeded) || !errors.Is(failed[1], context.DeadlineExceeded) {
			t.Errorf("got %v after %d reads of %d, want it given up", failed, reads, all)
		}
		if b, err := thumbnailOf(t.Context(), made, file, func() {}); err != nil || len(b) == 0 {
			t.Errorf("asked later: got %d bytes, %v", len(b), err)
		}
	})
}

// TestThumbnailPanics holds that a photo which makes its decoder panic has no thumbnail, and
// ends nothing but the call.
func TestThumbnailPanics(t *testing.T) {
	made := must(newThumbnails(nil))(t)
	file := makePhoto(3, 200, 150, "")
	reads := 0
	if _, err := thumbnailOf(t.Context(), made, file, func() {
		if reads++; reads == 2 {
			panic("a fault")
		}
	}); !errors.Is(err, picture.ErrPanicked) {
		t.Errorf("got %v, want %v", err, picture.ErrPanicked)
	}
	if _, err := thumbnailOf(t.Context(), made, file, func() { t.Error("it was tried again") }); !errors.Is(err, errThumbnail) {
		t.Errorf("again: got %v, want %v", err, errThumbnail)
	}
	if _, err := thumbnailOf(t.Context(), made, makePhoto(4, 200, 150, ""), func() {}); err != nil {
		t.Errorf("another photo: %v", err)
	}
}
