package picture

import (
	"bufio"
	"fmt"
	"io"
	"math/bits"
)

const (
	// A partition may end up to so many bytes before its last, since encoders write out whole
	// words, and a decoder may look at so many behind it.
	maxBehindPartition, maxPastPartition = 8, 4
	// maxVP8Header is how many bytes of a lossy image come before its first partition.
	maxVP8Header = 10
)

// vp8Probs are probabilities of tokens' branches, of 256: by plane, band and context.
type vp8Probs [4][8][3][11]byte

// A vp8Bits decodes the bits of a partition, each of its own probability (RFC 6386, 7.3).
type vp8Bits struct {
	src    *bufio.Reader
	value  uint64
	bits   int    // of the value, less the eight that are compared
	span   uint32 // less one
	loaded int64
	size   int64
	failed error
}

func newVP8Bits(src io.ReaderAt, at, size int64) *vp8Bits {
	return &vp8Bits{src: bufio.NewReaderSize(io.NewSectionReader(src, at, size), 8<<10), bits: -8, span: 254, size: size}
}

// bit returns the next bit, which is 0 with the probability.
func (d *vp8Bits) bit(probability byte) bool {
	for d.bits < 0 {
		c, err := d.src.ReadByte()
		if err != nil && err != io.EOF {
			d.failed = err
		}
		d.value = d.value<<8 | uint64(c)
		d.bits += 8
		d.loaded++
	}
	split := d.span * uint32(probability) >> 8
	set := uint32(d.value>>d.bits) > split
	if set {
		d.span -= split + 1
		d.value -= uint64(split+1) << d.bits
	} else {
		d.span = split
	}
	if d.span < 127 {
		shift := bits.LeadingZeros8(uint8(d.span + 1))
		d.span = (d.span+1)<<shift - 1
		d.bits -= shift
	}
	return set
}

// number returns a number of n bits.
func (d *vp8Bits) number(n int) (v int) {
	for range n {
		v <<= 1
		if d.bit(128) {
			v++
		}
	}
	return v
}

// skipIf goes over a number of n bits and its sign, each time where a bit says that it is there.
func (d *vp8Bits) skipIf(times, n int) {
	for range times {
		if d.bit(128) {
			d.number(n + 1)
		}
	}
}

// ended fails where there were too few bytes, and, if the partition is to be at its end, where
// there are more.
func (d *vp8Bits) ended(whole bool) error {
	switch {
	case d.failed != nil:
		return d.failed
	case d.loaded > d.size+maxPastPartition:
		return errVP8("ends before the picture does")
	case whole && d.loaded+maxBehindPartition < d.size:
		return errVP8("is followed by something else")
	}
	return nil
}

func errVP8(what string) error {
	return fmt.Errorf("%w: WebP: its image %s", ErrNotPicture, what)
}

// A vp8Walk goes over a lossy image without making its pixels (RFC 6386).
type vp8Walk struct {
	head     *vp8Bits
	tokens   []*vp8Bits // its partitions
	probs    vp8Probs
	segments [3]byte
	mapped   bool // whether each block of 16 by 16 has its segment
	skips    bool // whether some of these have no tokens
	skip     byte
	// What is left of a block, and above each: the modes, and whether there were tokens: of
	// four parts of Y, two of U, two of V, and of Y2.
	leftModes, leftTokens [9]byte
	modes, had            [][9]byte
}

// walkVP8 goes over the image in the n bytes from at on. Enough may be nil.
func walkVP8(src io.ReaderAt, at, n int64, width, height int, enough func() bool) error {
	var start [maxVP8Header]byte
	if _, err := io.ReadFull(io.NewSectionReader(src, at, n), start[:]); err != nil {
		return err
	}
	first := int64(uint24(start[:]) >> 5)
	begin, end := at+maxVP8Header, at+n
	if first > end-begin {
		return errVP8("ends before the picture does")
	}
	across, down := (width+15)/16, (height+15)/16
	w := &vp8Walk{head: newVP8Bits(src, begin, first), probs: vp8Tokens, modes: make([][9]byte, across), had: make([][9]byte, across)}
	parts := w.header()
	if err := w.partitions(src, begin+first, end, parts); err != nil {
		return err
	}
	for y := range down {
		w.leftModes, w.leftTokens = [9]byte{}, [9]byte{}
		tokens := w.tokens[y%parts]
		for x := range across {
			w.block(tokens, x)
		}
		for _, d := range []*vp8Bits{w.head, tokens} {
			if err := d.ended(false); err != nil {
				return err
			}
		}
		if enough != nil && enough() {
			return errEnough
		}
	}
	for _, d := range append(w.tokens, w.head) {
		if err := d.ended(true); err != nil {
			return err
		}
	}
	return nil
}

// header goes over the header of the frame and returns how many partitions there are (RFC
// 6386, 9.2 to 9.11 and 19.2).
func (w *vp8Walk) header() (parts int) {
	d := w.head
	d.number(2) // the colours' kind, and whether they are clamped
	w.segments = [3]byte{255, 255, 255}
	if d.bit(128) {
		w.mapped = d.bit(128)
		if d.bit(128) {
			d.number(1)
			d.skipIf(4, 7)
			d.skipIf(4, 6)
		}
		for i := range w.segments {
			if w.mapped && d.bit(128) {
				w.segments[i] = byte(d.number(8))
			}
		}
	}
	d.number(1 + 6 + 3) // the filter
	if d.bit(128) {     // it differs by block, and how is said anew
		if d.bit(128) {
			d.skipIf(8, 6)
		}
	}
	parts = 1 << d.number(2)
	d.number(7)
	d.skipIf(5, 4)
	d.number(1)
	for i := range w.probs {
		for j := range w.probs[i] {
			for k := range w.probs[i][j] {
				for l := range w.probs[i][j][k] {
					if d.bit(vp8Updates[i][j][k][l]) {
						w.probs[i][j][k][l] = byte(d.number(8))
					}
				}
			}
		}
	}
	if w.skips = d.bit(128); w.skips {
		w.skip = byte(d.number(8))
	}
	return parts
}

// partitions finds those of the tokens (RFC 6386, 9.5).
func (w *vp8Walk) partitions(src io.ReaderAt, at, end int64, parts int) error {
	sizes := make([]byte, 3*(parts-1))
	if int64(len(sizes)) > end-at {
		return errVP8("ends before the picture does")
	}
	if len(sizes) > 0 {
		if _, err := io.ReadFull(io.NewSectionReader(src, at, end-at), sizes); err != nil {
			return err
		}
	}
	at += int64(len(sizes))
	for i := range parts {
		size := end - at
		if i < parts-1 {
			size = int64(uint24(sizes[3*i:]))
		}
		if size > end-at {
			return errVP8("ends before the picture does")
		}
		w.tokens = append(w.tokens, newVP8Bits(src, at, size))
		at += size
	}
	return nil
}

// block goes over a block of 16 by 16 pixels.
func (w *vp8Walk) block(tokens *vp8Bits, x int) {
	d := w.head
	if w.mapped {
		if d.bit(w.segments[0]) {
			d.bit(w.segments[2])
		} else {
			d.bit(w.segments[1])
		}
	}
	skip := w.skips && d.bit(w.skip)
	apart := w.mode(x)
	left, above := &w.leftTokens, &w.had[x]
	if skip {
		y2 := [2]byte{left[8], above[8]}
		*left, *above = [9]byte{}, [9]byte{}
		if apart { // which says nothing of Y2
			left[8], above[8] = y2[0], y2[1]
		}
		return
	}
	plane, from := 3, 0
	if !apart {
		had := w.coefficients(tokens, 1, left[8]+above[8], 0)
		left[8], above[8] = had, had
		plane, from = 0, 1
	}
	for _, part := range [...]struct{ plane, at, size, from int }{{plane, 0, 4, from}, {2, 4, 2, 0}, {2, 6, 2, 0}} {
		for j := part.at; j < part.at+part.size; j++ {
			for i := part.at; i < part.at+part.size; i++ {
				had := w.coefficients(tokens, part.plane, left[j]+above[i], part.from)
				left[j], above[i] = had, had
			}
		}
	}
}

// The modes by which blocks of 4 by 4 are predicted, in the order of vp8Modes.
const (
	vp8DC = iota
	vp8TM
	vp8VE
	vp8HE
	vp8RD
	vp8VR
	vp8LD
	vp8VL
	vp8HD
	vp8HU
)

// vp8ModeTree has, for each branch, what comes where its bit is 0 and 1: a branch further on,
// or less than 0, a mode (RFC 6386, 11.2).
var vp8ModeTree = [9][2]int8{
	{^vp8DC, 1}, {^vp8TM, 2}, {^vp8VE, 3}, {4, 6}, {^vp8HE, 5}, {^vp8RD, ^vp8VR}, {^vp8LD, 7}, {^vp8VL, 8}, {^vp8HD, ^vp8HU},
}

// mode goes over how a block is predicted, and reports whether each part of it is so apart
// (RFC 6386, 11.2 to 11.4).
func (w *vp8Walk) mode(x int) (apart bool) {
	d := w.head
	left, above := &w.leftModes, &w.modes[x]
	if d.bit(145) {
		mode := byte(vp8DC)
		switch {
		case !d.bit(156):
			if d.bit(163) {
				mode = vp8VE
			}
		case d.bit(128):
			mode = vp8TM
		default:
			mode = vp8HE
		}
		for i := range 4 {
			left[i], above[i] = mode, mode
		}
	} else {
		apart = true
		for j := range 4 {
			for i := range 4 {
				probs, at := &vp8Modes[above[i]][left[j]], int8(0)
				for at >= 0 {
					to := vp8ModeTree[at]
					if d.bit(probs[at]) {
						at = to[1]
					} else {
						at = to[0]
					}
				}
				left[j], above[i] = byte(^at), byte(^at)
			}
		}
	}
	if d.bit(142) && d.bit(114) {
		d.bit(183)
	}
	return apart
}

// vp8Bands has the band of each coefficient (RFC 6386, 13.3), and vp8Extra the probabilities of
// the bits of large ones (13.2).
var (
	vp8Bands = [17]byte{0, 1, 2, 3, 6, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 0}
	vp8Extra = [4][]byte{{173, 148, 140}, {176, 155, 140, 135}, {180, 157, 141, 134, 130}, {254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129}}
)

// coefficients goes over those of a block of 4 by 4 from the place on, and returns 1 where
// there is a token other than its end (RFC 6386, 13.2 and 13.3).
func (w *vp8Walk) coefficients(d *vp8Bits, plane int, context byte, from int) byte {
	probs := &w.probs[plane]
	p := &probs[vp8Bands[from]][context]
	if !d.bit(p[0]) {
		return 0
	}
	for n := from; ; {
		for !d.bit(p[1]) {
			if n++; n == 16 {
				return 1
			}
			p = &probs[vp8Bands[n]][0]
		}
		n++
		next := 1
		if d.bit(p[2]) {
			next = 2
			large(d, p)
		}
		d.bit(128) // its sign
		if n == 16 {
			return 1
		}
		if p = &probs[vp8Bands[n]][next]; !d.bit(p[0]) {
			return 1
		}
	}
}

// large goes over how large a coefficient beyond one is.
func large(d *vp8Bits, p *[11]byte) {
	switch {
	case !d.bit(p[3]):
		if d.bit(p[4]) {
			d.bit(p[5])
		}
	case !d.bit(p[6]):
		if d.bit(p[7]) {
			d.bit(165)
			d.bit(145)
		} else {
			d.bit(159)
		}
	default:
		kind := 0
		if d.bit(p[8]) {
			kind = 2
		}
		if d.bit(p[9+kind/2]) {
			kind++
		}
		for _, probability := range vp8Extra[kind] {
			d.bit(probability)
		}
	}
}
