package picture

import (
	"image"
	"image/color"
)

// inFull returns an image as it is meant. The decoder of WebP takes the numbers of a lossy
// image for those of a JPEG, but black is 16 in them and white 235 (RFC 6386, 9.2; RFC 9649,
// 3.1 with BT.601), so that all would look pale.
func inFull(m image.Image, contentType string) image.Image {
	if contentType != WebP {
		return m
	}
	switch m := m.(type) {
	case *image.YCbCr:
		return &studioRange{YCbCr: m}
	case *image.NYCbCrA:
		return &studioRange{YCbCr: &m.YCbCr, alpha: m}
	}
	return m
}

// A studioRange is an image whose numbers are those of BT.601.
type studioRange struct {
	*image.YCbCr
	alpha *image.NYCbCrA // nil where nothing is transparent
}

// ColorModel implements image.Image.
func (m *studioRange) ColorModel() color.Model { return color.RGBA64Model }

// At implements image.Image.
func (m *studioRange) At(x, y int) color.Color { return m.RGBA64At(x, y) }

// RGBA64At implements image.RGBA64Image.
func (m *studioRange) RGBA64At(x, y int) color.RGBA64 {
	i, j := m.YOffset(x, y), m.COffset(x, y)
	luma, cb, cr := 1.164383*(float32(m.Y[i])-16), float32(m.Cb[j])-128, float32(m.Cr[j])-128
	alpha := float32(255)
	if m.alpha != nil {
		alpha = float32(m.alpha.A[m.alpha.AOffset(x, y)])
	}
	scaled := func(v float32) uint16 { return uint16(max(0, min(255, v))*alpha/255*257 + 0.5) }
	return color.RGBA64{
		scaled(luma + 1.596027*cr), scaled(luma - 0.391762*cb - 0.812968*cr), scaled(luma + 2.017232*cb),
		uint16(alpha * 257),
	}
}
