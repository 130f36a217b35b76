package engine

import (
	"io/fs"
	"math"

	"golang.org/x/sys/windows"
)

// Available returns how many bytes the disk of a folder has left for this process.
func Available(dir string) (int64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(min(free, math.MaxInt64)), nil
}

// OnDisk returns how many bytes a file has on the disk. Files have no holes here unless
// somebody asks for them.
func OnDisk(info fs.FileInfo) int64 { return info.Size() }
