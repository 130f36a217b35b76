//go:build !linux

package engine

import "os"

// Allocate gives an empty file so many bytes that it really has on the disk.
func Allocate(f *os.File, size int64) error { return fill(f, size) }
