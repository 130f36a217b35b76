package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"xuncha/server/internal/table"
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

// open opens the table's file. Of a pipe, which cannot be read twice, it reads what comes
// into a file of its own first, until the context ends.
func (c *importConfig) open(ctx context.Context) (file *io.SectionReader, shut func(), err error) {
	type opened struct {
		file *os.File
		size int64
		err  error
	}
	result := make(chan opened, 1) // to open a pipe waits until somebody writes to it
	go func() {
		f, size, err := openWhole(c.File)
		result <- opened{f, size, err}
	}()
	select {
	case o := <-result:
		if o.err != nil {
			return nil, nil, o.err
		}
		return io.NewSectionReader(o.file, 0, o.size), func() { o.file.Close() }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// openWhole opens a file of which any part can be read, and returns its size.
func openWhole(name string) (file *os.File, size int64, err error) {
	file, err = os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil || info.Mode().IsRegular() {
		if err != nil {
			return nil, 0, errors.Join(err, file.Close())
		}
		return file, info.Size(), nil
	}
	defer file.Close()
	whole, err := os.CreateTemp("", "xuncha-import-*")
	if err != nil {
		return nil, 0, err
	}
	// Nobody else finds it from here on. Where a file in use cannot be removed, as on
	// Windows, there are no such pipes.
	if err := os.Remove(whole.Name()); err != nil {
		return nil, 0, errors.Join(err, whole.Close())
	}
	size, err = io.Copy(whole, io.LimitReader(file, table.MaxBytes+1))
	if err != nil {
		return nil, 0, errors.Join(err, whole.Close())
	}
	return whole, size, nil
}
