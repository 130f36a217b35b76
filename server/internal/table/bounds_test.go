package table

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// This file holds that no file, however made, takes more than the limits say, and that
// reading ends with its context. The limits are small here, so that the files are.

var few = limits{
	text: 64 << 10, line: 8 << 10, separators: 512,
	directory: 4 << 10, unpacked: 256 << 10, freely: 64 << 10, ratio: 50,
	token: 8 << 10, depth: 20, cells: 4_000, sheetRow: 2_000,
	shared: 1_000, sharedText: 16 << 10, names: 100,
}

const (
	bookXML = `<workbook xmlns:r="r"><sheets><sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>`
	relsXML = `<Relationships><Relationship Id="rId1" Type="x/worksheet" Target="worksheets/sheet1.xml"/>` +
		`<Relationship Id="rId2" Type="x/sharedStrings" Target="/xl/sharedStrings.xml"/>` +
		`<Relationship Id="rId3" Type="x/styles" Target="styles.xml"/></Relationships>`
	headXML = `<worksheet><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>code</t></is></c><c t="inlineStr"><is><t>name</t></is></c>` +
		`<c t="inlineStr"><is><t>level</t></is></c><c t="inlineStr"><is><t>parent_code</t></is></c></row>`
	rowXML = `<row><c t="s"><v>0</v></c></row></sheetData></worksheet>`
)

// archiveOf returns an XLSX file with the parts, and others that it needs where they lack.
func archiveOf(t testing.TB, parts map[string]string) []byte {
	t.Helper()
	return zipped(t, zip.Deflate, parts)
}

// archiveStored is archiveOf without compression.
func archiveStored(t testing.TB, parts map[string]string) []byte {
	t.Helper()
	return zipped(t, zip.Store, parts)
}

func zipped(t testing.TB, method uint16, parts map[string]string) []byte {
	t.Helper()
	all := map[string]string{
		"xl/workbook.xml": bookXML, "xl/_rels/workbook.xml.rels": relsXML, "xl/styles.xml": "<styleSheet/>",
		"xl/sharedStrings.xml": "<sst><si><t>1</t></si></sst>", "xl/worksheets/sheet1.xml": headXML + rowXML,
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	write := func(name, text string) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range parts {
		all[name] = text
	}
	for name, text := range all {
		write(name, text)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readerOf returns a reader of divisions within the limits, which adds the bytes of all
// rows to held.
func readerOf(ctx context.Context, data []byte, most limits, held *int) *reader {
	return &reader{
		ctx: ctx, file: io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), most: most, columns: Divisions,
		each: func(r Row) error {
			for _, cell := range r.Cells {
				*held += len(cell)
			}
			return nil
		},
		failure: Error{File: "file"},
	}
}

// bombs are files that would take far more than they are long, with what is said of them.
func bombs(t testing.TB) map[string]struct {
	data []byte
	want []string
} {
	const header = "code,name,level,parent_code\n"
	xlsx := func(name, text string) []byte { return archiveOf(t, map[string]string{name: text}) }
	sheet := "xl/worksheets/sheet1.xml"
	many := map[string]string{}
	for i := range 3000 {
		many[fmt.Sprintf("xl/media/image%d.png", i)] = ""
	}
	type bomb = struct {
		data []byte
		want []string
	}
	return map[string]bomb{
		"commas":               {[]byte(header + strings.Repeat(",", 1<<20)), []string{"row 2", "256 columns", "line break"}},
		"commas without a row": {[]byte(strings.Repeat(",", 1<<20)), []string{"row 1", "256 columns"}},
		"a line":               {[]byte(header + "1,2,3,4\n" + strings.Repeat("a", 1<<20)), []string{"row 3", "8 KiB", "quotation mark"}},
		"an open quotation":    {[]byte(header + "1,\"2,3,4\n" + strings.Repeat("1,2,3,4\n", 1<<17)), []string{"row 2", "8 KiB", "quotation mark"}},
		"a text":               {[]byte(header + "1," + strings.Repeat("字", 1500) + ",3,4\n"), []string{"row 2, column B", "4096 bytes", "shorten"}},
		"much text":            {[]byte(header + strings.Repeat(strings.Repeat("a", 4000)+",2,3,4\n", 100)), []string{"row 18", "64 KiB", "split"}},
		"a header":             {[]byte(strings.Repeat("a", 5000) + ",name\n"), []string{"row 1, column A", "4096 bytes"}},

		"many parts":          {archiveOf(t, many), []string{"too many parts", ".csv"}},
		"a shared text":       {xlsx("xl/sharedStrings.xml", "<sst><si><t>"+strings.Repeat("a", 60<<10)+"</t></si></sst>"), []string{"sharedstrings.xml", "8 KiB", ".csv"}},
		"a long shared text":  {xlsx("xl/sharedStrings.xml", "<sst><si><t>"+strings.Repeat("字", 20<<10)+"</t></si></sst>"), []string{"sharedstrings.xml", "8 KiB", ".csv"}},
		"a text of pieces":    {xlsx("xl/sharedStrings.xml", "<sst><si>"+strings.Repeat("<r><t>"+strings.Repeat("a", 1000)+"</t></r>", 50)+"</si></sst>"), []string{"row 2, column A", "4096 bytes"}},
		"many shared texts":   {xlsx("xl/sharedStrings.xml", "<sst>"+strings.Repeat("<si/>", 2000)+"</sst>"), []string{"sharedstrings.xml", "1000 shared texts", ".csv"}},
		"much shared text":    {xlsx("xl/sharedStrings.xml", "<sst>"+strings.Repeat("<si><t>"+strings.Repeat("a", 1000)+"</t></si>", 50)+"</sst>"), []string{"16 KiB of shared texts", ".csv"}},
		"nested shared texts": {xlsx("xl/sharedStrings.xml", "<sst>"+strings.Repeat("<si>", 10_000)), []string{"deeper than 20", ".csv"}},
		"nested elements":     {xlsx(sheet, headXML+strings.Repeat("<a>", 10_000)), []string{"row 1", "deeper than 20", ".csv"}},
		"nested workbook":     {xlsx("xl/workbook.xml", strings.Repeat("<a>", 10_000)), []string{"workbook.xml", "deeper than 20"}},
		"a tag":               {xlsx(sheet, headXML+"<row "+strings.Repeat(`a="" `, 10_000)+"/>"), []string{"row 1", "8 KiB", ".csv"}},
		"a comment":           {xlsx(sheet, headXML+"<!--"+strings.Repeat("a", 50<<10)+"-->"), []string{"row 1", "8 KiB"}},
		"a doctype":           {xlsx(sheet, "<!DOCTYPE a ["+strings.Repeat("<!ENTITY a 'b'>", 3000)+"]>"), []string{"8 KiB"}},
		"encodings":           {xlsx(sheet, strings.Repeat(`<?xml encoding="gbk"?>`, 1000)+headXML+rowXML), []string{"sheet1.xml", "encoding twice", ".csv"}},
		"cells":               {xlsx(sheet, headXML+strings.Repeat("<row>"+strings.Repeat("<c/>", 100)+"</row>", 50)), []string{"row 41", "4000 cells", ".csv"}},
		"cells in a row":      {xlsx(sheet, headXML+"<row>"+strings.Repeat("<c/>", 300)), []string{"row 2", "256 columns"}},
		"a cell far out":      {xlsx(sheet, headXML+`<row><c r="XFD2"><v>1</v></c></row>`), []string{"row 2", "256 columns"}},
		"a text in pieces":    {xlsx(sheet, headXML+`<row><c t="inlineStr"><is>`+strings.Repeat("<r><t>"+strings.Repeat(" ", 1000)+"</t></r>", 30)+`<t>a</t></is></c></row>`), []string{"row 2, column A", "4096 bytes"}},
		"a value in pieces":   {xlsx(sheet, headXML+`<row><c><v>`+strings.Repeat(strings.Repeat("1", 1000)+"<!---->", 30)+`</v></c></row>`), []string{"row 2, column A", "4096 bytes"}},
		"much unpacked":       {xlsx(sheet, headXML+strings.Repeat("<row></row>", 1000)+strings.Repeat(" <a></a> ", 100_000)), []string{"row 1001", "256 KiB", "50 times", ".csv"}},
		"a row beyond":        {xlsx(sheet, headXML+`<row r="2001"/>`), []string{"row 2001", "1 to 2000"}},
		"rows in disorder":    {xlsx(sheet, headXML+`<row r="9"/><row r="8"/>`), []string{"row 8 follows row 9"}},
		"a text that lacks":   {xlsx(sheet, headXML+`<row><c t="s"><v>7</v></c></row>`), []string{"row 2, column A", "does not have"}},
		"sheets":              {xlsx("xl/workbook.xml", "<workbook>"+strings.Repeat("<sheet/>", 200)), []string{"100 sheets", ".csv"}},
		"relationships":       {xlsx("xl/_rels/workbook.xml.rels", "<a>"+strings.Repeat("<Relationship/>", 200)), []string{"100 relationships", ".csv"}},
		"styles":              {xlsx("xl/styles.xml", "<a><cellXfs>"+strings.Repeat("<xf/>", 200)), []string{"100 styles", ".csv"}},
		"much behind a sheet": {xlsx(sheet, headXML+rowXML+strings.Repeat(" ", 1<<20)), []string{"256 KiB", "50 times", ".csv"}},
	}
}

// TestBombs ensures that each way of being too large is refused, by its name, its place and
// with the way out.
func TestBombs(t *testing.T) {
	for name, bomb := range bombs(t) {
		t.Run(name, func(t *testing.T) {
			held := 0
			err := readerOf(t.Context(), bomb.data, few, &held).read()
			var e *Error
			if !errors.As(err, &e) || e.File != "file" {
				t.Fatalf("got %v, want an *Error that names the file", err)
			}
			for _, want := range bomb.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %q", err, want)
				}
			}
		})
	}
}

// A fading context ends when it has been asked a number of times, and counts on.
type fading struct {
	context.Context
	left, after int
}

func (f *fading) Err() error {
	if f.left > 0 {
		f.left--
		return nil
	}
	f.after++
	return context.Canceled
}

// TestStopsAnywhere ensures that every file, also one that would be refused, is read no
// further once its context has ended, wherever the reading is by then.
func TestStopsAnywhere(t *testing.T) {
	for name, bomb := range bombs(t) {
		t.Run(name, func(t *testing.T) {
			for left := 0; ; left += 1 + left/4 {
				held, ctx := 0, &fading{Context: t.Context(), left: left}
				err := readerOf(ctx, bomb.data, usual, &held).read()
				if ctx.after == 0 {
					if left < 3 {
						t.Errorf("the context is asked %d times", left)
					}
					return
				}
				// What was read before may be refused yet.
				if !errors.Is(err, context.Canceled) && !errors.As(err, new(*Error)) || ctx.after > 3 {
					t.Fatalf("ended after %d looks: got %v, and %d looks more", left, err, ctx.after)
				}
			}
		})
	}
}

// TestLooksOften ensures that a piece of a file that unpacks to much is followed by a look
// at the context before the next one.
func TestLooksOften(t *testing.T) {
	const length = 8 << 20
	ctx := &fading{Context: t.Context(), left: 1 << 30}
	held := 0
	data := archiveOf(t, map[string]string{"xl/sharedStrings.xml": "<sst>" + strings.Repeat("<si></si>", length/9)})
	_ = readerOf(ctx, data, usual, &held).read()
	if looks := 1<<30 - ctx.left; looks < length/(64<<10) {
		t.Errorf("%d looks at the context in %d bytes, want one in 64 KiB", looks, length)
	}
}

// FuzzRead ensures that no file brings the reader down, that each row has a cell for each
// column, and that what is held of a file is within the limits.
func FuzzRead(f *testing.F) {
	f.Add([]byte("code,name,level,parent_code\n511600,广安市,city,\n"))
	f.Add([]byte("\xB4\xFA\xC2\xEB,\xC3\xFB\xB3\xC6\n1,2\n"))
	f.Add([]byte("\xFF\xFEc\x00,\x00d\x00\n\x001\x00"))
	f.Add(archiveOf(f, nil))
	for _, bomb := range bombs(f) {
		if len(bomb.data) < 64<<10 {
			f.Add(bomb.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkFuzzed(t, data)
	})
}

// FuzzSheet is FuzzRead for what is in the parts of an XLSX file, which changes to an
// archive hardly ever reach.
func FuzzSheet(f *testing.F) {
	f.Add(headXML+rowXML, "<sst><si><t>1</t></si></sst>", "<styleSheet/>", bookXML, relsXML)
	f.Add(headXML+`<row r="3"><c s="1"><v>43830</v></c><c t="b"><v>1</v></c><c t="e"><v>#N/A</v></c><c><v>1e5</v></c></row>`,
		"<sst><si><r><t>1</t></r><rPh><t>2</t></rPh></si></sst>", `<a><numFmts><numFmt numFmtId="164" formatCode="yyyy"/></numFmts><cellXfs><xf/><xf numFmtId="164"/></cellXfs></a>`,
		`<workbook><workbookPr date1904="1"/><sheet id="rId1"/></workbook>`, relsXML)
	f.Fuzz(func(t *testing.T, sheet, shared, styles, book, rels string) {
		checkFuzzed(t, archiveOf(t, map[string]string{
			"xl/worksheets/sheet1.xml": sheet, "xl/sharedStrings.xml": shared, "xl/styles.xml": styles, "xl/workbook.xml": book, "xl/_rels/workbook.xml.rels": rels,
		}))
	})
}

func checkFuzzed(t *testing.T, data []byte) {
	last, held := 0, 0
	r := readerOf(t.Context(), data, few, &held)
	r.each = func(r Row) error {
		if len(r.Cells) != len(Divisions) || r.Number <= last {
			t.Errorf("row %d after %d has %d cells", r.Number, last, len(r.Cells))
		}
		last = r.Number
		for _, cell := range r.Cells {
			if held += len(cell); len(cell) > MaxCellBytes {
				t.Errorf("row %d has a cell of %d bytes", r.Number, len(cell))
			}
		}
		return nil
	}
	err := r.read()
	if err == nil && last == 0 {
		t.Error("nothing was taken for a table")
	}
	if int64(held) > few.text {
		t.Errorf("%d bytes of cells", held)
	}
	if b := r.book; b != nil {
		most := few.sharedText + MaxCellBytes + pieceSize
		if b.shared.count > few.shared || b.shared.bytes > most || len(b.shared.pieces) > 1 || len(b.isDate) > few.names+1 || len(b.sheets) > few.names || len(b.parts) > int(few.directory+128<<10)/46 {
			t.Errorf("held are %d shared texts of %d bytes, %d styles, %d sheets, %d parts", b.shared.count, b.shared.bytes, len(b.isDate), len(b.sheets), len(b.parts))
		}
	}
}
