package table

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// The limits of a file that its reader may want to know.
const (
	// MaxBytes is the size of a file.
	MaxBytes = 256 << 20
	// MaxRows is the number of rows below the header.
	MaxRows = 1_000_000
	// MaxColumns is how many columns a row can have.
	MaxColumns = 256
	// MaxCellBytes is the length of a cell's text in UTF-8.
	MaxCellBytes = 4096
	// MaxProblems is how many problems are listed.
	MaxProblems = 100
)

// limits bound what reading a file takes, whatever the file says. A small file can unpack
// to gigabytes, and one record of a large one can have more cells than there is memory.
type limits struct {
	// text is how many bytes the cells of all rows have together.
	text int64
	// line is how many bytes a row of a CSV file has, and separators how many of them are
	// separators: a spreadsheet program has 16,384 columns.
	line, separators int

	// Of an XLSX file, which is a ZIP archive of XML: directory is how many bytes its
	// list of parts has; about 100 a part are usual.
	directory int64
	// unpacked is how many bytes of its parts are read, and ratio how many times its
	// size, beyond the first freely. A sheet of a million rows has 400 MB, and unpacks to
	// 10 to 50 times its size.
	unpacked, freely int64
	ratio            int64
	// token is how many bytes a tag or a text has, and depth how many elements are open
	// at once.
	token, depth int
	// cells is how many elements "c" are read, also empty ones. A million rows of 16
	// columns have as many.
	cells int
	// sheetRow is the number of a sheet's last row.
	sheetRow int
	// shared is how many shared texts there are, and sharedText how many bytes they have.
	// Each cell that is a text can have its own.
	shared, sharedText int
	// names is how many sheets, relationships, number formats and styles there are each.
	names int
}

var usual = limits{
	text: 256 << 20, line: 1 << 20, separators: 16_384,
	directory: 1 << 20, unpacked: 1 << 30, freely: 64 << 20, ratio: 200,
	token: 1 << 20, depth: 100, cells: 16_000_000, sheetRow: 1 << 20,
	shared: 8_000_000, sharedText: 128 << 20, names: 100_000,
}

// A limitError says which limit a file has passed, and the way out.
type limitError struct{ text string }

func (e *limitError) Error() string { return e.text }

func beyond(format string, args ...any) error { return &limitError{fmt.Sprintf(format, args...)} }

// size writes a number of bytes as people do.
func size(n int64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// asCSV is the way out where an XLSX file is too large or too odd.
const asCSV = "; save the table as .csv"

// asSeveral is the way out where a table is too large.
const asSeveral = "; split the table"

// stopped is a reader that ends with its context. Every parser here reads through one,
// a piece at a time, so none goes on for longer than a piece takes.
type stopped struct {
	ctx context.Context
	r   io.Reader
}

func (s stopped) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p[:min(len(p), 64<<10)])
}

// A callerError is an error of whoever takes the rows, which is no fault of the file.
type callerError struct{ error }

func (e *callerError) Unwrap() error { return e.error }

// isStop reports whether reading ended because its context did.
func isStop(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
