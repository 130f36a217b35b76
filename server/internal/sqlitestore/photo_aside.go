package sqlitestore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/server/internal/engine"
)

// SetAside implements photos.Store. A file has its name in the folder of the day before it
// loses the one at its place, so that a power cut leaves it at one of them, or at both.
func (p *photoStore) SetAside(ctx context.Context, today photos.Day, drop func(inspections.Digest, photos.Day) (bool, error)) (a photos.Aside, err error) {
	a.Where = filepath.Join(p.dir, unknownFolder, string(today))
	errStray := p.eachStored(func(stored inspections.Digest, path string) error {
		unlock, err := p.storing.Lock(ctx, stored)
		if err != nil {
			return err
		}
		defer unlock()
		used, err := p.used(ctx, stored)
		if err != nil || used {
			return err
		}
		a.Unknown++
		return p.setAside(stored, today)
	})
	errAside := p.eachAside(func(day photos.Day, stored inspections.Digest, path string) error {
		unlock, err := p.storing.Lock(ctx, stored)
		if err != nil {
			return err
		}
		defer unlock()
		used, err := p.used(ctx, stored)
		if err != nil {
			return err
		}
		if used {
			back, err := p.putBackFrom(path, stored)
			if back {
				a.Back++
			}
			return err
		}
		gone, err := drop(stored, day)
		if err != nil || !gone {
			return err
		}
		a.Dropped++
		return removeFlushed(path)
	})
	return a, engine.FileError(errors.Join(errStray, errAside))
}

// eachStored calls f with each file at the place that its name says, until f fails.
func (p *photoStore) eachStored(f func(stored inspections.Digest, path string) error) error {
	return filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir():
			if name := d.Name(); name == newFolder || name == incomingFolder || name == unknownFolder {
				return fs.SkipDir
			}
			return nil
		}
		stored, err := inspections.ParseDigest(d.Name())
		if err != nil || p.path(stored) != path {
			return nil // not ours
		}
		return f(stored, path)
	})
}

// asideDays returns the days on which files were set aside. Folders with other names are
// not ours.
func (p *photoStore) asideDays() (out []photos.Day, err error) {
	list, err := os.ReadDir(filepath.Join(p.dir, unknownFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, d := range list {
		if day, err := photos.ParseDay(d.Name()); err == nil && d.IsDir() {
			out = append(out, day)
		}
	}
	return out, err
}

// aside is where a file lies that was set aside on the day.
func (p *photoStore) aside(day photos.Day, stored inspections.Digest) string {
	return filepath.Join(p.dir, unknownFolder, string(day), stored.String())
}

// eachAside calls f with each file that was set aside, until f fails. A day's folder that
// is empty then goes.
func (p *photoStore) eachAside(f func(day photos.Day, stored inspections.Digest, path string) error) error {
	days, err := p.asideDays()
	if err != nil {
		return err
	}
	for _, day := range days {
		folder := filepath.Join(p.dir, unknownFolder, string(day))
		list, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		left := len(list)
		for _, d := range list {
			stored, err := inspections.ParseDigest(d.Name())
			if err != nil {
				continue // not ours
			}
			path := p.aside(day, stored)
			if err := f(day, stored, path); err != nil {
				return err
			}
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
				left--
			}
		}
		if left == 0 {
			// One that came meanwhile keeps it.
			_ = os.Remove(folder)
		}
	}
	return nil
}

// asides returns the paths at which the file may lie that was set aside.
func (p *photoStore) asides(stored inspections.Digest) (out []string, err error) {
	days, err := p.asideDays()
	for _, day := range days {
		path := p.aside(day, stored)
		if _, err := os.Lstat(path); err == nil {
			out = append(out, path)
		}
	}
	return out, err
}

// setAside sets a file aside. It needs the lock of its hash.
func (p *photoStore) setAside(stored inspections.Digest, today photos.Day) error {
	to := p.aside(today, stored)
	for _, folder := range []string{filepath.Dir(filepath.Dir(to)), filepath.Dir(to)} {
		if err := engine.MakeFolder(folder); err != nil {
			return err
		}
	}
	whole, err := isWhole(to, stored)
	if err != nil {
		return err
	}
	if whole {
		// The same file was set aside before, or a power cut has come just then.
		return errors.Join(engine.SyncFolder(filepath.Dir(to)), engine.Remove(p.path(stored)))
	}
	return engine.Move(p.path(stored), to)
}

// putBack puts the file back to its place if it was set aside, and returns where it is
// to be read. On a disk that is full, or in a folder that is only read, that is where it was
// set aside.
func (p *photoStore) putBack(ctx context.Context, stored inspections.Digest) (path string, err error) {
	unlock, err := p.storing.Lock(ctx, stored)
	if err != nil {
		return "", err
	}
	defer unlock()
	paths, err := p.asides(stored)
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		back, err := p.putBackFrom(path, stored)
		if back {
			break
		}
		if err != nil {
			if whole, errRead := isWhole(path, stored); errRead != nil || !whole {
				return "", err
			}
			return path, nil
		}
	}
	return p.path(stored), nil
}

// putBackFrom puts the file back to its place from the path, and reports whether it has.
// One that is not whole stays: it is no help. One that is whole at its place too goes. It
// needs the lock of its hash.
func (p *photoStore) putBackFrom(path string, stored inspections.Digest) (bool, error) {
	if p.release != nil {
		return false, errAtRest
	}
	whole, err := isWhole(p.path(stored), stored)
	if err != nil {
		return false, err
	}
	if whole {
		return false, errors.Join(p.syncPath(stored), engine.Remove(path))
	}
	if whole, err := isWhole(path, stored); err != nil || !whole {
		return false, err
	}
	if err := p.makeFolders(stored); err != nil {
		return false, err
	}
	err = engine.Move(path, p.path(stored))
	return err == nil, err
}
