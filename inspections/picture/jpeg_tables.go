package picture

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// maxJPEGParts bounds the segments and scans of a JPEG that may be kept.
const maxJPEGParts = 4 * maxPieces

// A jpegPart is a part of a JPEG that is kept in its place if it is needed.
type jpegPart struct {
	piece
	needed bool
	tables []jpegDefined
	whole  bool // whether all of it is kept where any of it is
}

// A jpegDefined is a table in a segment, whose bytes are from up to to of what follows the
// segment's length.
type jpegDefined struct {
	jpegTable
	from, to int
	needed   bool
}

// A jpegTable names what a segment defines for the scans behind it: a table of its class and
// number.
type jpegTable struct{ class, id byte }

// The classes of tables: those of codes, as in the segment, and others.
const (
	codesOfDC byte = iota
	codesOfAC
	quantization
	restartInterval
)

// keep adds a part. Where it defines tables, those of them are needed that a scan needs, so
// that nothing can be put into tables which no scan uses.
func (f *jpegFile) keep(q piece, needed bool, tables ...jpegDefined) error {
	if len(f.parts) == maxJPEGParts {
		return fmt.Errorf("%w: JPEG: it has too many parts", ErrNotPicture)
	}
	if f.latest == nil {
		f.latest = map[jpegTable]int{}
	}
	for _, t := range tables {
		f.latest[t.jpegTable] = len(f.parts)
	}
	f.parts = append(f.parts, jpegPart{q, needed, tables, needed})
	return nil
}

// needs notes that a scan needs the table.
func (f *jpegFile) needs(t jpegTable) {
	i, ok := f.latest[t]
	if !ok {
		return
	}
	part := &f.parts[i]
	part.needed = true
	for j := range part.tables {
		if part.tables[j].jpegTable == t {
			part.tables[j].needed = true
		}
	}
}

// assembleTables returns a segment anew with those of its tables that are needed, or nil
// where it can stay as it is.
func (q *jpegPart) assembleTables(src io.ReaderAt) ([]byte, error) {
	lacks := func(t jpegDefined) bool { return !t.needed }
	if q.whole || !slices.ContainsFunc(q.tables, lacks) {
		return nil, nil
	}
	b := q.bytes
	if q.joined {
		b = make([]byte, q.n)
		if n, err := src.ReadAt(b, q.at); n < len(b) {
			return nil, err
		}
	}
	out := slices.Clone(b[:4])
	for _, t := range q.tables {
		if t.needed {
			out = append(out, b[4+t.from:4+t.to]...)
		}
	}
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)-2))
	return out, nil
}

// tablesOf returns what a segment defines, and whether each once.
func tablesOf(code byte, data []byte) (out []jpegDefined, once bool) {
	once = true
	at := 0
	add := func(t jpegTable, n int) {
		for _, other := range out {
			once = once && other.jpegTable != t
		}
		if once {
			out = append(out, jpegDefined{jpegTable: t, from: at, to: at + n})
		}
		at += n
	}
	switch code {
	case dri:
		add(jpegTable{class: restartInterval}, len(data))
	case dqt:
		for at < len(data) {
			add(jpegTable{quantization, data[at] & 15}, 1+64<<(data[at]>>4))
		}
	case dht:
		for at < len(data) {
			n := 17
			for _, k := range data[at+1 : at+17] {
				n += int(k)
			}
			add(jpegTable{data[at] >> 4, data[at] & 15}, n)
		}
	}
	return out, once
}

// uses notes the tables that a scan with the header needs.
func (f *jpegFile) uses(header []byte) {
	need := func(class, id byte) { f.needs(jpegTable{class, id}) }
	need(restartInterval, 0)
	n := int(header[0])
	from, high := header[1+2*n], header[3+2*n]>>4
	for i := range n {
		codes := header[2+2*i]
		if !f.walk.progressive || from == 0 && high == 0 {
			need(codesOfDC, codes>>4)
		}
		if !f.walk.progressive || from > 0 {
			need(codesOfAC, codes&15)
		}
		// A component keeps the quantization of its first scan.
		if c := f.walk.component(header[1+2*i]); c != nil && !c.seen {
			c.seen = true
			need(quantization, c.table)
		}
	}
}

// wholeHuffman reports whether the bytes are Huffman tables (T.81, B.2.4.2) and
// nothing else.
func wholeHuffman(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 17 || b[0]>>4 > 1 || b[0]&15 > 3 {
			return false
		}
		n := 17
		for _, k := range b[1:17] {
			n += int(k)
		}
		if n > 17+256 || n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}

// wholeQuantization reports whether the bytes are quantization tables (T.81,
// B.2.4.1) and nothing else.
func wholeQuantization(b []byte) bool {
	for len(b) > 0 {
		n := 1 + 64<<(b[0]>>4)
		if b[0]>>4 > 1 || b[0]&15 > 3 || n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}
