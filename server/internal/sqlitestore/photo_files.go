package sqlitestore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	"xuncha/server/internal/engine"
	"xuncha/sites"
)

// The folders of photos in the data folder:
//
//	photos/ab/cd/abcd…        a file that is stored, named by its own hash
//	photos/new/…              one that is being written
//	photos/incoming/S_C_H     what has come of the photo H of the check-in C of the site S
//	photos/unknown/D/abcd…    a file that no photo has, set aside on the day D
const (
	photosFolder   = "photos"
	newFolder      = "new"
	incomingFolder = "incoming"
	unknownFolder  = "unknown"
)

// openPhotos makes the folders, and deletes what was not written to its end.
func openPhotos(s *Store, dir string) (*photoStore, error) {
	p := &photoStore{Store: s, dir: filepath.Join(dir, photosFolder)}
	if err := os.RemoveAll(filepath.Join(p.dir, newFolder)); err != nil {
		return nil, err
	}
	for _, name := range []string{newFolder, incomingFolder} {
		if err := os.MkdirAll(filepath.Join(p.dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	return p, errors.Join(engine.SyncFolder(p.dir), engine.SyncFolder(dir))
}

// onFiles runs a call that works on files.
func (p *photoStore) onFiles(ctx context.Context, f func() error) error {
	leave, err := p.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return engine.FileError(f())
}

// onWrites runs a call that writes to files, unless what is left of the disk is kept for
// others.
func (p *photoStore) onWrites(ctx context.Context, f func() error) error {
	if err := p.reserve.admit(ctx); err != nil {
		return err
	}
	err := p.onFiles(ctx, f)
	if errors.Is(err, ledger.ErrFull) {
		p.reserve.found(err)
	}
	return err
}

// incoming is where what comes of a photo is gathered.
func (p *photoStore) incoming(r photos.Ref) string {
	return filepath.Join(p.dir, incomingFolder, string(r.Site)+"_"+string(r.CheckIn)+"_"+r.SHA256.String())
}

// path is where a file that is stored lies.
func (p *photoStore) path(stored inspections.Digest) string {
	name := stored.String()
	return filepath.Join(p.dir, name[:2], name[2:4], name)
}

// Receive implements photos.Store.
func (p *photoStore) Receive(ctx context.Context, r photos.Ref, offset int64, b []byte) error {
	return p.onWrites(ctx, func() (err error) {
		unlock, err := p.receiving.Lock(ctx, r.SHA256)
		if err != nil {
			return err
		}
		defer unlock()
		flags := os.O_WRONLY
		if offset == 0 {
			flags |= os.O_CREATE
		}
		f, err := os.OpenFile(p.incoming(r), flags, 0o600)
		beyond := fmt.Errorf("%d %w", offset, photos.ErrOffset)
		if errors.Is(err, fs.ErrNotExist) && offset > 0 {
			return beyond
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		there := info.Size() - offset
		if there < 0 {
			return beyond
		}
		if there < int64(len(b)) {
			_, err = f.WriteAt(b[there:], info.Size())
		}
		return err
	})
}

// Secure implements photos.Store.
func (p *photoStore) Secure(ctx context.Context, r photos.Ref) error {
	return p.onFiles(ctx, func() error {
		// For writing, because Windows flushes no file that is open for reading.
		f, err := os.OpenFile(p.incoming(r), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody else has stored or discarded it
		}
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close(), engine.SyncFolder(filepath.Join(p.dir, incomingFolder)))
	})
}

// A photoFile is an open file of which the size is known.
type photoFile struct {
	file *os.File
	size int64
}

// Size implements photos.File.
func (f photoFile) Size() int64 { return f.size }

// ReadAt implements photos.File.
func (f photoFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.file.ReadAt(b, at)
	return n, engine.FileError(err)
}

// Close implements photos.File.
func (f photoFile) Close() error { return engine.FileError(f.file.Close()) }

// openFile opens a file that lies somewhere below the folder; one that is not there gives
// missing. Where the folder is not there either, as when a disk is not mounted, that says
// nothing about the file.
func (p *photoStore) openFile(ctx context.Context, folder, path string, missing error) (out photos.File, err error) {
	err = p.onFiles(ctx, func() error {
		f, err := engine.OpenFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Stat(folder); err != nil {
				return err
			}
			return missing
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		out = photoFile{f, info.Size()}
		return nil
	})
	return out, err
}

// Partial implements photos.Store.
func (p *photoStore) Partial(ctx context.Context, r photos.Ref) (photos.File, error) {
	return p.openFile(ctx, filepath.Join(p.dir, incomingFolder), p.incoming(r), fmt.Errorf("%s: %w", r.SHA256, photos.ErrMissing))
}

// Open implements photos.Store.
func (p *photoStore) Open(ctx context.Context, stored inspections.Digest) (photos.File, error) {
	lost := fmt.Errorf("%s: %w", stored, photos.ErrLost)
	f, err := p.openFile(ctx, p.dir, p.path(stored), lost)
	if !errors.Is(err, photos.ErrLost) {
		return f, err
	}
	var path string
	err = p.onFiles(ctx, func() (err error) {
		path, err = p.putBack(ctx, stored)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p.openFile(ctx, p.dir, path, lost)
}

// Discard implements photos.Store.
func (p *photoStore) Discard(ctx context.Context, r photos.Ref) error {
	return p.onFiles(ctx, func() error { return engine.Remove(p.incoming(r)) })
}

// Partials implements photos.Store. A file whose name is none of ours is
// passed over.
func (p *photoStore) Partials(ctx context.Context, each func(photos.Ref, int64, time.Time) error) error {
	var list []fs.DirEntry
	err := p.onFiles(ctx, func() (err error) {
		list, err = os.ReadDir(filepath.Join(p.dir, incomingFolder))
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range list {
		site, rest, _ := strings.Cut(d.Name(), "_")
		checkIn, sum, _ := strings.Cut(rest, "_")
		r := photos.Ref{CheckInRef: inspections.CheckInRef{Site: sites.SiteID(site), CheckIn: inspections.CheckInID(checkIn)}}
		if r.SHA256, err = inspections.ParseDigest(sum); err != nil {
			continue
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return engine.FileError(err)
		}
		if err := each(r, info.Size(), info.ModTime()); err != nil {
			return err
		}
	}
	return nil
}

// A newFile is a file that was written and has no name yet that anybody knows.
type newFile struct {
	path string
	sum  inspections.Digest
	size int64
}

// writeNew writes a file so that it survives a power cut once it has its place, and
// takes its hash on the way.
func (p *photoStore) writeNew(content io.WriterTo) (_ newFile, err error) {
	f, err := os.CreateTemp(filepath.Join(p.dir, newFolder), "")
	if err != nil {
		return newFile{}, err
	}
	out := newFile{path: f.Name()}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), engine.Remove(out.path))
		}
	}()
	hash := sha256.New()
	if out.size, err = content.WriteTo(io.MultiWriter(f, hash)); err != nil {
		return newFile{}, err
	}
	if err := f.Sync(); err != nil {
		return newFile{}, err
	}
	hash.Sum(out.sum[:0])
	// Closed before it is renamed, because Windows renames no open file.
	return out, f.Close()
}

// linkNew makes what was received of a photo such a file too, with the declared hash,
// so that it is not written again. It stays received until it is discarded.
func (p *photoStore) linkNew(r photos.Ref) (_ newFile, err error) {
	missing := fmt.Errorf("%s: %w", r.SHA256, photos.ErrMissing)
	// For writing, because Windows flushes no file that is open for reading.
	f, err := os.OpenFile(p.incoming(r), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return newFile{}, missing
	}
	if err != nil {
		return newFile{}, err
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return newFile{}, err
	}
	out := newFile{path: filepath.Join(p.dir, newFolder, rand.Text()), sum: r.SHA256, size: info.Size()}
	if err := os.Link(p.incoming(r), out.path); err != nil {
		// Not every file system has links.
		return newFile{}, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return out, nil
}

// place gives the file its place, unless it is there already and whole. It needs the
// lock of its hash. Where it fails, the caller removes the file.
func (p *photoStore) place(file newFile) error {
	whole, err := isWhole(p.path(file.sum), file.sum)
	switch {
	case err != nil:
		return err
	case whole:
		return errors.Join(p.syncPath(file.sum), engine.Remove(file.path))
	}
	if err := p.makeFolders(file.sum); err != nil {
		return err
	}
	return engine.Place(file.path, p.path(file.sum))
}

// makeFolders makes the folders in which the file with the hash lies.
func (p *photoStore) makeFolders(stored inspections.Digest) error {
	known := &p.folders[int(stored[0])<<8|int(stored[1])]
	if known.Load() {
		return nil
	}
	folder := filepath.Dir(p.path(stored))
	for _, f := range []string{filepath.Dir(folder), folder} {
		if err := engine.MakeFolder(f); err != nil {
			return err
		}
	}
	known.Store(true)
	return nil
}

// isWhole reports whether the file is there and has the content that its name says. One
// that somebody has altered is not.
func isWhole(path string, stored inspections.Digest) (whole bool, err error) {
	f, err := engine.OpenFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return false, err
	}
	return bytes.Equal(sum.Sum(nil), stored[:]), nil
}

// syncPath makes a file's name, and those of its folders, survive a power cut: a crash
// may have come between its name and its folder's flush.
func (p *photoStore) syncPath(stored inspections.Digest) error {
	folder := filepath.Dir(p.path(stored))
	return errors.Join(engine.SyncFolder(folder), engine.SyncFolder(filepath.Dir(folder)), engine.SyncFolder(p.dir))
}
