package client

import (
	"fmt"
	"runtime/debug"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// packedRows are messages as the bytes that are sent, in pieces of memory that are not
// copied as they grow. As messages, a million rows would take a gigabyte.
type packedRows struct {
	pieces [][]byte
	bytes  int // without what is before each message
}

const (
	// rowsPiece is the length of a piece. A row is shorter: none of its cells has more
	// than table.MaxCellBytes.
	rowsPiece = 1 << 20
	// maxPackedRows is how many bytes the rows of an import may have: as many as a server
	// takes.
	maxPackedRows = 256 << 20
)

// add adds a message.
func (p *packedRows) add(m proto.Message) error {
	length := proto.Size(m)
	if p.bytes += length; p.bytes > maxPackedRows {
		return fmt.Errorf("the table has more than %d MiB in its rows; split it", maxPackedRows>>20)
	}
	last := len(p.pieces) - 1
	if last < 0 || len(p.pieces[last])+protowire.SizeBytes(length) > cap(p.pieces[last]) {
		p.pieces = append(p.pieces, make([]byte, 0, max(rowsPiece, protowire.SizeBytes(length))))
		last++
	}
	var err error
	p.pieces[last], err = proto.MarshalOptions{}.MarshalAppend(protowire.AppendVarint(p.pieces[last], uint64(length)), m)
	return err
}

// each calls f with the bytes of each message, until it returns false.
func (p *packedRows) each(f func([]byte) bool) {
	for _, piece := range p.pieces {
		for len(piece) > 0 {
			m, n := protowire.ConsumeBytes(piece)
			if n < 0 || !f(m) {
				return
			}
			piece = piece[n:]
		}
	}
}

// frugal lets the collector run often until the function that it returns is called. Most
// of what an import holds are a few hundred pieces of memory, which it need not look into,
// and garbage beside them would add half as much again.
func frugal() (restore func()) {
	percent, limit := debug.SetGCPercent(10), debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(limit, 448<<20))
	return func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }
}
