// Package testdisk gives tests a small disk of their own, which they can fill.
package testdisk

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A Disk is a folder on a disk of its own, where that is allowed.
type Disk struct {
	// Dir is the folder, to which a test may write.
	Dir string
	// Mounted tells that the folder is on a disk of its own. Otherwise Fill and Free do
	// nothing, and the test has to simulate them.
	Mounted bool
}

// New mounts a file system with so many bytes, until the test ends.
func New(t testing.TB, size int64) *Disk {
	t.Helper()
	dir := t.TempDir()
	return &Disk{Dir: dir, Mounted: mount(t, dir, size)}
}

func (d *Disk) filler() string { return filepath.Join(d.Dir, "filler") }

// Fill leaves no room.
func (d *Disk) Fill(t testing.TB) {
	t.Helper()
	if !d.Mounted {
		return
	}
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, part := range []int{1 << 20, 4096, 1} {
		for err == nil {
			_, err = f.Write(make([]byte, part))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}

// Free takes back what Fill has done.
func (d *Disk) Free(t testing.TB) {
	t.Helper()
	if !d.Mounted {
		return
	}
	if err := os.Remove(d.filler()); err != nil {
		t.Fatal(err)
	}
}
