package picture

import (
	"encoding/binary"
	"fmt"
)

// errScan means that the compressed data of a JPEG are not what its header says.
func errScan(at int64, what string) error {
	return fmt.Errorf("%w: JPEG, compressed data at byte %d: %s", ErrNotPicture, at, what)
}

// A bitReader gives the bits of compressed data, without the zeros that are stuffed in
// behind each 0xff (T.81, F.1.2.3), up to the next marker.
type bitReader struct {
	r *reader
	// acc has the next n bits, the first of them at the top. Those below are zeros, or the
	// bits that follow.
	acc uint64
	n   int
	// atMarker is whether no more bits follow but those in acc.
	atMarker bool
}

// fill sees to it that there are 48 bits or more, as far as there are any.
func (s *bitReader) fill() error {
	for s.n < 48 && !s.atMarker {
		if r := s.r; r.begin <= r.at && r.at-r.begin+8 <= int64(len(r.window)) {
			// Eight bytes at once, where none of them is 0xff.
			w := binary.BigEndian.Uint64(r.window[r.at-r.begin:])
			if (w&^(w+0x0101010101010101))&0x8080808080808080 == 0 {
				s.acc |= w >> s.n
				taken := (64 - s.n) >> 3
				r.at += int64(taken)
				s.n += taken << 3
				return nil
			}
		}
		if err := s.one(); err != nil {
			return err
		}
	}
	return nil
}

// one takes in one byte.
func (s *bitReader) one() error {
	b, err := s.r.rest()
	if err == errShort {
		s.atMarker = true // the end of the file is one too
		return nil
	}
	if err != nil {
		return err
	}
	if b[0] == 0xff {
		if b, err = s.r.peek(2); err == errShort || err == nil && b[1] != 0 {
			s.atMarker = true
			return nil
		}
		if err != nil {
			return err
		}
		s.r.at++
	}
	s.acc &^= ^uint64(0) >> s.n // what was there of it already
	s.acc |= uint64(b[0]) << 56 >> s.n
	s.n += 8
	s.r.at++
	return nil
}

// drop goes over k bits, of which there may be fewer. Then n is below zero.
func (s *bitReader) drop(k int) {
	s.acc <<= k
	s.n -= k
}

// take returns the next k bits, at most 16.
func (s *bitReader) take(k int) (uint64, error) {
	if err := s.need(k); err != nil {
		return 0, err
	}
	v := s.acc >> 1 >> (63 - k)
	s.drop(k)
	return v, nil
}

// need fails where there are no k bits.
func (s *bitReader) need(k int) error {
	if s.n < k {
		if err := s.fill(); err != nil {
			return err
		}
		if s.n < k {
			return s.short()
		}
	}
	return nil
}

// short is that there are too few bits.
func (s *bitReader) short() error {
	if s.r.at >= s.r.end {
		return errShort
	}
	return errScan(s.r.at, "end before the picture does")
}

// align ends at the next byte, and puts the reader there. It reports whether a marker
// follows, with nothing before it.
func (s *bitReader) align() (bool, error) {
	if err := s.fill(); err != nil {
		return false, err
	}
	if s.n < 8 && s.atMarker {
		s.acc, s.n, s.atMarker = 0, 0, false
		return true, nil
	}
	// Whole bytes are left. Each was one byte of the file, and 0xff was two.
	left := s.n >> 3
	for range left {
		s.r.at--
		if s.r.at < 1 {
			continue
		}
		s.r.at--
		b, err := s.r.peek(2)
		if err != nil {
			return false, err
		}
		if b[0] != 0xff || b[1] != 0 {
			s.r.at++
		}
	}
	s.acc, s.n, s.atMarker = 0, 0, false
	return false, nil
}

// lookBits is how many bits are looked up at once in a table of codes.
const lookBits = 12

// A huffman is a table of codes (T.81, annex C). Its entries say how many bits are to be
// gone over, with those that follow the code: one of its class is needed to show a picture,
// and none to see where it ends.
type huffman struct {
	// symbols has, for the one symbol that begins with the bits, the length of its code and, in
	// the lower eight bits, its value, or 0 where the code is longer.
	symbols [1 << lookBits]uint16
	// first has an entry for the one symbol that begins with the bits, and more one for as
	// many symbols of AC coefficients as are there.
	first, more [1 << lookBits]entry
	// Of codes of each length, the largest with all that is shorter filled up by bits of 16,
	// and the place of a length's first value less its first code.
	limit  [17]uint32
	offset [17]int32
	values []byte
}

// An entry has, from the lowest bit on: how many bits there are with those that follow
// (6 bits), how many coefficients are passed (7 bits), whether the block ends (1 bit). It is
// 0 where the code is longer than what is looked up, or none.
type entry uint16

const entryEnds = entry(1) << 13

func (e entry) bits() int   { return int(e & 63) }
func (e entry) passed() int { return int(e >> 6 & 127) }

// readHuffman makes a table of the lengths and the values, which wholeHuffman has found. It
// returns nil where there are more codes than fit.
func readHuffman(lengths, values []byte, ac bool) *huffman {
	h := &huffman{values: values}
	code, at := uint32(0), int32(0)
	for length := 1; length <= 16; length++ {
		h.offset[length] = at - int32(code)
		for range lengths[length-1] {
			if code >= 1<<length {
				return nil
			}
			if length <= lookBits {
				e := entryOf(length, values[at], ac)
				from := code << (lookBits - length)
				for i := range uint32(1) << (lookBits - length) {
					h.symbols[from+i] = uint16(length)<<8 | uint16(values[at])
					h.first[from+i] = e
				}
			}
			code++
			at++
		}
		h.limit[length] = code << (16 - length)
		code <<= 1
	}
	if ac {
		h.combine()
	}
	return h
}

// maxSize is how many bits follow a code at most. There are 11 for a DC coefficient of 8 bits,
// and 10 for others, but decoders take as many as can be said.
const maxSize = 15

// entryOf is the entry of a symbol of a sequential scan (T.81, F.2.2.1 and F.2.2.2), or 0
// where there is no such symbol.
func entryOf(length int, value byte, ac bool) entry {
	if !ac {
		if value > maxSize {
			return 0
		}
		return entry(length+int(value)) | 1<<6
	}
	run, size := int(value>>4), int(value&15)
	switch {
	case size == 0 && run == 0:
		return entry(length) | entryEnds
	case size == 0 && run < 15:
		return 0
	}
	return entry(length+size) | entry(run+1)<<6
}

// combine fills in more.
func (h *huffman) combine() {
	for i := range h.more {
		all := h.first[i]
		for all != 0 && all&entryEnds == 0 && all.bits() < lookBits {
			e := h.first[i<<all.bits()&(1<<lookBits-1)]
			// Of the bits that are looked up, some are of no code but zeros: they count only
			// where the code does not reach into them.
			if e == 0 || all.bits()+h.codeLength(uint32(i<<all.bits())&(1<<lookBits-1)) > lookBits || all.passed()+e.passed() > 64 {
				break
			}
			all += e
		}
		h.more[i] = all
	}
}

// codeLength is that of the code with which the bits begin, at most lookBits of them.
func (h *huffman) codeLength(bits uint32) int {
	for length := 1; length <= lookBits; length++ {
		if bits<<(16-lookBits) < h.limit[length] {
			return length
		}
	}
	return lookBits + 1
}

// symbol returns the next symbol and goes behind its code. There must be 16 bits, or all
// that there are.
func (h *huffman) symbol(s *bitReader) (byte, bool) {
	if e := h.symbols[s.acc>>(64-lookBits)]; e != 0 {
		s.drop(int(e >> 8))
		return byte(e), true
	}
	return h.long(s)
}

// long is symbol for a code that is longer than what is looked up.
func (h *huffman) long(s *bitReader) (byte, bool) {
	next := uint32(s.acc >> 48)
	for length := lookBits + 1; length <= 16; length++ {
		if next < h.limit[length] {
			s.drop(length)
			return h.values[int32(next>>(16-length))+h.offset[length]], true
		}
	}
	return 0, false
}
