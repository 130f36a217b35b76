package photos_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"image"
	"image/jpeg"
	"slices"
	"strings"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/inspections/picture"
)

// TestRefusedWhenDeclared holds that nothing of a photo is taken in that was refused when
// its check-in arrived, and that nobody waits for it.
func TestRefusedWhenDeclared(t *testing.T) {
	w := newWorld(t)
	good, bad := photo(t, 1, ""), photo(t, 2, "")
	in := w.checkIn(1)
	for _, f := range [][]byte{bad, good} {
		in.Photos = append(in.Photos, inspections.Photo{SHA256: sha256.Sum256(f), Size: int64(len(f)), ContentType: "image/jpeg"})
	}
	in.Photos[0].ContentType = "image/heic"
	c := w.submit(t, in)
	if _, err := w.send(t, refOf(c, 0), 0, bad); !errors.Is(err, inspections.ErrPhotoFormat) {
		t.Errorf("upload: got %v, want ErrPhotoFormat", err)
	}
	if _, err := w.send(t, refOf(c, 1), 0, good); err != nil {
		t.Errorf("upload of the other: %v", err)
	}
	states, err := w.States(t.Context(), []*inspections.Stored{c})
	must(t, err)
	if got := states[0]; got[0].Refused != inspections.FormatUnsupported || got[0].Stored || got[0].Received != 0 || !got[1].Stored {
		t.Errorf("got %+v, want the first refused and the second stored", got)
	}
	if state, err := w.State(t.Context(), refOf(c, 0)); err != nil || state != states[0][0] {
		t.Errorf("got %+v, %v; want %+v", state, err, states[0][0])
	}
	if _, _, err := w.Open(t.Context(), refOf(c, 0)); !errors.Is(err, photos.ErrRefused) {
		t.Errorf("download: got %v, want ErrRefused", err)
	}
	wantFiles(t, w, 1, 0)
	// A server of an earlier version does not see that it was refused, and may take it in.
	must(t, w.store.Receive(t.Context(), refOf(c, 0), 0, bad))
	if got, err := w.Tend(t.Context()); err != nil || got.Refused != 1 || got.Finished != 0 {
		t.Errorf("got %+v, %v; want it given up", got, err)
	}
	wantFiles(t, w, 1, 0)
}

// TestAcceptedUnderLargerLimits holds that a photo which its check-in declared, and which was
// accepted, is taken in although smaller limits are set before it comes. One of which the
// phone did not say how large it is goes by the limits of today.
func TestAcceptedUnderLargerLimits(t *testing.T) {
	w := newWorld(t)
	in, files := w.checkIn(1), [][]byte{photo(t, 1, ""), photo(t, 2, "")}
	for _, f := range files {
		in.Photos = append(in.Photos, inspections.Photo{SHA256: sha256.Sum256(f), Size: int64(len(f)), ContentType: picture.JPEG})
	}
	in.Photos[0].Width, in.Photos[0].Height = 40, 30
	c := w.submit(t, in)
	w.CheckIns.Limits = picture.Limits{JPEGBytes: 10, JPEGPixels: 40*30 - 1}
	w.mustSend(t, c, 0, files[0])
	if _, err := w.send(t, refOf(c, 1), 0, files[1]); !errors.Is(err, picture.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	wantFiles(t, w, 1, 0)
}

// TestOnlyPictures holds that a file which has no more of a picture than its header is refused
// once it has come, and leaves nothing; and that one which cannot be gone over in time is kept.
func TestOnlyPictures(t *testing.T) {
	m := image.NewGray(image.Rect(0, 0, 1600, 1600)) // so many blocks that it is asked for the time
	for i := range m.Pix {
		m.Pix[i] = byte(i * i >> 5)
	}
	var whole bytes.Buffer
	must(t, jpeg.Encode(&whole, m, nil))
	text := []byte(strings.Repeat("Deng Xiaolan at 30.456789N 106.632145E ", 9000))
	var spent time.Duration
	w := newWorld(t)
	w.Stopwatch = func() (func() time.Duration, func()) {
		return func() time.Duration { return spent }, func() {}
	}
	for i, c := range []struct {
		from  int // where the text begins
		spent time.Duration
		kept  bool
	}{
		{1000, 0, false}, {whole.Len() * 9 / 10, picture.MaxEffort, false}, {whole.Len() * 9 / 10, picture.MaxEffort + 1, true},
	} {
		spent = c.spent
		file := slices.Concat(whole.Bytes()[:c.from], text[i:], []byte{0xff, 0xd9})
		_, err := w.send(t, refOf(w.declare(t, i, file), 0), 0, file)
		if c.kept && err != nil || !c.kept && !errors.Is(err, picture.ErrNotPicture) {
			t.Errorf("text from byte %d, after %v: got %v, want it kept: %v", c.from, c.spent, err, c.kept)
		}
		files := 0
		if c.kept {
			files = 1
		}
		wantFiles(t, w, files, 0)
	}
}

// A faultyStore has what came of photos so that whoever reads it panics, as a fault of a decoder
// would have it.
type faultyStore struct {
	photos.Store
	faulty *bool
}

func (s faultyStore) Partial(ctx context.Context, p photos.Ref) (photos.File, error) {
	f, err := s.Store.Partial(ctx, p)
	return faultyFile{f, s.faulty}, err
}

type faultyFile struct {
	photos.File
	faulty *bool
}

func (f faultyFile) ReadAt(b []byte, at int64) (int, error) {
	if *f.faulty && len(b) > picture.TypeSize {
		panic("a fault")
	}
	return f.File.ReadAt(b, at)
}

// TestPanicOfADecoder holds that a photo which shows a fault of what reads it ends its own call
// and nothing else, also at a start, and is there still once the fault is mended.
func TestPanicOfADecoder(t *testing.T) {
	w := newWorld(t)
	faulty := true
	w.Service = w.open(t, faultyStore{w.store, &faulty})
	file := photo(t, 1, "")
	ref := refOf(w.declare(t, 1, file), 0)
	if _, err := w.send(t, ref, 0, file); !errors.Is(err, picture.ErrPanicked) {
		t.Errorf("got %v, want %v", err, picture.ErrPanicked)
	}
	if _, err := w.Tend(t.Context()); !errors.Is(err, picture.ErrPanicked) {
		t.Errorf("at a start: got %v, want %v", err, picture.ErrPanicked)
	}
	wantFiles(t, w, 0, 1)
	faulty = false
	if got, err := w.Tend(t.Context()); err != nil || got.Finished != 1 {
		t.Errorf("got %+v, %v; want it finished", got, err)
	}
	wantFiles(t, w, 1, 0)
}
