package table

import (
	"context"
	"errors"
	"io"
	"os"
)

// Open opens a table's file for Read; shut closes it. Of a pipe, which cannot be read twice,
// it reads what comes into a file of its own first, until the context ends.
func Open(ctx context.Context, name string) (file *io.SectionReader, shut func(), err error) {
	type opened struct {
		file *os.File
		size int64
		err  error
	}
	result := make(chan opened, 1) // to open a pipe waits until somebody writes to it
	go func() {
		f, size, err := openWhole(name)
		result <- opened{f, size, err}
	}()
	select {
	case o := <-result:
		if o.err != nil {
			return nil, nil, o.err
		}
		return io.NewSectionReader(o.file, 0, o.size), func() { o.file.Close() }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// openWhole opens a file of which any part can be read, and returns its size.
func openWhole(name string) (file *os.File, size int64, err error) {
	file, err = os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil || info.Mode().IsRegular() {
		if err != nil {
			return nil, 0, errors.Join(err, file.Close())
		}
		return file, info.Size(), nil
	}
	defer file.Close()
	whole, err := os.CreateTemp("", "xuncha-import-*")
	if err != nil {
		return nil, 0, err
	}
	// Nobody else finds it from here on. Where a file in use cannot be removed, as on
	// Windows, there are no such pipes.
	if err := os.Remove(whole.Name()); err != nil {
		return nil, 0, errors.Join(err, whole.Close())
	}
	size, err = io.Copy(whole, io.LimitReader(file, MaxBytes+1))
	if err != nil {
		return nil, 0, errors.Join(err, whole.Close())
	}
	return whole, size, nil
}
