//go:build !windows

package engine

import (
	"errors"
	"os"
	"syscall"
)

// TryLock locks the file by flock(2), which Linux, macOS and the BSDs have.
// It reports false where another process has it.
func TryLock(f *os.File) (taken bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// SyncFolder makes the names in a folder survive a power cut.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenFile opens a file for reading.
func OpenFile(path string) (*os.File, error) { return os.Open(path) }

// What the system says where a disk is full. EFBIG is said where a file may grow no
// further.
var fullErrors = []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG}
