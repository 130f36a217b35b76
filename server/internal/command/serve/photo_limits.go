package serve

import (
	"fmt"

	"xuncha/inspections/picture"
)

// photoLimits says which photos are kept. Those of PNG and WebP are not set, because the
// stream of a PNG is unpacked.
type photoLimits struct {
	MaxJPEGBytes      int64 `name:"max-jpeg-bytes" default:"41943040" placeholder:"BYTES" help:"Largest JPEG that is taken in, in bytes, at most 256 MiB; 0 stands for the default. A PNG or WebP has at most 20971520. Larger ones are refused when a check-in declares them, and the check-in is not. Default: ${default}."`
	MaxJPEGMegapixels int64 `name:"max-jpeg-megapixels" default:"250" placeholder:"N" help:"Most pixels that a JPEG may have, in millions, at most 4294; 0 stands for the default. A PNG or WebP has at most 50. Default: ${default}."`
}

// The largest limits that can be set. No phone writes more bytes, and a photo of more could
// not surely be stored within the time that there is for it. No JPEG has more pixels.
const (
	maxJPEGBytes      = 256 << 20
	maxJPEGMegapixels = 4294
)

// limits returns the limits; 0, which is what a Config has that no flags were read into,
// stands for the defaults.
func (c photoLimits) limits() (picture.Limits, error) {
	if c.MaxJPEGBytes < 0 || c.MaxJPEGBytes > maxJPEGBytes {
		return picture.Limits{}, fmt.Errorf("--max-jpeg-bytes: %d is not between 1 and %d", c.MaxJPEGBytes, maxJPEGBytes)
	}
	if c.MaxJPEGMegapixels < 0 || c.MaxJPEGMegapixels > maxJPEGMegapixels {
		return picture.Limits{}, fmt.Errorf("--max-jpeg-megapixels: %d is not between 1 and %d", c.MaxJPEGMegapixels, maxJPEGMegapixels)
	}
	return picture.Limits{JPEGBytes: c.MaxJPEGBytes, JPEGPixels: c.MaxJPEGMegapixels * 1_000_000}, nil
}
