package sqlitestore

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A frozenFile is a database as it is: its file, with the pages of its write-ahead log
// in the place of those that they replace. SQLite itself reads a log only where it may
// write beside it. So a folder can be read that must not change, or cannot.
type frozenFile struct {
	db, log  *os.File
	pageSize int64
	size     int64
	// pages is where in the log each page lies that is there.
	pages map[int64]int64
}

const (
	logHeader   = 32
	frameHeader = 24
)

// openFrozen opens the database in the folder, whose log has what was committed and is
// not in the database yet.
func openFrozen(dir string) (_ *frozenFile, err error) {
	f := &frozenFile{pages: map[int64]int64{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.db, err = os.Open(filepath.Join(dir, File)); err != nil {
		return nil, err
	}
	info, err := f.db.Stat()
	if err != nil {
		return nil, err
	}
	f.size = info.Size()
	if f.log, err = os.Open(filepath.Join(dir, File+"-wal")); errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	return f, f.readLog()
}

// readLog finds the pages in the log, up to the last transaction that is whole there, as
// SQLite does: https://www.sqlite.org/fileformat2.html#walformat
func (f *frozenFile) readLog() error {
	head := make([]byte, logHeader)
	switch _, err := io.ReadFull(f.log, head); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	case err != nil:
		return err
	}
	word := func(b []byte, i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	var order binary.ByteOrder = binary.LittleEndian
	if word(head, 0) == 0x377f0683 {
		order = binary.BigEndian
	}
	sum := logSum{order: order}
	sum.add(head[:24])
	f.pageSize = int64(word(head, 2))
	if word(head, 0)&^1 != 0x377f0682 || !sum.is(head[24:]) || f.pageSize < 512 || f.pageSize > 65536 {
		return nil // nothing is committed by such a log
	}
	frame := make([]byte, frameHeader+f.pageSize)
	begun := map[int64]int64{} // pages of a transaction whose end was not read yet
	for at := int64(logHeader); ; at += int64(len(frame)) {
		_, err := f.log.ReadAt(frame, at)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		sum.add(frame[:8])
		sum.add(frame[frameHeader:])
		if word(frame, 2) != word(head, 4) || word(frame, 3) != word(head, 5) || !sum.is(frame[16:]) {
			return nil
		}
		begun[int64(word(frame, 0))] = at + frameHeader
		if pages := int64(word(frame, 1)); pages > 0 {
			for page, where := range begun {
				f.pages[page] = where
			}
			clear(begun)
			f.size = pages * f.pageSize
		}
	}
}

// A logSum is the checksum of a log up to some place.
type logSum struct {
	order binary.ByteOrder
	a, b  uint32
}

// add adds what comes next, whose length is a multiple of 8.
func (s *logSum) add(b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		s.a += s.order.Uint32(b) + s.b
		s.b += s.order.Uint32(b[4:]) + s.a
	}
}

// is reports whether the checksum is the one written there.
func (s *logSum) is(b []byte) bool {
	return binary.BigEndian.Uint32(b) == s.a && binary.BigEndian.Uint32(b[4:]) == s.b
}

func (f *frozenFile) close() (err error) {
	for _, file := range []*os.File{f.db, f.log} {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}
	return err
}

// ReadAt implements io.ReaderAt.
func (f *frozenFile) ReadAt(b []byte, at int64) (n int, err error) {
	for len(b) > 0 && err == nil {
		if at >= f.size {
			return n, io.EOF
		}
		part := b[:min(int64(len(b)), f.size-at)]
		from, where := f.db, at
		if f.pageSize > 0 {
			within := at % f.pageSize
			part = part[:min(int64(len(part)), f.pageSize-within)]
			if in, ok := f.pages[at/f.pageSize+1]; ok {
				from, where = f.log, in+within
			}
		}
		var m int
		m, err = from.ReadAt(part, where)
		n, at, b = n+m, at+int64(m), b[m:]
	}
	return n, err
}

// Open implements fs.FS: there is nothing but the database.
func (f *frozenFile) Open(name string) (fs.File, error) {
	if filepath.Base(name) != File {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return frozenReader{io.NewSectionReader(f, 0, f.size)}, nil
}

// A frozenReader is one reader of a frozenFile.
type frozenReader struct{ *io.SectionReader }

func (r frozenReader) Stat() (fs.FileInfo, error) { return frozenInfo{r.Size()}, nil }
func (frozenReader) Close() error                 { return nil }

type frozenInfo struct{ size int64 }

func (i frozenInfo) Name() string     { return File }
func (i frozenInfo) Size() int64      { return i.size }
func (frozenInfo) Mode() fs.FileMode  { return 0o400 }
func (frozenInfo) ModTime() time.Time { return time.Time{} }
func (frozenInfo) IsDir() bool        { return false }
func (frozenInfo) Sys() any           { return nil }
