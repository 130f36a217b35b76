package engine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"xuncha/ledger"
)

// FileError gives the operating system's errors the meaning that callers know. Whatever
// the system says of a file is a fault of the disk, or of somebody who is at work on it:
// what should be answered otherwise, such as that a file is not there, callers of this
// have to look for before.
func FileError(err error) error {
	var code syscall.Errno
	switch {
	case err == nil, errors.Is(err, ledger.ErrFull), errors.Is(err, ledger.ErrUnavailable):
		return err
	case slices.ContainsFunc(fullErrors, func(full error) bool { return errors.Is(err, full) }):
		return fmt.Errorf("%w: %w", ledger.ErrFull, err)
	case errors.As(err, &code), errors.Is(err, fs.ErrClosed), errors.Is(err, io.ErrShortWrite):
		return fmt.Errorf("%w: %w", ledger.ErrUnavailable, err)
	}
	return err
}

// MakeFolder makes a folder, readable by its owner alone, that survives a power cut.
// One that is there is no error.
func MakeFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Also one that was there may be new, and not yet flushed by who made it.
	return SyncFolder(filepath.Dir(path))
}

// Place gives a file that was written and closed its path, and returns once it
// survives a power cut there. Where that fails, it is not at the path.
func Place(file, path string) error {
	if err := os.Rename(file, path); err != nil {
		return err
	}
	if err := SyncFolder(filepath.Dir(path)); err != nil {
		// It may not survive. Whoever comes next must not find it there.
		return errors.Join(err, Remove(path))
	}
	return nil
}

// Move gives a file another path, and returns once it survives a power cut there. After
// an error or a power cut it is at either path, or at both. What else is at the path
// gives way.
//
// The file has both names until the new one is flushed. A rename alone changes two
// folders, and a power cut may keep what became of the old one and lose the new one.
func Move(file, path string) error {
	err := os.Link(file, path)
	if errors.Is(err, fs.ErrExist) && !sameFile(file, path) {
		if err := os.Remove(path); err != nil {
			return err
		}
		err = os.Link(file, path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// Not every file system has links.
		return errors.Join(os.Rename(file, path), SyncFolder(filepath.Dir(path)))
	}
	if err := SyncFolder(filepath.Dir(path)); err != nil {
		return err
	}
	return Remove(file)
}

// sameFile reports whether both paths are names of one file.
func sameFile(a, b string) bool {
	first, errFirst := os.Lstat(a)
	second, errSecond := os.Lstat(b)
	return errFirst == nil && errSecond == nil && os.SameFile(first, second)
}

// Remove deletes a file. One that is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
