package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// MaxScans is how many scans a JPEG may have. Cameras write one, programs ten or so, and a
	// decoder goes over the whole picture for each, however few bytes it has.
	MaxScans = 100
	// maxHistory is how many bytes are held to go over the refining scans of a progressive
	// JPEG: a bit for each coefficient. One that needs more is not gone over.
	maxHistory = 16 << 20
	// maxBehindScan is how many bytes behind the compressed data are left out as what a
	// careless encoder has left there. More than that are something else.
	maxBehindScan = 64
	// stepsAtOnce is how many blocks are gone over until it is asked whether to go on.
	stepsAtOnce = 1 << 13
)

// errEnough ends a walk that may not go on.
var errEnough = errors.New("that is enough")

// A component is one of a JPEG's frame.
type component struct {
	id, h, v byte
	// wide and high are how many blocks it has in a scan of its own (T.81, A.2.2).
	wide, high int64
	// nonzero has, for each of these, which coefficients are no longer zero, where the frame
	// is progressive.
	nonzero []uint64
	// means has what each of these is on average, times the factor, where that is asked for.
	means  []int32
	factor int32
	table  byte // of quantization
	seen   bool // whether a scan has had it
}

// A jpegWalk goes over the compressed data of a JPEG and keeps none of its pixels: it holds
// that each scan has the picture that the header says, and nothing else.
type jpegWalk struct {
	progressive bool
	components  []component
	// acrossMCUs and downMCUs are how many groups of blocks a scan of all components has.
	acrossMCUs, downMCUs int64
	tables               [2][4]codes // for DC and for AC
	restart              int64       // after how many groups a marker comes, or 0
	history              int64       // bytes
	// small asks for the mean of each block, which makes a picture of an eighth of the size.
	small  bool
	enough func() bool
	steps  int
}

// codes are a table of codes, which is made once a scan needs it.
type codes struct {
	lengths, values []byte
	made            *huffman
}

// frame takes in the header of the frame, of which readJPEG has checked the length.
func (w *jpegWalk) frame(progressive bool, data []byte) error {
	w.progressive = progressive
	height, width := int64(binary.BigEndian.Uint16(data[1:])), int64(binary.BigEndian.Uint16(data[3:]))
	var h, v int64
	for c := data[6:]; len(c) > 0; c = c[3:] {
		one := component{id: c[0], h: c[1] >> 4, v: c[1] & 15, table: c[2]}
		if one.h < 1 || one.h > 4 || one.v < 1 || one.v > 4 || w.component(c[0]) != nil {
			return fmt.Errorf("%w: JPEG: its frame is not as it has to be", ErrNotPicture)
		}
		h, v = max(h, int64(one.h)), max(v, int64(one.v))
		w.components = append(w.components, one)
	}
	up := func(a, b int64) int64 { return (a + b - 1) / b }
	for i := range w.components {
		c := &w.components[i]
		c.wide, c.high = up(up(width*int64(c.h), h), 8), up(up(height*int64(c.v), v), 8)
	}
	w.acrossMCUs, w.downMCUs = up(width, 8*h), up(height, 8*v)
	return nil
}

func (w *jpegWalk) component(id byte) *component {
	for i := range w.components {
		if w.components[i].id == id {
			return &w.components[i]
		}
	}
	return nil
}

// define takes in tables of codes, which wholeHuffman has found.
func (w *jpegWalk) define(data []byte) {
	for len(data) > 0 {
		n := 0
		for _, k := range data[1:17] {
			n += int(k)
		}
		all := bytes.Clone(data[1 : 17+n])
		w.tables[data[0]>>4][data[0]&15] = codes{lengths: all[:16], values: all[16:]}
		data = data[17+n:]
	}
}

// defined reports whether there is any table.
func (w *jpegWalk) defined() bool {
	for _, class := range w.tables {
		for _, c := range class {
			if c.lengths != nil {
				return true
			}
		}
	}
	return false
}

func (w *jpegWalk) table(class int, id byte) (*huffman, error) {
	if id > 3 || w.tables[class][id].lengths == nil {
		return nil, fmt.Errorf("%w: JPEG: a scan has no table of codes", ErrNotPicture)
	}
	c := &w.tables[class][id]
	if c.made == nil {
		if class == 0 && len(c.values) > 0 && slices.Max(c.values) > maxSize {
			return nil, fmt.Errorf("%w: JPEG: a table of codes has sizes that do not exist", ErrNotPicture)
		}
		if c.made = readHuffman(c.lengths, c.values, class == 1); c.made == nil {
			return nil, fmt.Errorf("%w: JPEG: a table of codes has too many", ErrNotPicture)
		}
	}
	return c.made, nil
}

// A blockCodes is what a block of a group is coded with, and the place that it has in its
// component, of groups side by side of so many blocks.
type blockCodes struct {
	dc, ac *huffman
	of     *component
	x, y   int64
	by     [2]int64
}

// scan goes over the compressed data behind the header of a scan, to their very end. It is
// errEnough where that may not go on.
func (w *jpegWalk) scan(r *reader, header []byte) error {
	parts := int(header[0])
	end := header[1+2*parts:]
	from, to, high, low := end[0], end[1], end[2]>>4, end[2]&15
	invalid := fmt.Errorf("%w: JPEG: a scan is not as it has to be", ErrNotPicture)
	if parts < 1 || parts > 4 {
		return invalid
	}
	if w.progressive && (from > to || to > 63 || from == 0 && to != 0 || from > 0 && parts != 1 || high != 0 && high != low+1 || low > 13) {
		return invalid
	}
	needDC := !w.progressive || from == 0 && high == 0
	needAC := !w.progressive || from > 0 && !w.small
	var group []blockCodes
	var only *component
	for i := range parts {
		c := w.component(header[1+2*i])
		for before := range i {
			if header[1+2*before] == header[1+2*i] {
				return invalid
			}
		}
		if c == nil {
			return invalid
		}
		var b blockCodes
		var err error
		if needDC {
			if b.dc, err = w.table(0, header[2+2*i]>>4); err != nil {
				return err
			}
		}
		if needAC {
			if b.ac, err = w.table(1, header[2+2*i]&15); err != nil {
				return err
			}
		}
		blocks := int(c.h) * int(c.v)
		if only = c; parts == 1 {
			blocks = 1
		}
		b.of, b.by = c, [2]int64{int64(c.h), int64(c.v)}
		if parts == 1 {
			b.by = [2]int64{1, 1}
		}
		for j := range int64(blocks) {
			b.x, b.y = j%b.by[0], j/b.by[0]
			group = append(group, b)
		}
	}
	if len(group) > 10 { // T.81, B.2.3
		return invalid
	}
	total := w.acrossMCUs * w.downMCUs
	if parts == 1 {
		total = only.wide * only.high
	}
	s := &bitReader{r: r}
	if w.small {
		if from > 0 {
			return scan(r)
		}
		across := w.acrossMCUs
		if parts == 1 {
			across = only.wide
		}
		m := &meanScan{s: s, group: group, across: across, refining: w.progressive && high != 0, low: low}
		return w.groups(s, total, m.each, m.again)
	}
	switch {
	case !w.progressive:
		return w.groups(s, total, func(int64, int64) error { return sequential(s, group) }, nil)
	case from == 0 && high == 0:
		return w.groups(s, total, func(int64, int64) error { return firstDC(s, group) }, nil)
	case from == 0:
		return w.groups(s, total, func(int64, int64) error { _, err := s.take(len(group)); return err }, nil)
	}
	if err := w.remember(only); err != nil {
		return err
	}
	a := &acScan{s: s, codes: group[0].ac, from: int(from), to: int(to), nonzero: only.nonzero}
	each := a.first
	if high != 0 {
		each = a.refine
	}
	return w.groups(s, total, each, func() { a.ended = 0 })
}

// remember makes room for what is known of the component's coefficients.
func (w *jpegWalk) remember(c *component) error {
	if c.nonzero != nil {
		return nil
	}
	if w.history += 8 * c.wide * c.high; w.history > maxHistory {
		return errEnough
	}
	c.nonzero = make([]uint64, c.wide*c.high)
	return nil
}

// groups calls each for as many groups of blocks as there are, with the number of one and
// of how many come up to the next marker, and goes over those markers. It calls again at
// each of them.
func (w *jpegWalk) groups(s *bitReader, total int64, each func(i, upTo int64) error, again func()) error {
	next := byte(rst0)
	upTo := total
	if w.restart > 0 {
		upTo = min(total, w.restart)
	}
	for i := range total {
		if i == upTo {
			clean, err := s.align()
			if err != nil {
				return err
			}
			at := s.r.at
			if code, err := marker(s.r, 0); err != nil {
				return err
			} else if !clean || code != next {
				return errScan(at, "do not go on where they begin anew")
			}
			if next++; next > rst7 {
				next = rst0
			}
			upTo = min(total, upTo+w.restart)
			if again != nil {
				again()
			}
		}
		if err := each(i, upTo); err != nil {
			return err
		}
		if w.steps++; w.steps%stepsAtOnce == 0 && w.enough != nil && w.enough() {
			return errEnough
		}
	}
	return w.behind(s)
}

// behind ends a scan. A few bytes behind its data are left out; longer padding stays, since
// one byte again and again says nothing.
func (w *jpegWalk) behind(s *bitReader) error {
	if _, err := s.align(); err != nil {
		return err
	}
	end := s.r.at
	err := scan(s.r)
	if errors.Is(err, errShort) {
		s.r.at = s.r.end // the marker of the end lacks, and is put there
	} else if err != nil {
		return err
	}
	if n := s.r.at - end; n > maxBehindScan {
		same, err := repeats(s.r.src, end, n)
		if err == nil && !same {
			err = errScan(end, "are followed by something else")
		}
		return err
	}
	s.r.at = end
	return nil
}

// repeats reports whether bytes of a file are all the same.
func repeats(src io.ReaderAt, at, n int64) (bool, error) {
	b := make([]byte, min(n, windowSize))
	var first [1]byte
	if _, err := io.ReadFull(io.NewSectionReader(src, at, 1), first[:]); err != nil {
		return false, err
	}
	for n > 0 {
		b = b[:min(n, int64(len(b)))]
		if _, err := io.ReadFull(io.NewSectionReader(src, at, int64(len(b))), b); err != nil {
			return false, err
		}
		if bytes.Count(b, first[:]) != len(b) {
			return false, nil
		}
		at += int64(len(b))
		n -= int64(len(b))
	}
	return true, nil
}
