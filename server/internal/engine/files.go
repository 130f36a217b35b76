package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"xuncha/ledger"
)

// FileError gives the operating system's errors the meaning that callers know.
func FileError(err error) error {
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case slices.ContainsFunc(fullErrors, is):
		return fmt.Errorf("%w: %w", ledger.ErrFull, err)
	case slices.ContainsFunc(unavailableErrors, is):
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

// Remove deletes a file. One that is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
