package rpc

import (
	"encoding/binary"
	"strings"
)

// heldRows are the rows of an import that have come so far, in pieces of memory that are
// not copied as they grow. As values of the domain they would take two to three times as
// much.
type heldRows struct {
	// pieces have of each row its number and its cells, each after its length.
	pieces []*strings.Builder
	count  int
	bytes  int
}

const (
	leastPiece = 4 << 10
	mostPiece  = 1 << 20
)

// add adds a row.
func (h *heldRows) add(number int32, cells ...string) {
	length := binary.MaxVarintLen64
	for _, cell := range cells {
		length += binary.MaxVarintLen64 + len(cell)
	}
	last := len(h.pieces) - 1
	if last < 0 || h.pieces[last].Len()+length > h.pieces[last].Cap() {
		piece := new(strings.Builder)
		piece.Grow(max(length, min(mostPiece, max(leastPiece, h.bytes))))
		h.pieces = append(h.pieces, piece)
		last++
	}
	p := h.pieces[last]
	before := p.Len()
	var n [binary.MaxVarintLen64]byte
	p.Write(n[:binary.PutVarint(n[:], int64(number))])
	for _, cell := range cells {
		p.Write(n[:binary.PutUvarint(n[:], uint64(len(cell)))])
		p.WriteString(cell)
	}
	h.count++
	h.bytes += p.Len() - before
}

// each calls f with each row, which has so many cells. The cells are parts of the pieces,
// and f must not keep the slice of them.
func (h *heldRows) each(width int, f func(number int32, cells []string)) {
	cells := make([]string, width)
	for _, piece := range h.pieces {
		for text := piece.String(); text != ""; {
			number, n := varint(text)
			text = text[n:]
			for i := range cells {
				length, n := uvarint(text)
				cells[i] = text[n : n+length]
				text = text[n+length:]
			}
			f(int32(number), cells)
		}
	}
}

func varint(text string) (value int64, n int) {
	var b [binary.MaxVarintLen64]byte
	return binary.Varint(b[:copy(b[:], text)])
}

func uvarint(text string) (value, n int) {
	var b [binary.MaxVarintLen64]byte
	v, n := binary.Uvarint(b[:copy(b[:], text)])
	return int(v), n
}
