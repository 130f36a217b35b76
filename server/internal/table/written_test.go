package table

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/text/encoding/unicode"
)

// This file holds that XLSX files read the same whichever program wrote them, and that one
// which is not whole is not read as if it were.

const twoRowsXML = headXML + `<row r="2"><c r="A2" t="s"><v>0</v></c><c r="B2" s="1"><v>43830</v></c></row>` +
	`<row r="3"><c r="A3" t="s"><v>0</v></c></row></sheetData></worksheet>`

// readParts reads an XLSX file of divisions with the parts.
func readParts(t *testing.T, data []byte) (string, error) {
	t.Helper()
	var out strings.Builder
	held := 0
	r := readerOf(t.Context(), data, usual, &held)
	r.each = func(r Row) error {
		_, err := fmt.Fprintf(&out, "%d:%s ", r.Number, strings.Join(r.Cells, "|"))
		return err
	}
	err := r.read()
	return out.String(), err
}

// TestWriters ensures that what programs write in different ways means the same.
func TestWriters(t *testing.T) {
	const sheet, styles, shared = "xl/worksheets/sheet1.xml", "xl/styles.xml", "xl/sharedStrings.xml"
	const formats = `<numFmts><numFmt numFmtId="60" formatCode="yyyy-mm-dd"/></numFmts>`
	const list = `<cellXfs><xf numFmtId="0"/><xf numFmtId="60"/></cellXfs>`
	usually := map[string]string{sheet: twoRowsXML, shared: "<sst><si><t>一</t></si></sst>", styles: "<a>" + formats + list + "</a>"}
	utf16 := func(order unicode.Endianness, text string) string {
		out, err := unicode.UTF16(order, unicode.UseBOM).NewEncoder().String(`<?xml version="1.0" encoding="UTF-16"?>` + text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, parts := range map[string]map[string]string{
		"Usually":                      {},
		"FormatsBehindStyles":          {styles: "<a>" + list + formats + "</a>"},
		"FormatsOfConditionsToo":       {styles: "<a>" + formats + list + `<dxfs><dxf><numFmt numFmtId="60" formatCode="0"/></dxf></dxfs></a>`},
		"ABuiltInFormatWithItsOwnCode": {styles: `<a><numFmts><numFmt numFmtId="14" formatCode=""/></numFmts><cellXfs><xf/><xf numFmtId="14"/></cellXfs></a>`},
		"NoRelationships":              {"xl/_rels/workbook.xml.rels": `<a><Relationship Id="rId1" Type="x/worksheet" Target="worksheets/sheet1.xml"/></a>`},
		"UTF16": {sheet: utf16(unicode.LittleEndian, twoRowsXML), shared: utf16(unicode.BigEndian, usually[shared]),
			"xl/workbook.xml": utf16(unicode.LittleEndian, bookXML)},
	} {
		t.Run(name, func(t *testing.T) {
			all := map[string]string{}
			for _, from := range []map[string]string{usually, parts} {
				for name, text := range from {
					all[name] = text
				}
			}
			got, err := readParts(t, archiveOf(t, all))
			if want := "2:一|2019-12-31|| 3:一||| "; err != nil || got != want {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		})
	}
}

// TestDamagedXLSX ensures that a sheet of which a byte has changed, or of which the end
// lacks, is no table: divisions that are not in a table end.
func TestDamagedXLSX(t *testing.T) {
	const sheet = "xl/worksheets/sheet1.xml"
	t.Run("AByte", func(t *testing.T) {
		whole := archiveStored(t, map[string]string{sheet: twoRowsXML})
		if _, err := readParts(t, whole); err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Replace(whole, []byte("43830"), []byte("43831"), 1)
		if got, err := readParts(t, damaged); !errors.As(err, new(*Error)) || !strings.Contains(err.Error(), "sheet1.xml") {
			t.Errorf("got %q, %v; want an error that names the part", got, err)
		}
	})
	t.Run("TheEnd", func(t *testing.T) {
		cut, _, _ := strings.Cut(twoRowsXML, `<row r="3">`)
		got, err := readParts(t, archiveOf(t, map[string]string{sheet: cut}))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %q, %v; want %v", got, err, io.ErrUnexpectedEOF)
		}
	})
}
