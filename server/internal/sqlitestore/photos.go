package sqlitestore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/server/internal/engine"
	"xuncha/sites"
)

// The folders of photos in the data folder:
//
//	photos/ab/cd/abcd…        a file that is stored, named by its own hash
//	photos/new/…              one that is being written
//	photos/incoming/S_C_H     what has come of the photo H of the check-in C of the site S
const (
	photosFolder   = "photos"
	newFolder      = "new"
	incomingFolder = "incoming"
)

// A photoStore keeps files in folders, and what is to be found quickly of them
// in the database.
type photoStore struct {
	*Store
	dir string
	// receiving keeps apart those who add to the same file, by the photo's hash.
	receiving engine.Locks
	// storing keeps apart those who store and delete the same file.
	storing engine.Locks
	// folders tells which of ab/cd are known to survive a power cut.
	folders [1 << 16]atomic.Bool
}

// Photos returns where the store keeps photos.
func (s *Store) Photos() inspections.Photos { return s.photos }

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
	return p, errors.Join(syncFolder(p.dir), syncFolder(dir))
}

// fileError gives the operating system's errors the meaning that callers know.
func fileError(err error) error {
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case slices.ContainsFunc(fullErrors, is):
		return fmt.Errorf("%w: %w", ledger.ErrFull, err)
	case slices.ContainsFunc(unavailableErrors, is):
		return fmt.Errorf("%w: %w", ledger.ErrUnavailable, err)
	}
	return err
}

// onFiles runs a call that works on files.
func (p *photoStore) onFiles(ctx context.Context, f func() error) error {
	leave, err := p.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return fileError(f())
}

// incoming is where what comes of a photo is gathered.
func (p *photoStore) incoming(r inspections.PhotoRef) string {
	return filepath.Join(p.dir, incomingFolder, string(r.Site)+"_"+string(r.CheckIn)+"_"+r.SHA256.String())
}

// path is where a file that is stored lies.
func (p *photoStore) path(stored inspections.Digest) string {
	name := stored.String()
	return filepath.Join(p.dir, name[:2], name[2:4], name)
}

// Received implements inspections.Photos.
func (p *photoStore) Received(ctx context.Context, r inspections.PhotoRef) (n int64, err error) {
	err = p.onFiles(ctx, func() error {
		info, err := os.Stat(p.incoming(r))
		if err == nil {
			n = info.Size()
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	})
	return n, err
}

// Receive implements inspections.Photos.
func (p *photoStore) Receive(ctx context.Context, r inspections.PhotoRef, offset int64, b []byte) error {
	return p.onFiles(ctx, func() (err error) {
		defer p.receiving.Lock(r.SHA256)()
		flags := os.O_WRONLY
		if offset == 0 {
			flags |= os.O_CREATE
		}
		f, err := os.OpenFile(p.incoming(r), flags, 0o600)
		beyond := fmt.Errorf("%d %w", offset, inspections.ErrPhotoOffset)
		if errors.Is(err, fs.ErrNotExist) {
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

// Secure implements inspections.Photos.
func (p *photoStore) Secure(ctx context.Context, r inspections.PhotoRef) error {
	return p.onFiles(ctx, func() error {
		// For writing, because Windows flushes no file that is open for reading.
		f, err := os.OpenFile(p.incoming(r), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody else has stored or discarded it
		}
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close(), syncFolder(filepath.Join(p.dir, incomingFolder)))
	})
}

// A photoFile is an open file of which the size is known.
type photoFile struct {
	*os.File
	size int64
}

// Size implements inspections.File.
func (f photoFile) Size() int64 { return f.size }

// openFile opens a file; one that is not there gives missing.
func (p *photoStore) openFile(ctx context.Context, path string, missing error) (out inspections.File, err error) {
	err = p.onFiles(ctx, func() error {
		f, err := openFile(path)
		if errors.Is(err, fs.ErrNotExist) {
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

// Partial implements inspections.Photos.
func (p *photoStore) Partial(ctx context.Context, r inspections.PhotoRef) (inspections.File, error) {
	return p.openFile(ctx, p.incoming(r), fmt.Errorf("%s: %w", r.SHA256, inspections.ErrPhotoMissing))
}

// Open implements inspections.Photos.
func (p *photoStore) Open(ctx context.Context, stored inspections.Digest) (inspections.File, error) {
	return p.openFile(ctx, p.path(stored), fmt.Errorf("%s: %w", stored, inspections.ErrPhotoLost))
}

// remove deletes a file that need not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Discard implements inspections.Photos.
func (p *photoStore) Discard(ctx context.Context, r inspections.PhotoRef) error {
	return p.onFiles(ctx, func() error { return remove(p.incoming(r)) })
}

// Partials implements inspections.Photos. A file whose name is none of ours is
// passed over.
func (p *photoStore) Partials(ctx context.Context, each func(inspections.PhotoRef, int64, time.Time) error) error {
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
		r := inspections.PhotoRef{CheckInRef: inspections.CheckInRef{Site: sites.SiteID(site), CheckIn: inspections.CheckInID(checkIn)}}
		if r.SHA256, err = inspections.ParseDigest(sum); err != nil {
			continue
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fileError(err)
		}
		if err := each(r, info.Size(), info.ModTime()); err != nil {
			return err
		}
	}
	return nil
}

const (
	pictureFirst = `SELECT site, check_in FROM pictures WHERE sum = +?`
	pictureClaim = `INSERT INTO pictures (sum, site, check_in) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`
)

// firstUse looks for the check-in that claimed a hash.
func firstUse(conn *sqlite.Conn, sum inspections.Digest) (first inspections.CheckInRef, err error) {
	err = query(conn, pictureFirst, 1, func(stmt *sqlite.Stmt) { stmt.BindBytes(1, sum[:]) }, func(stmt *sqlite.Stmt) {
		first = inspections.CheckInRef{Site: sites.SiteID(stmt.ColumnText(0)), CheckIn: inspections.CheckInID(stmt.ColumnText(1))}
	})
	return first, err
}

// claim notes who uses a hash, unless somebody did before.
func (w *writer) claim(sum inspections.Digest, by inspections.CheckInRef) error {
	return w.bound(pictureClaim, func(stmt *sqlite.Stmt) {
		stmt.BindBytes(1, sum[:])
		stmt.BindText(2, string(by.Site))
		stmt.BindText(3, string(by.CheckIn))
	})
}

// lookClaims looks for the check-ins that claimed hashes.
func lookClaims(conn *sqlite.Conn, sums []inspections.Digest) (out []inspections.CheckInRef, err error) {
	out = make([]inspections.CheckInRef, len(sums))
	for i, sum := range sums {
		if out[i], err = firstUse(conn, sum); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Claimed implements inspections.Photos.
func (p *photoStore) Claimed(ctx context.Context, sums []inspections.Digest) (out []inspections.CheckInRef, err error) {
	err = p.read(ctx, func(conn *sqlite.Conn) error {
		out, err = lookClaims(conn, sums)
		return err
	})
	return out, err
}

// Claim implements inspections.Photos.
func (p *photoStore) Claim(ctx context.Context, sums []inspections.Digest, by inspections.CheckInRef) ([]inspections.CheckInRef, error) {
	// What is claimed already needs no flush of the disk.
	out, err := p.Claimed(ctx, sums)
	if err != nil || !slices.Contains(out, inspections.CheckInRef{}) {
		return out, err
	}
	err = p.write(ctx, func(w *writer) error {
		for _, sum := range sums {
			if err := w.claim(sum, by); err != nil {
				return err
			}
		}
		out, err = lookClaims(w.conn, sums)
		return err
	})
	return out, err
}

const (
	photoColumns  = `site, check_in, sum, stored, size, content_type, closure_order, purged`
	photosOf      = `SELECT ` + photoColumns + ` FROM photos WHERE site = +? AND check_in = +?`
	photosUnder   = `SELECT ` + photoColumns + ` FROM photos WHERE closure_order = +?1 AND purged = 0 AND (site, check_in, sum) > (?2, ?3, ?4) ORDER BY site, check_in, sum`
	photosFrom    = `SELECT ` + photoColumns + ` FROM photos WHERE (site, check_in, sum) > (?1, ?2, ?3) ORDER BY site, check_in, sum`
	photosStored  = `SELECT 1 FROM photos WHERE stored = +? AND purged = 0`
	photoKeep     = `INSERT INTO photos (` + photoColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING`
	photoPurge    = `INSERT INTO photos (` + photoColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET purged = 1`
	photosPerPage = 1000
)

// readPhoto reads photoColumns.
func readPhoto(stmt *sqlite.Stmt) (k inspections.KeptPhoto) {
	k.Site, k.CheckIn = sites.SiteID(stmt.ColumnText(0)), inspections.CheckInID(stmt.ColumnText(1))
	stmt.ColumnBytes(2, k.SHA256[:])
	stmt.ColumnBytes(3, k.Stored[:])
	k.Size, k.ContentType, k.Order = stmt.ColumnInt64(4), stmt.ColumnText(5), sites.OrderID(stmt.ColumnText(6))
	k.Purged = stmt.ColumnInt(7) != 0
	return k
}

// bindPlace binds a photo's place from the parameter on.
func bindPlace(stmt *sqlite.Stmt, from int, r inspections.PhotoRef) {
	stmt.BindText(from, string(r.Site))
	stmt.BindText(from+1, string(r.CheckIn))
	stmt.BindBytes(from+2, r.SHA256[:])
}

// note writes a photo's row.
func (w *writer) note(sql string, k inspections.KeptPhoto) error {
	return w.bound(sql, func(stmt *sqlite.Stmt) {
		bindPlace(stmt, 1, k.PhotoRef)
		stmt.BindBytes(4, k.Stored[:])
		stmt.BindInt64(5, k.Size)
		stmt.BindText(6, k.ContentType)
		stmt.BindText(7, string(k.Order))
	})
}

// list returns up to n photos of a query.
func (p *photoStore) list(ctx context.Context, sql string, n int, bind func(*sqlite.Stmt)) (out []inspections.KeptPhoto, err error) {
	err = p.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, sql, n, bind, func(stmt *sqlite.Stmt) { out = append(out, readPhoto(stmt)) })
	})
	return out, err
}

// KeptOf implements inspections.Photos.
func (p *photoStore) KeptOf(ctx context.Context, of []inspections.CheckInRef) (out []inspections.KeptPhoto, err error) {
	err = p.read(ctx, func(conn *sqlite.Conn) error {
		for _, c := range of {
			err := query(conn, photosOf, math.MaxInt, func(stmt *sqlite.Stmt) {
				stmt.BindText(1, string(c.Site))
				stmt.BindText(2, string(c.CheckIn))
			}, func(stmt *sqlite.Stmt) { out = append(out, readPhoto(stmt)) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// KeptUnder implements inspections.Photos.
func (p *photoStore) KeptUnder(ctx context.Context, order sites.OrderID, after inspections.PhotoRef, n int) ([]inspections.KeptPhoto, error) {
	return p.list(ctx, photosUnder, n, func(stmt *sqlite.Stmt) {
		stmt.BindText(1, string(order))
		bindPlace(stmt, 2, after)
	})
}

// Kept implements inspections.Photos.
func (p *photoStore) Kept(ctx context.Context, each func(inspections.KeptPhoto) error) error {
	var after inspections.PhotoRef
	for {
		page, err := p.list(ctx, photosFrom, photosPerPage, func(stmt *sqlite.Stmt) { bindPlace(stmt, 1, after) })
		if err != nil || len(page) == 0 {
			return err
		}
		for _, k := range page {
			if !k.Purged {
				if err := each(k); err != nil {
					return err
				}
			}
			after = k.PhotoRef
		}
	}
}

// Keep implements inspections.Photos.
func (p *photoStore) Keep(ctx context.Context, k inspections.KeptPhoto, content io.WriterTo) error {
	defer p.storing.Lock(k.Stored)()
	known, err := p.KeptOf(ctx, []inspections.CheckInRef{k.CheckInRef})
	if err != nil {
		return err
	}
	for _, other := range known {
		if other.PhotoRef == k.PhotoRef {
			return nil
		}
	}
	err = p.onFiles(ctx, func() error {
		if whole, err := p.isWhole(k.Stored); err != nil || whole {
			return err
		}
		return p.store(k.Stored, content)
	})
	if err != nil {
		return err
	}
	return p.write(ctx, func(w *writer) error {
		return cmp.Or(w.note(photoKeep, k), w.claim(k.Stored, k.CheckInRef))
	})
}

// isWhole reports whether the file is there and what its name says, and makes that
// survive a power cut: a crash may have come between its name and its folder's
// flush. One that somebody has altered is written anew.
func (p *photoStore) isWhole(stored inspections.Digest) (whole bool, err error) {
	f, err := openFile(p.path(stored))
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
	if !bytes.Equal(sum.Sum(nil), stored[:]) {
		return false, nil
	}
	return true, p.syncPath(stored)
}

// syncPath makes a file's name, and those of its folders, survive a power cut.
func (p *photoStore) syncPath(stored inspections.Digest) error {
	folder := filepath.Dir(p.path(stored))
	return errors.Join(syncFolder(folder), syncFolder(filepath.Dir(folder)), syncFolder(p.dir))
}

// store writes a file so that, whenever it ends, it is there whole or not at all.
func (p *photoStore) store(stored inspections.Digest, content io.WriterTo) (err error) {
	f, err := os.CreateTemp(filepath.Join(p.dir, newFolder), "")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close() // which may have been done
			err = errors.Join(err, remove(f.Name()))
		}
	}()
	if _, err := content.WriteTo(f); err != nil {
		return err
	}
	// Windows gives no other name to a file that is open.
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	path := p.path(stored)
	folder := filepath.Dir(path)
	if known := &p.folders[int(stored[0])<<8|int(stored[1])]; !known.Load() {
		if err := makeFolder(filepath.Dir(folder)); err != nil {
			return err
		}
		if err := makeFolder(folder); err != nil {
			return err
		}
		known.Store(true)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err := syncFolder(folder); err != nil {
		// It may not survive. Whoever comes next must not find it there.
		return errors.Join(err, remove(path))
	}
	return nil
}

// makeFolder makes a folder that survives a power cut, where there is none.
func makeFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Also one that was there may be new, and not yet flushed by who made it.
	return syncFolder(filepath.Dir(path))
}

// Purge implements inspections.Photos.
func (p *photoStore) Purge(ctx context.Context, k inspections.KeptPhoto) error {
	defer p.storing.Lock(k.Stored)()
	// The row first: a file that no photo has is found by Tidy.
	if err := p.write(ctx, func(w *writer) error { return w.note(photoPurge, k) }); err != nil {
		return err
	}
	used, err := p.used(ctx, k.Stored)
	if err != nil || used {
		return err
	}
	return p.onFiles(ctx, func() error {
		path := p.path(k.Stored)
		err := remove(path)
		if err == nil {
			err = syncFolder(filepath.Dir(path))
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// used reports whether a photo has the file.
func (p *photoStore) used(ctx context.Context, stored inspections.Digest) (used bool, err error) {
	err = p.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, photosStored, 1, func(stmt *sqlite.Stmt) { stmt.BindBytes(1, stored[:]) }, func(*sqlite.Stmt) { used = true })
	})
	return used, err
}

// Tidy implements inspections.Photos.
func (p *photoStore) Tidy(ctx context.Context) (removed int, err error) {
	err = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir():
			if d.Name() == newFolder || d.Name() == incomingFolder {
				return fs.SkipDir
			}
			return nil
		}
		stored, err := inspections.ParseDigest(d.Name())
		if err != nil || p.path(stored) != path {
			return nil // not ours
		}
		defer p.storing.Lock(stored)()
		used, err := p.used(ctx, stored)
		if err != nil || used {
			return err
		}
		removed++
		return remove(path)
	})
	return removed, fileError(err)
}
