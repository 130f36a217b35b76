package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"

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

// Work returns how many samples of a JPEG Thumbnail goes over in all its scans, and 0 of
// others. A scan takes a second for some 300 million of them, also if it has a few bytes.
func (p *Picture) Work() int64 { return p.work }

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
func (p *Picture) Thumbnail() ([]byte, error) {
	decode := jpeg.Decode
	switch p.ContentType {
	case PNG:
		decode = png.Decode
	case WebP:
		decode = webp.Decode
	}
	whole, err := decode(p.Reader())
	if err != nil {
		return nil, p.src.blame(fmt.Errorf("%w: %v", ErrNotPicture, err))
	}
	width, height := p.thumbnailSize()
	small := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(small, small.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.BiLinear.Scale(small, small.Bounds(), whole, whole.Bounds(), draw.Over, nil)
	var b bytes.Buffer
	err = jpeg.Encode(&b, turn(small, p.Orientation), &jpeg.Options{Quality: thumbnailQuality})
	return b.Bytes(), err
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
