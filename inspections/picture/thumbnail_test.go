package picture

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"testing"
)

// near reports whether two colours differ by at most so many levels of 255.
func near(a, b color.Color, most int) bool {
	r, g, bl, _ := a.RGBA()
	r2, g2, bl2, _ := b.RGBA()
	for _, d := range []int{int(r>>8) - int(r2>>8), int(g>>8) - int(g2>>8), int(bl>>8) - int(bl2>>8)} {
		if d > most || d < -most {
			return false
		}
	}
	return true
}

// TestEighth holds that a JPEG in an eighth of its size shows how light each block is on average,
// whatever program wrote it, also one of which image/jpeg shows nothing.
func TestEighth(t *testing.T) {
	best, err := decode(testFile(t, "baseline_440.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range walkable {
		p, err := readAll(testFile(t, name), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := p.eighth(func() error { return nil })
		if err != nil || m == nil || m.Bounds().Size() != image.Pt(13, 9) {
			t.Errorf("%s: got %v, %v", name, m, err)
			continue
		}
		for y := range 71 / 8 {
			for x := range 97 / 8 {
				grey := func(c color.Color) int { return int(color.GrayModel.Convert(c).(color.Gray).Y) }
				sum := 0
				for i := range 64 {
					sum += grey(best.At(8*x+i%8, 8*y+i/8))
				}
				if got, want := grey(m.At(x, y)), sum/64; got < want-8 || got > want+8 {
					t.Errorf("%s, block %d, %d: got %v, want %v", name, x, y, got, want)
				}
			}
		}
	}
}

// TestThumbnailOfOthers holds that there is a thumbnail of a small JPEG that image/jpeg does not
// decode and other programs do: it shows the mean of each block.
func TestThumbnailOfOthers(t *testing.T) {
	const name = "progressive_restart_420.jpg"
	if _, err := decode(testFile(t, name)); err == nil {
		t.Fatalf("image/jpeg decodes %s", name)
	}
	p, err := readAll(testFile(t, name), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	small, err := p.Thumbnail(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(small)
	if err != nil || got.Bounds().Size() != image.Pt(97, 71) {
		t.Errorf("got %v, %v", got.Bounds(), err)
	}
}

// TestThumbnailColours holds that thumbnails have the colours of the picture, also of one that
// is shown in an eighth of its size, and of a lossy WebP, whose numbers mean others than a
// JPEG's.
func TestThumbnailColours(t *testing.T) {
	large := image.NewRGBA(image.Rect(0, 0, 2600, 600))
	for i := range large.Pix {
		large.Pix[i] = []byte{200, 30, 90, 255}[i%4]
	}
	var j, p bytes.Buffer
	if err := errors.Join(jpeg.Encode(&j, large, nil), png.Encode(&p, large)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		want color.Color
	}{
		"a white WebP": {testFile(t, "webp_lossy_white.webp"), color.White},
		"a red WebP":   {testFile(t, "webp_lossy_red.webp"), color.RGBA{254, 0, 0, 255}},
		"a large JPEG": {j.Bytes(), color.RGBA{200, 30, 90, 255}},
		"a large PNG":  {p.Bytes(), color.RGBA{200, 30, 90, 255}},
	} {
		p, _ := clean(t, c.file)
		small, err := p.Thumbnail(nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, err := jpeg.Decode(bytes.NewReader(small))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.At(m.Bounds().Dx()/2, m.Bounds().Dy()/2); !near(got, c.want, 3) {
			t.Errorf("%s: got %v, want %v", name, color.RGBAModel.Convert(got), c.want)
		}
	}
}

// TestThumbnailEnds holds that making a thumbnail ends as soon as it is told to, wherever it
// is, and says why.
func TestThumbnailEnds(t *testing.T) {
	errEnded := errors.New("ended")
	var p bytes.Buffer
	if err := png.Encode(&p, sample(2000, 700)); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{
		"a small JPEG":    plainJPEG(t, 2000, 700),
		"a large JPEG":    plainJPEG(t, 2600, 2000),
		"a PNG":           p.Bytes(),
		"a lossy WebP":    plainWebP(t, "lossy.webp"),
		"a lossless WebP": plainWebP(t, "lossless_alpha.webp"),
	} {
		p, err := readAll(file, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for after, asked := 0, 0; ; after = 2*after + 1 {
			asked = 0
			_, err := p.Thumbnail(func() error {
				if asked++; asked > after {
					return errEnded
				}
				return nil
			})
			if err == nil && after > 0 {
				break // it was not asked so often
			}
			if !errors.Is(err, errEnded) || errors.Is(err, ErrNotPicture) || asked != after+1 {
				t.Errorf("%s, after it was asked %d times: got %v, asked %d times", name, after, err, asked)
				break
			}
		}
	}
}

// A panicking file makes whoever reads it panic, as a fault of a decoder would.
type panicking struct {
	io.ReaderAt
	from int64
}

func (p panicking) ReadAt(b []byte, at int64) (int, error) {
	if at >= p.from {
		panic("a fault")
	}
	return p.ReaderAt.ReadAt(b, at)
}

// TestPanic holds that a panic while a picture is read or decoded is an error of that.
func TestPanic(t *testing.T) {
	for _, contentType := range []string{"JPEG", "PNG", "lossy.webp"} {
		file := files(t)[contentType].plain
		if _, err := Read(panicking{bytes.NewReader(file), 0}, int64(len(file)), Limits{}); !errors.Is(err, ErrPanicked) || errors.Is(err, ErrNotPicture) {
			t.Errorf("%s: got %v, want it to be said", contentType, err)
		}
		p, err := readAll(file, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		p.src.ReaderAt = panicking{p.src.ReaderAt, 0}
		if _, err := p.Thumbnail(nil); !errors.Is(err, ErrPanicked) || errors.Is(err, ErrNotPicture) {
			t.Errorf("%s, its thumbnail: got %v, want it to be said", contentType, err)
		}
	}
}
