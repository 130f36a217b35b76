//go:build !linux

package sqlitestore

import "testing"

// mountSmall mounts a file system on Linux alone.
func mountSmall(testing.TB, string, int64) bool { return false }
