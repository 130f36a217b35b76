package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"sync/atomic"

	"zombiezen.com/go/sqlite"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/server/internal/engine"
	"xuncha/sites"
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
func (s *Store) Photos() photos.Store { return s.photos }

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

// Claimed implements inspections.Claims.
func (p *photoStore) Claimed(ctx context.Context, sums []inspections.Digest) (out []inspections.CheckInRef, err error) {
	err = p.read(ctx, func(conn *sqlite.Conn) error {
		out, err = lookClaims(conn, sums)
		return err
	})
	return out, err
}

// Claim implements inspections.Claims.
func (p *photoStore) Claim(ctx context.Context, sums []inspections.Digest, by inspections.CheckInRef) error {
	// What is claimed already needs no flush of the disk.
	firsts, err := p.Claimed(ctx, sums)
	if err != nil || !slices.Contains(firsts, inspections.CheckInRef{}) {
		return err
	}
	return p.write(ctx, func(w *writer) error {
		for _, sum := range sums {
			if err := w.claim(sum, by); err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	photoColumns = `site, check_in, sum, stored, size, content_type, closure_order, purged`
	photosOf     = `SELECT ` + photoColumns + ` FROM photos WHERE site = +? AND check_in = +?`
	photosUnder  = `SELECT ` + photoColumns + ` FROM photos WHERE closure_order = +?1 AND purged = 0 AND (site, check_in, sum) > (?2, ?3, ?4) ORDER BY site, check_in, sum`
	photosAfter  = `SELECT ` + photoColumns + ` FROM photos WHERE purged = 0 AND (site, check_in, sum) > (?1, ?2, ?3) ORDER BY site, check_in, sum`
	photosStored = `SELECT 1 FROM photos WHERE stored = +? AND purged = 0`
	photosPurged = `SELECT 1 FROM photos WHERE stored = +? AND purged = 1`
	photoKeep    = `INSERT INTO photos (` + photoColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING`
	photoPurge   = `INSERT INTO photos (` + photoColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET purged = 1`
)

// readPhoto reads photoColumns.
func readPhoto(stmt *sqlite.Stmt) (k photos.Kept) {
	k.Site, k.CheckIn = sites.SiteID(stmt.ColumnText(0)), inspections.CheckInID(stmt.ColumnText(1))
	stmt.ColumnBytes(2, k.SHA256[:])
	stmt.ColumnBytes(3, k.Stored[:])
	k.Size, k.ContentType, k.Order = stmt.ColumnInt64(4), stmt.ColumnText(5), sites.OrderID(stmt.ColumnText(6))
	k.Purged = stmt.ColumnInt(7) != 0
	return k
}

// bindRef binds what names a photo from the parameter on.
func bindRef(stmt *sqlite.Stmt, from int, r photos.Ref) {
	stmt.BindText(from, string(r.Site))
	stmt.BindText(from+1, string(r.CheckIn))
	stmt.BindBytes(from+2, r.SHA256[:])
}

// note writes a photo's row.
func (w *writer) note(sql string, k photos.Kept) error {
	return w.bound(sql, func(stmt *sqlite.Stmt) {
		bindRef(stmt, 1, k.Ref)
		stmt.BindBytes(4, k.Stored[:])
		stmt.BindInt64(5, k.Size)
		stmt.BindText(6, k.ContentType)
		stmt.BindText(7, string(k.Order))
	})
}

// list returns up to n photos of a query.
func (p *photoStore) list(ctx context.Context, sql string, n int, bind func(*sqlite.Stmt)) (out []photos.Kept, err error) {
	err = p.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, sql, n, bind, func(stmt *sqlite.Stmt) { out = append(out, readPhoto(stmt)) })
	})
	return out, err
}

// KeptOf implements photos.Store.
func (p *photoStore) KeptOf(ctx context.Context, of []inspections.CheckInRef) (out []photos.Kept, err error) {
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

// Kept implements photos.Store.
func (p *photoStore) Kept(ctx context.Context, order sites.OrderID, after photos.Ref, n int) ([]photos.Kept, error) {
	if order == "" {
		return p.list(ctx, photosAfter, n, func(stmt *sqlite.Stmt) { bindRef(stmt, 1, after) })
	}
	return p.list(ctx, photosUnder, n, func(stmt *sqlite.Stmt) {
		stmt.BindText(1, string(order))
		bindRef(stmt, 2, after)
	})
}

// kept returns the photo as it is kept, purged or not, or nil.
func (p *photoStore) kept(ctx context.Context, r photos.Ref) (*photos.Kept, error) {
	list, err := p.KeptOf(ctx, []inspections.CheckInRef{r.CheckInRef})
	if i := slices.IndexFunc(list, func(k photos.Kept) bool { return k.Ref == r }); err == nil && i >= 0 {
		return &list[i], nil
	}
	return nil, err
}

// Keep implements photos.Store.
func (p *photoStore) Keep(ctx context.Context, k photos.Kept, content io.WriterTo) (photos.Kept, error) {
	return p.keep(ctx, k, func() (newFile, error) { return p.writeNew(content) })
}

// KeepReceived implements photos.ReceivedKeeper.
func (p *photoStore) KeepReceived(ctx context.Context, k photos.Kept) (photos.Kept, error) {
	return p.keep(ctx, k, func() (newFile, error) { return p.linkNew(k.Ref) })
}

// keep keeps the photo with the file that write makes. The file is there before
// anybody knows its name, which is its hash.
func (p *photoStore) keep(ctx context.Context, k photos.Kept, write func() (newFile, error)) (photos.Kept, error) {
	known, err := p.kept(ctx, k.Ref)
	if err != nil {
		return photos.Kept{}, err
	}
	if known != nil {
		return *known, nil
	}
	var file newFile
	err = p.onWrites(ctx, func() (err error) {
		if file, err = write(); err != nil {
			return err
		}
		// The photo is only put on record once it is kept. Where that is interrupted, what
		// has come tells that it is still to be done. Behind the flush of the file, most
		// file systems have nothing left to do here.
		err = engine.SyncFolder(filepath.Join(p.dir, incomingFolder))
		if err != nil {
			err = errors.Join(err, engine.Remove(file.path))
		}
		return err
	})
	if err != nil {
		return photos.Kept{}, err
	}
	k.Stored, k.Size, k.Purged = file.sum, file.size, false
	unlock, err := p.storing.Lock(ctx, k.Stored)
	if err != nil {
		return photos.Kept{}, errors.Join(err, engine.Remove(file.path))
	}
	defer unlock()
	if err := p.onWrites(ctx, func() error { return p.place(file) }); err != nil {
		// Also where the caller has left and nothing was tried.
		return photos.Kept{}, errors.Join(err, engine.Remove(file.path))
	}
	err = p.write(ctx, func(w *writer) error {
		if err := w.note(photoKeep, k); err != nil {
			return err
		}
		return w.claim(k.Stored, k.CheckInRef)
	})
	if err != nil {
		return photos.Kept{}, err
	}
	// Somebody may have kept or purged it meanwhile.
	known, err = p.kept(ctx, k.Ref)
	if err == nil && known == nil {
		err = fmt.Errorf("the photo %s is gone as soon as it was kept", k.SHA256)
	}
	if err != nil {
		return photos.Kept{}, err
	}
	return *known, nil
}

// Purge implements photos.Store.
func (p *photoStore) Purge(ctx context.Context, k photos.Kept) error {
	unlock, err := p.storing.Lock(ctx, k.Stored)
	if err != nil {
		return err
	}
	defer unlock()
	// The row first: a file that no photo has is found by Tidy.
	if err := p.write(ctx, func(w *writer) error { return w.note(photoPurge, k) }); err != nil {
		return err
	}
	used, err := p.used(ctx, k.Stored)
	if err != nil || used {
		return err
	}
	return p.onFiles(ctx, func() error {
		paths, err := p.asides(k.Stored)
		if err != nil {
			return err
		}
		for _, path := range append(paths, p.path(k.Stored)) {
			if err := removeFlushed(path); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeFlushed deletes a file and returns once a power cut does not bring it back. That
// it is not there is no error.
func removeFlushed(path string) error {
	err := engine.Remove(path)
	if err == nil {
		err = engine.SyncFolder(filepath.Dir(path))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// used reports whether a photo has the file.
func (p *photoStore) used(ctx context.Context, stored inspections.Digest) (used bool, err error) {
	return p.any(ctx, photosStored, stored)
}

// any reports whether the query finds a photo with the file.
func (p *photoStore) any(ctx context.Context, sql string, stored inspections.Digest) (found bool, err error) {
	err = p.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, sql, 1, func(stmt *sqlite.Stmt) { stmt.BindBytes(1, stored[:]) }, func(*sqlite.Stmt) { found = true })
	})
	return found, err
}

// Tidy implements photos.Store. What a crash left of files that were being written is
// removed when the folder is opened; here the files go of photos that were purged.
func (p *photoStore) Tidy(ctx context.Context) (removed int, err error) {
	finish := func(stored inspections.Digest, path string) error {
		unlock, err := p.storing.Lock(ctx, stored)
		if err != nil {
			return err
		}
		defer unlock()
		used, err := p.used(ctx, stored)
		if err != nil || used {
			return err
		}
		purged, err := p.any(ctx, photosPurged, stored)
		if err != nil || !purged {
			return err
		}
		removed++
		return removeFlushed(path)
	}
	err = p.eachStored(finish)
	if err == nil {
		err = p.eachAside(func(_ photos.Day, stored inspections.Digest, path string) error { return finish(stored, path) })
	}
	return removed, engine.FileError(err)
}
