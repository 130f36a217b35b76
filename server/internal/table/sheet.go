package table

import (
	"encoding/xml"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A sheet gathers the cells of the row that is being read.
type sheet struct {
	table *reader
	book  *workbook

	row    int      // the number of the row
	column int      // that of the cell; 1 is A
	cells  []string // of the row, from column A on
	count  int      // of all cells so far

	kind    string // the cell's type, by ECMA-376 part 1, 18.18.11
	style   int
	inValue bool
	value   cellText
	inline  cellText
}

// readSheet reads the rows of a sheet, each as soon as it is there.
func (t *reader) readSheet(w *workbook, name string) error {
	s := &sheet{table: t, book: w}
	err := w.each(name, func(_ *part, token xml.Token) error {
		if _, ended := s.inline.take(token, "is"); ended {
			return nil
		}
		switch e := token.(type) {
		case xml.StartElement:
			return s.begin(&e)
		case xml.EndElement:
			return s.end(e.Name.Local)
		case xml.CharData:
			if s.inValue {
				s.value.append(e)
			}
		}
		return nil
	})
	if errors.As(err, new(*limitError)) {
		return s.beyond(err)
	}
	return err
}

func (s *sheet) begin(e *xml.StartElement) error {
	switch e.Name.Local {
	case "row":
		before := s.row
		s.row++
		if n, err := strconv.Atoi(attr(e, "r")); err == nil && n != 0 {
			s.row = n
		}
		if s.row <= before || s.row > s.book.most.sheetRow {
			return fmt.Errorf("row %d follows row %d; a sheet has the rows 1 to %d, in this order", s.row, before, s.book.most.sheetRow)
		}
		s.column, s.cells = 0, s.cells[:0]
	case "c":
		if s.count++; s.count > s.book.most.cells {
			return s.beyond(beyond("the sheet has more than %d cells%s", s.book.most.cells, asCSV))
		}
		if s.column++; len(e.Attr) > 0 {
			s.column = columnOf(attr(e, "r"), s.column)
		}
		if s.column > MaxColumns {
			return s.beyond(errColumns)
		}
		s.kind = attr(e, "t")
		s.style, _ = strconv.Atoi(attr(e, "s"))
		s.value, s.inline = cellText{text: s.value.text[:0]}, cellText{text: s.inline.text[:0]}
	case "v":
		s.inValue = true
	}
	return nil
}

func (s *sheet) end(name string) error {
	switch name {
	case "v":
		s.inValue = false
	case "c":
		text, err := s.text()
		if err != nil {
			s.table.problem(s.row, letter(s.column-1), err)
		}
		if text == "" || s.column < 1 {
			return nil
		}
		for len(s.cells) < s.column {
			s.cells = append(s.cells, "")
		}
		s.cells[s.column-1] = text
	case "row":
		if err := s.table.record(s.row, s.cells); err != nil {
			return &callerError{err}
		}
		s.cells = s.cells[:0]
	case "sheetData":
		return errEnough
	}
	return nil
}

// beyond notes that the row is where the sheet passes a limit, and ends its reading.
func (s *sheet) beyond(err error) error {
	s.table.problem(s.row, "", err)
	return errStop
}

// columnOf returns the number of the column of a cell with the name, such as 2 of "B7", or
// the one given where the name tells none.
func columnOf(name string, column int) int {
	n := 0
	for i := 0; i < len(name) && n <= MaxColumns; i++ {
		c := name[i] &^ ('a' - 'A')
		if c < 'A' || c > 'Z' {
			break
		}
		n = 26*n + int(c-'A') + 1
	}
	if n == 0 {
		return column
	}
	return n
}

// text returns the cell's value as people would write it: a number in digits, and a number
// that is shown as a date as that day. Numbers are taken as they are stored: a code typed
// as a number must not come out as 5.1E+11, nor a coordinate rounded to what its cell shows.
func (s *sheet) text() (string, error) {
	if s.value.long {
		return string(tooLong), nil
	}
	value := string(s.value.text)
	switch s.kind {
	case "s":
		if value == "" {
			return "", nil
		}
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			n = -1
		}
		text, ok := s.book.shared.at(n)
		if !ok {
			return "", fmt.Errorf("names a text that the file does not have: %q", clip(value))
		}
		return string(text), nil
	case "inlineStr":
		if text := s.inline.bytes(); len(text) > 0 {
			return string(text), nil
		}
		return value, nil
	case "b", "e", "str": // a truth value, an error, and the text that a formula gave
		return value, nil
	}
	return s.number(value), nil
}

// number returns a number as text, or a text that is none as it is.
func (s *sheet) number(value string) string {
	number, err := strconv.ParseFloat(value, 64)
	if err != nil || !strings.ContainsAny(value[:1], "0123456789-") {
		return value
	}
	if s.style >= 0 && s.style < len(s.book.isDate) && s.book.isDate[s.style] {
		if day, ok := dayOf(number, s.book.is1904); ok {
			return day.Format(time.DateOnly)
		}
	}
	if !strings.ContainsAny(value, "eE") {
		return value
	}
	return strconv.FormatFloat(number, 'f', -1, 64)
}

// lastDay is the number of the day after 9999-12-31, the last that is a date.
const lastDay = 2_958_466

// dayOf returns the day of a serial number of ECMA-376 part 1, 18.17.4.1. Half a second
// before midnight is midnight: programs compute such numbers.
func dayOf(number float64, is1904 bool) (time.Time, bool) {
	const second = 1.0 / (24 * 60 * 60)
	if number < 0 || number >= lastDay {
		return time.Time{}, false
	}
	days := int(math.Floor(number + second/2))
	first := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)
	switch {
	case is1904:
		first = time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC)
	case days >= 1 && days < 60:
		days++ // for 60 is 1900-02-29, a day that never was
	}
	return first.AddDate(0, 0, days), true
}
