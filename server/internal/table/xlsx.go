package table

import (
	"encoding/xml"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// This file and sheet.go read an XLSX file (ECMA-376 part 1, 18) row by row. A library
// that gives access to all of a file keeps all of it in memory, and so cannot be bounded.

// A workbook is what of an XLSX file is kept while its sheets are read.
type workbook struct {
	*archive
	sheets     []string // the parts of its sheets, in the order of its tabs
	sharedPart string
	stylesPart string
	is1904     bool // days are counted from 1904 on
	shared     sharedTexts
	isDate     []bool // of each style, whether it shows numbers as dates
}

// readXLSX reads the first sheet of an XLSX file that has anything in it.
func (t *reader) readXLSX() error {
	w, err := t.openWorkbook()
	for i := 0; err == nil && i < len(w.sheets) && t.header == nil; i++ {
		err = t.readSheet(w, w.sheets[i])
	}
	var callers *callerError
	switch {
	case err == nil, errors.Is(err, errStop):
		return nil
	case errors.As(err, &callers):
		return callers.error
	case isStop(err):
		return err
	case errors.As(err, new(*limitError)):
		t.problem(0, "", err)
	default:
		t.problem(0, "", fmt.Errorf("cannot be read as an XLSX file: %w", err))
	}
	return nil
}

// openWorkbook reads all but the sheets.
func (t *reader) openWorkbook() (*workbook, error) {
	a, err := t.openArchive()
	if err != nil {
		return nil, err
	}
	w := &workbook{archive: a}
	t.book = w
	book := "xl/workbook.xml"
	err = w.eachRelationship("", "", func(r relationship) {
		if r.is("officeDocument") {
			book = r.part
		}
	})
	if err != nil {
		return nil, err
	}
	var tabs []string // the relationships of the sheets
	err = w.each(book, func(_ *part, token xml.Token) error {
		e, ok := token.(xml.StartElement)
		switch {
		case ok && e.Name.Local == "workbookPr":
			w.is1904 = isTrue(attr(&e, "date1904"))
		case ok && e.Name.Local == "sheet":
			if len(tabs) == w.most.names {
				return beyond("has more than %d sheets%s", w.most.names, asCSV)
			}
			tabs = append(tabs, clip(attr(&e, "id")))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	sheets := map[string]string{}
	// Some programs do not say where these two are.
	w.sharedPart, w.stylesPart = partName(path.Dir(book), "sharedStrings.xml"), partName(path.Dir(book), "styles.xml")
	err = w.eachRelationship(path.Dir(book), path.Base(book), func(r relationship) {
		switch {
		case r.is("worksheet"):
			sheets[r.id] = r.part
		case r.is("sharedStrings"):
			w.sharedPart = r.part
		case r.is("styles"):
			w.stylesPart = r.part
		}
	})
	if err != nil {
		return nil, err
	}
	for _, id := range tabs {
		if part, ok := sheets[id]; ok {
			w.sheets = append(w.sheets, part)
		}
	}
	if err := w.readStyles(); err != nil {
		return nil, err
	}
	return w, w.readShared()
}

func isTrue(s string) bool { return s == "1" || s == "true" }

// A relationship says where a part is that another one needs.
type relationship struct{ id, kind, part string }

// is reports whether the part is of a kind. The namespace before it depends on the edition
// of the standard.
func (r relationship) is(kind string) bool { return path.Base(r.kind) == kind }

// maxPartName is how long the name of a part is that is looked for.
const maxPartName = 1000

// eachRelationship calls f with the relationships of a part of the folder; of the whole
// file where the part has no name. A part may have none.
func (a *archive) eachRelationship(folder, name string, f func(relationship)) error {
	n := 0
	err := a.each(partName(folder, "_rels/"+name+".rels"), func(_ *part, token xml.Token) error {
		e, ok := token.(xml.StartElement)
		if !ok || e.Name.Local != "Relationship" || attr(&e, "TargetMode") == "External" {
			return nil
		}
		if n++; n > a.most.names {
			return beyond("has more than %d relationships%s", a.most.names, asCSV)
		}
		if target := attr(&e, "Target"); len(target) <= maxPartName {
			f(relationship{clip(attr(&e, "Id")), attr(&e, "Type"), partName(folder, target)})
		}
		return nil
	})
	if errors.Is(err, errNoPart) {
		return nil
	}
	return err
}

// readStyles finds which styles of cells show a date. The built-in formats 14 to 17, 22, 27
// to 36 and 50 to 58 do, by ECMA-376 part 1, 18.8.30, and formats of the file that say so,
// whatever number they have: some programs give them one below 164.
func (w *workbook) readStyles() error {
	own := map[int]bool{} // by number of the format, whether it shows a date
	var formats []int     // of each style
	within := ""          // the list that is being read
	err := w.each(w.stylesPart, func(_ *part, token xml.Token) error {
		switch e := token.(type) {
		case xml.StartElement:
			n, _ := strconv.Atoi(attr(&e, "numFmtId"))
			switch name := e.Name.Local; {
			case name == "numFmts" || name == "cellXfs":
				within = name
			case name == "numFmt" && within == "numFmts":
				own[n] = isDateFormat(attr(&e, "formatCode"))
			case name == "xf" && within == "cellXfs":
				formats = append(formats, n)
			}
			if len(own) > w.most.names || len(formats) > w.most.names {
				return beyond("has more than %d styles%s", w.most.names, asCSV)
			}
		case xml.EndElement:
			if e.Name.Local == within {
				within = ""
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNoPart) {
		return err
	}
	w.isDate = make([]bool, len(formats))
	for i, n := range formats {
		w.isDate[i] = own[n] || n >= 14 && n <= 17 || n == 22 || n >= 27 && n <= 36 || n >= 50 && n <= 58
	}
	return nil
}

// quoted matches what in a number format is not a code: texts in quotation
// marks, colours and conditions in brackets, and escaped characters.
var quoted = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]|\\.`)

// isDateFormat reports whether a format that is not built in shows numbers as dates.
func isDateFormat(code string) bool {
	return strings.ContainsAny(strings.ToLower(quoted.ReplaceAllString(code, "")), "yd年")
}
