package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/draw"
	"golang.org/x/image/webp"
)

const (
	// ThumbnailSide is the longest side of a thumbnail in pixels.
	ThumbnailSide = 320
	// thumbnailQuality is that of its JPEG, of 100.
	thumbnailQuality = 80
)

// Memory returns about how many bytes Thumbnail works in, which is the bound for
// how many to make at once. It is more than a gigabyte for the worst of what Read
// lets through, and 20 MB for a photo of 12 megapixels.
func (p *Picture) Memory() int64 {
	width, _ := p.thumbnailSize()
	const sum = 4 * 8 // scaling adds up four numbers for each column of the thumbnail and each row
	return p.decoding + sum*int64(width)*int64(p.Height) + 1<<20
}

// Work returns about how many samples Thumbnail goes over, in all the scans of a JPEG. It
// takes a second for some 300 million of them. It is 0 for what the argument of Thumbnail
// ends in time.
func (p *Picture) Work() int64 { return p.work }

// Quick reports whether Thumbnail surely takes some tenths of a second at most.
func (p *Picture) Quick() bool {
	return p.largeJPEG() || p.Memory() <= quickMemory && p.work <= quickWork
}

// What takes less than quickMemory and quickWork, decoders are quick with.
const quickMemory, quickWork = 64 << 20, 1 << 27

// thumbnailSize is that of the thumbnail before it is turned.
func (p *Picture) thumbnailSize() (width, height int) {
	longest := max(p.Width, p.Height)
	if longest <= ThumbnailSide {
		return p.Width, p.Height
	}
	return max(1, p.Width*ThumbnailSide/longest), max(1, p.Height*ThumbnailSide/longest)
}

// Thumbnail returns a small JPEG of the picture, upright, and white where the
// picture is transparent. What cannot be decoded is ErrNotPicture; a
// file that cannot be read gives its own error.
//
// It calls more again and again while it works, and ends with the error of that, if any;
// nil never ends it. Not all that decoders do can be ended so: Memory and Work bound the rest.
// A panic becomes ErrPanicked.
func (p *Picture) Thumbnail(more func() error) (_ []byte, err error) {
	defer Guard(&err)
	if more == nil {
		more = func() error { return nil }
	}
	shown, err := p.small(more)
	if err == nil && shown == nil {
		if shown, err = p.decode(more); errors.Is(err, ErrNotPicture) && p.src.failed == nil && p.ContentType == JPEG && !p.largeJPEG() {
			// image/jpeg knows fewer kinds of JPEG than other programs do.
			switch m, again := p.eighth(more); {
			case m != nil:
				shown, err = m, nil
			case again != nil && !errors.Is(again, ErrNotPicture):
				err = again
			}
		}
	}
	if err == nil {
		shown, err = halved(shown, more)
	}
	if err != nil {
		return nil, p.src.blame(err)
	}
	width, height := p.thumbnailSize()
	small := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(small, small.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.BiLinear.Scale(small, small.Bounds(), shown, shown.Bounds(), draw.Over, nil)
	var b bytes.Buffer
	err = jpeg.Encode(&b, turn(small, p.Orientation), &jpeg.Options{Quality: thumbnailQuality})
	return b.Bytes(), err
}

// decode decodes all of the picture.
func (p *Picture) decode(more func() error) (image.Image, error) {
	decode := jpeg.Decode
	switch p.ContentType {
	case PNG:
		decode = png.Decode
	case WebP:
		decode = webp.Decode
	}
	from := &asking{from: p.Reader(), more: more}
	m, err := decode(from)
	switch {
	case from.stopped != nil:
		return nil, from.stopped
	case err != nil:
		return nil, fmt.Errorf("%w: %v", ErrNotPicture, err)
	}
	return inFull(m, p.ContentType), nil
}

// askedBytes is how many bytes a decoder gets until it is asked whether it may go on. It
// takes less than a millisecond for them, but for those with which few say much.
const askedBytes = 1 << 10

// An asking reader asks before it reads. Decoders read as they go, so that it ends them.
type asking struct {
	from    io.Reader
	more    func() error
	stopped error
}

// Read implements io.Reader.
func (a *asking) Read(b []byte) (int, error) {
	if a.stopped == nil {
		a.stopped = a.more()
	}
	if a.stopped != nil {
		return 0, a.stopped
	}
	return a.from.Read(b[:min(len(b), askedBytes)])
}

// halved returns the image in a half, a third and so on of its size, as long as that is twice
// the thumbnail's: each of its pixels is the mean of those that it stands for. That takes a
// while for a large one, so it asks after each row.
func halved(m image.Image, more func() error) (image.Image, error) {
	from, ok := m.(image.RGBA64Image)
	size := m.Bounds().Size()
	by := max(size.X, size.Y) / (2 * ThumbnailSide)
	if !ok || by < 2 {
		return m, nil
	}
	out := image.NewRGBA64(image.Rect(0, 0, (size.X+by-1)/by, (size.Y+by-1)/by))
	sums := make([][4]uint64, out.Rect.Dx())
	for y := range out.Rect.Dy() {
		clear(sums)
		rows := min(by, size.Y-y*by)
		for row := range rows {
			for x := range size.X {
				c := from.RGBA64At(m.Bounds().Min.X+x, m.Bounds().Min.Y+y*by+row)
				sum := &sums[x/by]
				sum[0] += uint64(c.R)
				sum[1] += uint64(c.G)
				sum[2] += uint64(c.B)
				sum[3] += uint64(c.A)
			}
			if err := more(); err != nil {
				return nil, err
			}
		}
		for x, sum := range sums {
			n := uint64(rows * min(by, size.X-x*by))
			out.SetRGBA64(x, y, color.RGBA64{uint16(sum[0] / n), uint16(sum[1] / n), uint16(sum[2] / n), uint16(sum[3] / n)})
		}
	}
	return out, nil
}

// turn returns the image as the orientation says that it is to be shown (EXIF
// 2.32, 4.6.4 A: where the first row and the first column are).
func turn(m *image.RGBA, orientation int) *image.RGBA {
	if orientation == 1 {
		return m
	}
	w, h := m.Rect.Dx(), m.Rect.Dy()
	size := image.Rect(0, 0, w, h)
	if orientation >= 5 {
		size = image.Rect(0, 0, h, w)
	}
	out := image.NewRGBA(size)
	for y := range h {
		for x := range w {
			to := [...]image.Point{
				2: {w - 1 - x, y},
				3: {w - 1 - x, h - 1 - y},
				4: {x, h - 1 - y},
				5: {y, x},
				6: {h - 1 - y, x},
				7: {h - 1 - y, w - 1 - x},
				8: {y, w - 1 - x},
			}[orientation]
			out.SetRGBA(to.X, to.Y, m.RGBAAt(x, y))
		}
	}
	return out
}
