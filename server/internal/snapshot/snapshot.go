// Package snapshot keeps what a store's entries add up to in a file, so that a start need
// not read them all. The file is a cache and nothing else: it is used only where it is
// whole, the same program wrote it, and the database has every entry that it was made
// from. Otherwise everything is read.
//
// The file has these parts:
//
//	"xuncha snapshot v1\n"
//	the key, 32 bytes
//	the sections, one after the other, each in its owner's form
//	the heads of all histories, by name: length of the name, name, sequence, hash
//	an index in JSON: the cursor, and where each section lies
//	the length of the index, 8 bytes
//	SHA-256 of all that comes before it
package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"

	"xuncha/ledger"
	"xuncha/server/internal/engine"
)

// ErrUnfit means that a snapshot cannot be used: everything has to be read.
var ErrUnfit = errors.New("the snapshot does not fit")

const (
	magic = "xuncha snapshot v1\n"
	// tail is the length of what comes behind the index.
	tail = 8 + sha256.Size
	// bufferSize is how much is written and read at once.
	bufferSize = 256 << 10
)

// A Key stands for all that a snapshot depends on beside the entries, such as the program
// that made it. A snapshot with another key does not fit.
type Key [sha256.Size]byte

// A Section is a part of a snapshot. Names are unique within it.
type Section struct {
	Name string
	ledger.Snapshotter
}

// An index says what a snapshot has.
type index struct {
	Cursor ledger.Cursor `json:"cursor"`
	// Entries is how many entries the store had at about the cursor.
	Entries  int64     `json:"entries"`
	Sections []section `json:"sections"`
}

// A section is where bytes of a section lie in the file.
type section struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
}

// headsName is the name of the section with the heads of all histories.
const headsName = "heads"

// Write replaces the file by a snapshot of the sections. All entries up to the cursor must
// be in their states; they may know more. It returns once the file survives a power cut.
// Where it fails or ctx ends, the file that was there stays.
func Write(ctx context.Context, path string, key Key, store ledger.Store, at ledger.Cursor, entries int64, sections []Section) (err error) {
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return engine.FileError(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(engine.FileError(err), f.Close(), engine.Remove(fresh))
		}
	}()
	w := &writer{ctx: ctx, file: bufio.NewWriterSize(f, bufferSize), sum: sha256.New()}
	if _, err := w.Write(append([]byte(magic), key[:]...)); err != nil {
		return err
	}
	x := index{Cursor: at, Entries: entries}
	for _, s := range sections {
		begin := w.n
		if err := s.Snapshot(w); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		x.Sections = append(x.Sections, section{s.Name, begin, w.n - begin})
	}
	// The heads are read last, so they have all that the states can know.
	begin := w.n
	if err := writeHeads(ctx, w, store); err != nil {
		return err
	}
	x.Sections = append(x.Sections, section{headsName, begin, w.n - begin})
	text, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if _, err := w.Write(binary.BigEndian.AppendUint64(text, uint64(len(text)))); err != nil {
		return err
	}
	if _, err := w.Write(w.sum.Sum(nil)); err != nil {
		return err
	}
	if err := errors.Join(w.file.Flush(), f.Sync()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return engine.Place(fresh, path)
}

// A writer writes to the file, takes its sum, and counts.
type writer struct {
	ctx  context.Context
	file *bufio.Writer
	sum  hash.Hash
	n    int64
}

func (w *writer) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	w.sum.Write(b)
	n, err := w.file.Write(b)
	w.n += int64(n)
	return n, err
}

// A Snapshot is a file that is whole and has the right key.
type Snapshot struct {
	file  *os.File
	index index
}

// Open opens a snapshot and reads it once, to see whether it is whole. The error wraps
// ErrUnfit where it is not or has another key, and fs.ErrNotExist where there is none.
func Open(ctx context.Context, path string, key Key) (_ *Snapshot, err error) {
	f, err := engine.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	begin := make([]byte, len(magic)+len(key))
	size := info.Size() - tail
	if size < int64(len(begin)) {
		return nil, fmt.Errorf("%w: it is cut short", ErrUnfit)
	}
	if _, err := f.ReadAt(begin, 0); err != nil {
		return nil, err
	}
	if string(begin[:len(magic)]) != magic || !bytes.Equal(begin[len(magic):], key[:]) {
		return nil, fmt.Errorf("%w: another program wrote it, or this one with other flags", ErrUnfit)
	}
	sum := sha256.New()
	whole := &reader{ctx, io.NewSectionReader(f, 0, size+8)}
	if _, err := io.CopyBuffer(sum, whole, make([]byte, bufferSize)); err != nil {
		return nil, err
	}
	var end [tail]byte
	if _, err := f.ReadAt(end[:], size); err != nil {
		return nil, err
	}
	if !bytes.Equal(sum.Sum(nil), end[8:]) {
		return nil, fmt.Errorf("%w: it was changed or cut short", ErrUnfit)
	}
	s := &Snapshot{file: f}
	text := make([]byte, binary.BigEndian.Uint64(end[:8]))
	if _, err := f.ReadAt(text, size-int64(len(text))); err != nil {
		return nil, err
	}
	return s, json.Unmarshal(text, &s.index)
}

// A reader reads until ctx ends.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r *reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// Cursor returns where in the feed the snapshot is: all up to there is in it.
func (s *Snapshot) Cursor() ledger.Cursor { return s.index.Cursor }

// Entries returns how many entries the store had when the snapshot was written.
func (s *Snapshot) Entries() int64 { return s.index.Entries }

// Close closes the file.
func (s *Snapshot) Close() error { return s.file.Close() }

// section returns the bytes of a section.
func (s *Snapshot) section(ctx context.Context, name string) (io.Reader, error) {
	for _, x := range s.index.Sections {
		if x.Name == name {
			return bufio.NewReaderSize(&reader{ctx, io.NewSectionReader(s.file, x.Offset, x.Length)}, bufferSize), nil
		}
	}
	return nil, fmt.Errorf("%w: it lacks the section %s", ErrUnfit, name)
}

// Restore gives each section what was written for it, all at the same time. Fits must
// have said that the snapshot fits. After an error some of them may be restored all the
// same, which is no harm.
func (s *Snapshot) Restore(ctx context.Context, sections []Section) error {
	var running sync.WaitGroup
	errs := make([]error, len(sections))
	for i, to := range sections {
		running.Go(func() {
			r, err := s.section(ctx, to.Name)
			if err == nil {
				err = to.Restore(r)
			}
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", to.Name, err)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// Remove deletes a snapshot and what is left of one that was being written.
func Remove(path string) error {
	err := errors.Join(engine.Remove(path), engine.Remove(path+".new"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
