// Package table reads the sheets that administrators hand in, CSV or XLSX, as
// text: what a cell means is for others to say.
//
// The form is told by the content, not by the name. CSV may be in UTF-8, with
// or without a byte-order mark, in UTF-16 with one, or in GB18030, as
// spreadsheet programs in China write it; its separator is the comma, the
// semicolon or the tab, whichever the header has most of.
package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Row is one row below the header.
type Row struct {
	// Number is the row's number as a spreadsheet program shows it: the header
	// is row 1. Of a CSV file it is the line on which the row begins.
	Number int
	// Cells are in the order of the columns asked for, without white space
	// around them; empty where the file has no such column.
	Cells []string
}

// A Problem is something wrong with the file itself.
type Problem struct {
	// Row is its row; 0 where the file as a whole is wrong.
	Row int
	// Column is its column's name or letter; empty where a row is wrong.
	Column string
	Err    error
}

// An Error lists what is wrong with a file.
type Error struct {
	File     string
	Problems []Problem
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = e.File
		if p.Row > 0 {
			lines[i] += fmt.Sprintf(", row %d", p.Row)
		}
		if p.Column != "" {
			lines[i] += ", " + p.Column
		}
		lines[i] += ": " + p.Err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors of the problems.
func (e *Error) Unwrap() []error {
	out := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		out[i] = p.Err
	}
	return out
}

// Read reads the table in a file of the name, and calls each with every row that is not
// empty. It goes on after a problem in a row, so that all are found at once, but calls each
// no more. The error is an *Error, or that of each, or that of the context.
//
// Neither the file nor its rows are kept: reading takes a few MiB, and of an XLSX file what
// its shared texts take, at most about 160 MiB. It ends within a moment after the context
// does.
func Read(ctx context.Context, name string, file *io.SectionReader, columns []Column, each func(Row) error) error {
	return readWithin(ctx, name, file, columns, usual, each)
}

func readWithin(ctx context.Context, name string, file *io.SectionReader, columns []Column, most limits, each func(Row) error) error {
	t := &reader{ctx: ctx, file: file, most: most, columns: columns, each: each, failure: Error{File: name}}
	return t.read()
}

// read reads the file, whatever its form.
func (t *reader) read() error {
	file := t.file
	head := make([]byte, 4)
	n, err := file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	err = nil
	switch head = head[:n]; {
	case file.Size() > MaxBytes:
		t.problem(0, "", beyond("is larger than %s%s", size(MaxBytes), asSeveral))
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		err = t.readXLSX()
	case bytes.HasPrefix(head, []byte("\xD0\xCF\x11\xE0")):
		t.problem(0, "", errors.New("is a file of an old spreadsheet program; save it as .xlsx or .csv"))
	default:
		err = t.readCSV()
	}
	if err == nil && len(t.failure.Problems) == 0 {
		switch {
		case t.header == nil:
			t.problem(0, "", errors.New("is empty"))
		case t.rows == 0:
			t.problem(0, "", errors.New("has no row below its header"))
		}
	}
	if err == nil && len(t.failure.Problems) > 0 {
		err = &t.failure
	}
	return err
}

// A reader takes in records, the first of which is the header.
type reader struct {
	ctx     context.Context
	file    *io.SectionReader
	most    limits
	columns []Column
	each    func(Row) error
	header  []int // of each column of the file, the index in columns, or -1
	rows    int
	text    int64     // bytes of all cells
	book    *workbook // of an XLSX file
	failure Error
}

// from returns the file's bytes from an offset on.
func (t *reader) from(offset int64) io.Reader {
	return stopped{t.ctx, io.NewSectionReader(t.file, offset, t.file.Size()-offset)}
}

func (t *reader) problem(row int, column string, err error) {
	if len(t.failure.Problems) < MaxProblems {
		t.failure.Problems = append(t.failure.Problems, Problem{row, column, err})
	}
}

// errStop ends the reading of a file of which no more is worth reading.
var errStop = errors.New("stop")

// ended returns the error of a record, or nil where no more is worth reading.
func ended(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

var errLongCell = beyond("has a text of more than %d bytes; shorten it", MaxCellBytes)

var errColumns = beyond("has more than %d columns; see whether a line break or a quotation mark is missing", MaxColumns)

// record takes in one record of the file.
func (t *reader) record(number int, cells []string) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	last := len(cells)
	for last > 0 && clean(cells[last-1]) == "" {
		last--
	}
	if cells = cells[:last]; last == 0 {
		return nil
	}
	if len(cells) > MaxColumns {
		t.problem(number, "", errColumns)
		return errStop
	}
	if t.header == nil {
		t.readHeader(number, cells)
		if len(t.failure.Problems) > 0 {
			return errStop
		}
		return nil
	}
	if t.rows++; t.rows > MaxRows {
		t.problem(number, "", beyond("there are more than %d rows%s", MaxRows, asSeveral))
		return errStop
	}
	row := Row{Number: number, Cells: make([]string, len(t.columns))}
	for i, cell := range cells {
		cell = clean(cell)
		if len(cell) > MaxCellBytes {
			t.problem(number, letter(i), errLongCell)
			continue
		}
		if t.text += int64(len(cell)); t.text > t.most.text {
			t.problem(number, "", beyond("the table has more than %s of text%s", size(t.most.text), asSeveral))
			return errStop
		}
		switch {
		case i >= len(t.header):
			if cell != "" {
				t.problem(number, letter(i), fmt.Errorf("%q stands beyond the last column of the header", clip(cell)))
			}
		case strings.ContainsRune(cell, 0):
			t.problem(number, letter(i), errors.New("has a NUL character"))
		case t.header[i] >= 0:
			row.Cells[t.header[i]] = cell
		}
	}
	if len(t.failure.Problems) > 0 {
		return nil
	}
	return t.each(row)
}

// readHeader finds the columns.
func (t *reader) readHeader(number int, cells []string) {
	t.header = make([]int, len(cells))
	found := make([]bool, len(t.columns))
	for i, cell := range cells {
		t.header[i] = slices.IndexFunc(t.columns, func(c Column) bool {
			return same(cell, c.Name) || slices.ContainsFunc(c.Aliases, func(a string) bool { return same(cell, a) })
		})
		switch k := t.header[i]; {
		case len(cell) > MaxCellBytes:
			t.problem(number, letter(i), errLongCell)
		case k < 0:
			t.problem(number, letter(i), fmt.Errorf("%q is no column of this table; it has %s", clip(clean(cell)), t.names()))
		case found[k]:
			t.problem(number, letter(i), fmt.Errorf("%q is there twice", t.columns[k].Name))
		default:
			found[k] = true
		}
	}
	for k, c := range t.columns {
		if c.Required && !found[k] {
			t.problem(number, c.Name, fmt.Errorf("this column is missing (in Chinese: %s)", strings.Join(c.Aliases, ", ")))
		}
	}
}

func (t *reader) names() string {
	out := make([]string, len(t.columns))
	for i, c := range t.columns {
		out[i] = c.Name
	}
	return strings.Join(out, ", ")
}

// same reports whether a header means the name: case and the marks between
// words do not count.
func same(header, name string) bool {
	plain := func(s string) string {
		return strings.ToLower(strings.Map(func(r rune) rune {
			if r == ' ' || r == '_' || r == '-' {
				return -1
			}
			return r
		}, clean(s)))
	}
	return plain(header) == plain(name)
}

// clean takes off the white space around a cell, such as the ideographic
// space, and stray byte-order marks.
func clean(s string) string { return strings.Trim(strings.TrimSpace(s), "\u200B\uFEFF\u00A0\u3000 ") }

func clip(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// letter returns what a spreadsheet program calls the column.
func letter(i int) string {
	name := ""
	for i++; i > 0; i = (i - 1) / 26 {
		name = string(rune('A'+(i-1)%26)) + name
	}
	return "column " + name
}
