//go:build !windows

package engine

import (
	"io/fs"
	"math"
	"syscall"
)

// Available returns how many bytes the disk of a folder has left for this process.
func Available(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	blocks, size := uint64(s.Bavail), uint64(s.Bsize)
	if size > 0 && blocks > math.MaxInt64/size {
		return math.MaxInt64, nil
	}
	return int64(blocks * size), nil
}

// OnDisk returns how many bytes a file really has on the disk, which are fewer than its
// size where it has holes.
func OnDisk(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return info.Size()
}
