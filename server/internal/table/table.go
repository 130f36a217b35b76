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
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
)

// The limits of a file.
const (
	// MaxBytes is the size of a file, and of what an XLSX file unpacks to.
	MaxBytes = 256 << 20
	// MaxRows is the number of rows below the header.
	MaxRows = 1_000_000
	// MaxColumns is how many columns a row can have.
	MaxColumns = 256
	// MaxProblems is how many problems are listed.
	MaxProblems = 100
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

// Read reads the table in r, whose file has the name, and calls each with
// every row that is not empty. It goes on after a problem in a row, so that all
// are found at once, but calls each no more. The error is an *Error, or that of
// each, or that of the context.
func Read(ctx context.Context, name string, r io.Reader, columns []Column, each func(Row) error) error {
	data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return err
	}
	t := &reader{ctx: ctx, columns: columns, each: each, failure: Error{File: name}}
	switch {
	case len(data) > MaxBytes:
		t.problem(0, "", fmt.Errorf("is larger than %d MiB", MaxBytes>>20))
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		err = t.readXLSX(data)
	case bytes.HasPrefix(data, []byte("\xD0\xCF\x11\xE0")):
		t.problem(0, "", errors.New("is a file of an old spreadsheet program; save it as .xlsx or .csv"))
	default:
		err = t.readCSV(data)
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
	columns []Column
	each    func(Row) error
	header  []int // of each column of the file, the index in columns, or -1
	rows    int
	failure Error
}

func (t *reader) problem(row int, column string, err error) {
	if len(t.failure.Problems) < MaxProblems {
		t.failure.Problems = append(t.failure.Problems, Problem{row, column, err})
	}
}

// errStop ends the reading of a file of which no more is worth reading.
var errStop = errors.New("stop")

var errColumns = fmt.Errorf("has more than %d columns", MaxColumns)

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
		t.problem(number, "", fmt.Errorf("there are more than %d rows", MaxRows))
		return errStop
	}
	row := Row{Number: number, Cells: make([]string, len(t.columns))}
	for i, cell := range cells {
		cell = clean(cell)
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

// readCSV reads a CSV file.
func (t *reader) readCSV(data []byte) error {
	text, err := decode(data)
	if err != nil {
		t.problem(0, "", err)
		return nil
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	r.Comma = separator(text)
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var bad *csv.ParseError
		if errors.As(err, &bad) {
			t.problem(bad.Line, fmt.Sprintf("character %d", bad.Column), bad.Err)
			return nil
		}
		if err != nil {
			return err
		}
		number, _ := r.FieldPos(0)
		if err := t.record(number, cells); err != nil {
			if errors.Is(err, errStop) {
				return nil
			}
			return err
		}
	}
}

// decode returns the text in UTF-8.
func decode(data []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(data, []byte("\xFE\xFF")), bytes.HasPrefix(data, []byte("\xFF\xFE")):
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder().Bytes(data)
	case utf8.Valid(data):
		return bytes.TrimPrefix(data, []byte("\uFEFF")), nil
	}
	if line := brokenUTF8(data); line > 0 {
		return nil, fmt.Errorf("is UTF-8, but line %d has bytes that are not", line)
	}
	// The decoder writes U+FFFD for what it cannot read.
	text, err := simplifiedchinese.GB18030.NewDecoder().Bytes(data)
	if err == nil {
		if i := bytes.IndexRune(text, utf8.RuneError); i >= 0 {
			err = fmt.Errorf("is neither UTF-8 nor GB18030: line %d cannot be read", 1+bytes.Count(text[:i], []byte("\n")))
		}
	}
	return text, err
}

// brokenUTF8 returns the first line with bytes that are not UTF-8 of a text that
// is UTF-8 for the most part; else 0. In GB18030 hardly ever do three bytes in a
// row look like a Chinese character of UTF-8, so such a text is not mistaken.
func brokenUTF8(data []byte) (line int) {
	good, bad, first := 0, 0, 0
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			if bad++; bad == 1 {
				first = i
			}
		case n > 2:
			good++
		}
		i += n
	}
	if good <= bad {
		return 0
	}
	return 1 + bytes.Count(data[:first], []byte("\n"))
}

// separator returns the one that the first line has most of.
func separator(text []byte) rune {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	best := ','
	for _, c := range ";\t" {
		if bytes.Count(line, []byte(string(c))) > bytes.Count(line, []byte(string(best))) {
			best = c
		}
	}
	return best
}
