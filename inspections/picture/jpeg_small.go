package picture

import (
	"encoding/binary"
	"errors"
	"image"
	"image/color"
)

// A meanScan takes in the mean of each block of a scan, which is its DC coefficient (T.81,
// A.3.3), and passes over all others. A picture of an eighth of the size needs no more.
type meanScan struct {
	s        *bitReader
	group    []blockCodes
	across   int64 // how many groups are side by side
	refining bool
	low      byte     // how many bits still lack
	before   [4]int32 // the one before, by the component's place in the scan
}

// again begins anew at a marker.
func (m *meanScan) again() { m.before = [4]int32{} }

// each goes over a group.
func (m *meanScan) each(i, _ int64) error {
	place := -1
	for j := range m.group {
		b := &m.group[j]
		if j == 0 || b.of != m.group[j-1].of {
			place++
		}
		x, y := i%m.across*b.by[0]+b.x, i/m.across*b.by[1]+b.y
		var mean *int32
		if x < b.of.wide && y < b.of.high { // those beyond the edge are not shown
			mean = &b.of.means[y*b.of.wide+x]
		}
		if m.refining {
			bit, err := m.s.take(1)
			if err != nil {
				return err
			}
			if mean != nil {
				*mean |= int32(bit) << m.low
			}
			continue
		}
		diff, err := difference(m.s, b.dc)
		if err != nil {
			return err
		}
		m.before[place] += diff
		if mean != nil {
			*mean = m.before[place] << m.low
		}
		if b.ac != nil {
			if err := skipAC(m.s, b.ac); err != nil {
				return err
			}
		}
	}
	return nil
}

// difference is that to the DC coefficient before (T.81, F.2.2.1).
func difference(s *bitReader, h *huffman) (int32, error) {
	if s.n < 48 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	size, ok := h.symbol(s)
	if !ok || size > maxSize {
		return 0, errScan(s.r.at, "have a code that is none")
	}
	if size == 0 {
		return 0, nil
	}
	bits, err := s.take(int(size))
	v := int32(bits)
	if v < 1<<(size-1) {
		v += -1<<size + 1
	}
	return v, err
}

// quantizations takes in by what DC coefficients are to be multiplied (T.81, B.2.4.1).
func (f *jpegFile) quantizations(data []byte) {
	for len(data) > 0 {
		wide := data[0] >> 4
		f.factors[data[0]&15] = int32(data[1])
		if wide != 0 {
			f.factors[data[0]&15] = int32(binary.BigEndian.Uint16(data[1:]))
		}
		data = data[1+64<<wide:]
	}
}

// prepare makes room for the means of a component's blocks before its first scan.
func (f *jpegFile) prepare() {
	for i := range f.walk.components {
		if c := &f.walk.components[i]; c.means == nil {
			c.means = make([]int32, c.wide*c.high)
			c.factor = f.factors[c.table&3]
		}
	}
}

// A smallJPEG is a JPEG in an eighth of its size.
type smallJPEG struct {
	size       image.Point
	components []component
	h, v       int // the most that a component has
	rgb        bool
}

// largeJPEG reports whether an eighth of its size is still as large as a thumbnail.
func (p *Picture) largeJPEG() bool {
	return p.ContentType == JPEG && max(p.Width, p.Height) >= 8*ThumbnailSide
}

// small returns the picture of a large JPEG in an eighth of its size, which takes a fraction of
// the time and the memory of all of it. It is nil where there is no such way.
func (p *Picture) small(more func() error) (image.Image, error) {
	if !p.largeJPEG() {
		return nil, nil
	}
	m, err := p.eighth(more)
	if m == nil {
		return nil, err
	}
	return m, err
}

// eighth returns a JPEG in an eighth of its size, or nil where its colours are of another kind.
func (p *Picture) eighth(more func() error) (*smallJPEG, error) {
	var stopped error
	limits := p.limits
	limits.Kept = true
	limits.Enough = func() bool { stopped = more(); return stopped != nil }
	f := &jpegFile{walk: jpegWalk{small: true, enough: limits.Enough}}
	q := &Picture{limits: limits, src: p.src, whole: p.whole, ContentType: JPEG, Orientation: 1}
	err := q.readParts(&reader{src: p.src, end: p.whole}, f)
	if errors.Is(err, errEnough) && stopped != nil {
		err = stopped
	}
	if n := len(f.walk.components); err != nil || n != 1 && n != 3 {
		return nil, err
	}
	m := &smallJPEG{size: image.Pt((p.Width+7)/8, (p.Height+7)/8), components: f.walk.components}
	for _, c := range m.components {
		m.h, m.v = max(m.h, int(c.h)), max(m.v, int(c.v))
	}
	if len(m.components) == 3 && f.jfif == nil {
		// The rule of image/jpeg and of others: some files say it, or name their components so.
		c := m.components
		m.rgb = f.adobe != nil && f.adobe[11] == 0 || c[0].id == 'R' && c[1].id == 'G' && c[2].id == 'B'
	}
	return m, nil
}

// ColorModel implements image.Image.
func (m *smallJPEG) ColorModel() color.Model { return color.RGBA64Model }

// Bounds implements image.Image.
func (m *smallJPEG) Bounds() image.Rectangle { return image.Rectangle{Max: m.size} }

// At implements image.Image.
func (m *smallJPEG) At(x, y int) color.Color { return m.RGBA64At(x, y) }

// RGBA64At implements image.RGBA64Image.
func (m *smallJPEG) RGBA64At(x, y int) color.RGBA64 {
	var v [3]byte
	for i := range m.components {
		c := &m.components[i]
		bx := min(int64(x*int(c.h)/m.h), c.wide-1)
		by := min(int64(y*int(c.v)/m.v), c.high-1)
		// A DC coefficient is eight times the mean, less 128.
		v[i] = byte(max(0, min(255, int64(c.means[by*c.wide+bx])*int64(c.factor)/8+128)))
	}
	var shown color.Color = color.Gray{v[0]}
	if m.rgb {
		shown = color.RGBA{v[0], v[1], v[2], 255}
	} else if len(m.components) == 3 {
		shown = color.YCbCr{v[0], v[1], v[2]}
	}
	r, g, b, _ := shown.RGBA()
	return color.RGBA64{uint16(r), uint16(g), uint16(b), 0xffff}
}
