package testdisk

import (
	"fmt"
	"syscall"
	"testing"
)

// mount mounts a file system with so many bytes on the folder until the test ends, and
// reports whether that is allowed here.
func mount(t testing.TB, dir string, size int64) bool {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Logf("no file system can be mounted here: %v", err)
		return false
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return true
}
