package table

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/xuri/excelize/v2"
)

// What an XLSX file may have in it. A small file can unpack to sheets that take
// gigabytes once they are in memory: a sheet is filled up to the last cell of
// each row.
const (
	maxCells    = 4_000_000
	maxElements = 20_000_000
)

// measure returns what is too large about an XLSX file, without loading it, or
// why it cannot be read.
func measure(ctx context.Context, data []byte) error {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return fmt.Errorf("cannot be read as an XLSX file: %w", err)
	}
	m := meter{ctx: ctx}
	for _, part := range z.File {
		if !strings.HasSuffix(strings.ToLower(part.Name), ".xml") {
			continue
		}
		r, err := part.Open()
		if err == nil {
			err = errors.Join(m.part(io.LimitReader(r, MaxBytes)), r.Close())
		}
		if err != nil {
			return fmt.Errorf("cannot be read as an XLSX file: %s: %w", clip(part.Name), err)
		}
	}
	return nil
}

// A meter counts what is in the parts of an XLSX file.
type meter struct {
	ctx             context.Context
	elements, cells int
}

func (m *meter) part(r io.Reader) error {
	d := xml.NewDecoder(r)
	// What is counted is in ASCII, whatever a part says of its encoding.
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	row, column, last := 0, 0, 0 // last is the row's last column
	for {
		token, err := d.RawToken()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if m.elements++; m.elements%4096 == 0 && m.ctx.Err() != nil {
			return m.ctx.Err()
		}
		switch e.Name.Local {
		case "row":
			m.cells++
			row, column, last = row+1, 0, 0
		case "c":
			if column++; len(e.Attr) > 0 {
				column = columnOf(e.Attr, column)
			}
			if column > last {
				m.cells += column - last
				last = column
			}
			if last > MaxColumns {
				return fmt.Errorf("row %d %w", row, errColumns)
			}
		}
		if m.cells > maxCells || m.elements > maxElements {
			return fmt.Errorf("has more than %d cells; save the table as .csv", maxCells)
		}
	}
}

// columnOf returns the column of a cell with the attributes, or the one given
// where they do not tell.
func columnOf(attrs []xml.Attr, column int) int {
	for _, a := range attrs {
		if a.Name.Local == "r" {
			if n, _, err := excelize.CellNameToCoordinates(a.Value); err == nil {
				return n
			}
		}
	}
	return column
}

// readXLSX reads the first sheet of an XLSX file that has anything in it.
func (t *reader) readXLSX(data []byte) (err error) {
	if err := measure(t.ctx, data); err != nil {
		if t.ctx.Err() != nil {
			return t.ctx.Err()
		}
		t.problem(0, "", err)
		return nil
	}
	f, err := excelize.OpenReader(bytes.NewReader(data), excelize.Options{
		UnzipSizeLimit: MaxBytes, UnzipXMLSizeLimit: 64 << 20,
		// Values as they are stored: a code typed as a number must not come out
		// as 5.1E+11, nor a coordinate rounded to what its cell shows.
		RawCellValue: true,
	})
	if err != nil {
		t.problem(0, "", fmt.Errorf("cannot be read as an XLSX file: %w", err))
		return nil
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	dates := &dateStyles{file: f, known: map[int]bool{}}
	for _, sheet := range f.GetSheetList() {
		if err := t.readSheet(f, sheet, dates); err != nil {
			if errors.Is(err, errStop) {
				return nil
			}
			return err
		}
		if t.header != nil {
			return nil
		}
	}
	return nil
}

func (t *reader) readSheet(f *excelize.File, sheet string, dates *dateStyles) error {
	rows, err := f.Rows(sheet)
	if err != nil {
		t.problem(0, sheet, err)
		return nil
	}
	defer rows.Close()
	for number := 1; rows.Next(); number++ {
		cells, err := rows.Columns()
		if err != nil {
			t.problem(number, sheet, err)
			return nil
		}
		for i, cell := range cells {
			cells[i] = dates.plain(sheet, number, i, cell)
		}
		if err := t.record(number, cells); err != nil {
			return err
		}
	}
	if err := rows.Error(); err != nil {
		t.problem(0, sheet, err)
	}
	return nil
}

// dateStyles knows which of a file's cell styles show a date.
type dateStyles struct {
	file  *excelize.File
	known map[int]bool
}

// plain returns a cell's stored value as people would write it: a number in
// digits, and a number that is shown as a date as that day.
func (d *dateStyles) plain(sheet string, row, column int, value string) string {
	number, err := strconv.ParseFloat(value, 64)
	if err != nil || !strings.ContainsAny(value[:1], "0123456789-") {
		return value
	}
	name, err := excelize.CoordinatesToCellName(column+1, row)
	if err != nil {
		return value
	}
	if kind, err := d.file.GetCellType(sheet, name); err != nil || kind != excelize.CellTypeUnset && kind != excelize.CellTypeNumber && kind != excelize.CellTypeDate {
		return value // a text that looks like a number stays as it was typed
	}
	if style, err := d.file.GetCellStyle(sheet, name); err == nil && d.isDate(style) {
		if day, err := excelize.ExcelDateToTime(number, d.is1904()); err == nil {
			return day.Format(time.DateOnly)
		}
	}
	if !strings.ContainsAny(value, "eE") {
		return value
	}
	return strconv.FormatFloat(number, 'f', -1, 64)
}

func (d *dateStyles) is1904() bool {
	p, err := d.file.GetWorkbookProps()
	return err == nil && p.Date1904 != nil && *p.Date1904
}

// quoted matches what in a number format is not a code: texts in quotation
// marks, colours and conditions in brackets, and escaped characters.
var quoted = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]|\\.`)

// isDate reports whether a style shows numbers as dates. The built-in formats
// 14 to 17, 22, 27 to 36 and 50 to 58 do, by ECMA-376 part 1, 18.8.30.
func (d *dateStyles) isDate(style int) bool {
	if known, ok := d.known[style]; ok {
		return known
	}
	is := false
	if s, err := d.file.GetStyle(style); err == nil {
		switch n := s.NumFmt; {
		case n >= 14 && n <= 17, n == 22, n >= 27 && n <= 36, n >= 50 && n <= 58:
			is = true
		}
		if s.CustomNumFmt != nil {
			is = strings.ContainsAny(strings.ToLower(quoted.ReplaceAllString(*s.CustomNumFmt, "")), "yd年")
		}
	}
	d.known[style] = is
	return is
}
