package engine

import (
	"errors"
	"os"
	"syscall"
)

// Allocate gives an empty file so many bytes that it really has on the disk.
func Allocate(f *os.File, size int64) error {
	err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, errors.ErrUnsupported) {
		return fill(f, size)
	}
	return err
}
