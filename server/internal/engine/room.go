package engine

import (
	"crypto/rand"
	"io"
	"os"
)

// fill writes to an empty file until it has so many bytes. They are random, so that no
// file system stores them in less room.
func fill(f *os.File, size int64) error {
	chunk := make([]byte, 1<<20)
	if _, err := io.ReadFull(rand.Reader, chunk); err != nil {
		return err
	}
	for at := int64(0); at < size; at += int64(len(chunk)) {
		if _, err := f.WriteAt(chunk[:min(int64(len(chunk)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}
