package picture

import "fmt"

// maxJPEGParts bounds the segments and scans of a JPEG that may be kept.
const maxJPEGParts = 4 * maxPieces

// A jpegPart is a part of a JPEG that is kept in its place if it is needed.
type jpegPart struct {
	piece
	needed bool
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

// keep adds a part. Where it defines tables it is needed once a scan needs one of them, so
// that nothing can be put into tables which no scan uses.
func (f *jpegFile) keep(q piece, needed bool, tables ...jpegTable) error {
	if len(f.parts) == maxJPEGParts {
		return fmt.Errorf("%w: JPEG: it has too many parts", ErrNotPicture)
	}
	if f.latest == nil {
		f.latest = map[jpegTable]int{}
	}
	for _, t := range tables {
		f.latest[t] = len(f.parts)
	}
	f.parts = append(f.parts, jpegPart{q, needed})
	return nil
}

// tablesOf returns what a segment defines, and whether each once.
func tablesOf(code byte, data []byte) (out []jpegTable, once bool) {
	once = true
	add := func(t jpegTable) {
		for _, other := range out {
			once = once && other != t
		}
		if once {
			out = append(out, t)
		}
	}
	switch code {
	case dri:
		add(jpegTable{class: restartInterval})
	case dqt:
		for ; len(data) > 0; data = data[1+64<<(data[0]>>4):] {
			add(jpegTable{quantization, data[0] & 15})
		}
	case dht:
		for len(data) > 0 {
			add(jpegTable{data[0] >> 4, data[0] & 15})
			n := 17
			for _, k := range data[1:17] {
				n += int(k)
			}
			data = data[n:]
		}
	}
	return out, once
}

// uses notes the tables that a scan with the header needs.
func (f *jpegFile) uses(header []byte) {
	need := func(class, id byte) {
		if i, ok := f.latest[jpegTable{class, id}]; ok {
			f.parts[i].needed = true
		}
	}
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
