package table_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"xuncha/server/internal/sampledata"
	"xuncha/server/internal/table"
)

// section returns the data as a file.
func section(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

// rows reads a table and returns "number: cell|cell|…" for each row.
func rows(data []byte, columns []table.Column) ([]string, error) {
	var out []string
	err := table.Read(context.Background(), "file", section(data), columns, func(r table.Row) error {
		out = append(out, fmt.Sprintf("%d: %s", r.Number, strings.Join(r.Cells, "|")))
		return nil
	})
	return out, err
}

// encode returns text in an encoding that spreadsheet programs write.
func encode(t testing.TB, name string, text []byte) []byte {
	t.Helper()
	var out []byte
	var err error
	switch name {
	case "UTF8":
		return text
	case "UTF8WithMark":
		return append([]byte("\xEF\xBB\xBF"), text...)
	case "GB18030":
		out, err = simplifiedchinese.GB18030.NewEncoder().Bytes(text)
	case "UTF16":
		out, err = unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().Bytes(text)
	case "XLSX":
		out, err = workbook(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// workbook returns the CSV table as an XLSX file of texts.
func workbook(text []byte) ([]byte, error) {
	records, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		return nil, err
	}
	f := excelize.NewFile()
	defer f.Close()
	for i, r := range records {
		if err := f.SetSheetRow("Sheet1", fmt.Sprintf("A%d", i+1), &r); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err = f.Write(&b)
	return b.Bytes(), err
}

// TestEncodings ensures that the same table reads the same however it was saved.
func TestEncodings(t *testing.T) {
	for name, test := range map[string]struct {
		text    []byte
		columns []table.Column
		rows    int
	}{
		"Divisions": {sampledata.Divisions2019(), table.Divisions, 3179},
		"Sites":     {sampledata.Sites(), table.Sites, 85},
	} {
		want, err := rows(test.text, test.columns)
		if err != nil || len(want) != test.rows || !strings.HasPrefix(want[0], "2: ") {
			t.Fatalf("%s: got %d rows, %v; want %d from row 2 on", name, len(want), err, test.rows)
		}
		for _, encoding := range []string{"UTF8WithMark", "GB18030", "UTF16", "XLSX"} {
			t.Run(name+encoding, func(t *testing.T) {
				got, err := rows(encode(t, encoding, test.text), test.columns)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("got %d rows, %v; want the %d of UTF-8", len(got), err, len(want))
				}
			})
		}
	}
}

func TestForms(t *testing.T) {
	want := []string{"2: 511600|广安市|city|", "3: 511602|广安区|county|511600"}
	for name, text := range map[string]string{
		"Plain":            "code,name,level,parent_code\n511600,广安市,city,\n511602,广安区,county,511600\n",
		"ChineseHeader":    "代码,名称,级别,上级代码\n511600,广安市,city,\n511602,广安区,county,511600\n",
		"OtherOrder":       "name,parent_code,code,level\n广安市,,511600,city\n广安区,511600,511602,county\n",
		"HeaderSpelling":   " Code ,NAME,Level,Parent-Code\n511600,广安市,city,\n511602,广安区,county,511600\n",
		"Semicolons":       "code;name;level;parent_code\n511600;广安市;city;\n511602;广安区;county;511600\n",
		"Tabs":             "code\tname\tlevel\tparent_code\n511600\t广安市\tcity\t\n511602\t广安区\tcounty\t511600\n",
		"WindowsLines":     "code,name,level,parent_code\r\n511600,广安市,city,\r\n511602,广安区,county,511600\r\n",
		"NoLastLine":       "code,name,level,parent_code\n511600,广安市,city,\n511602,广安区,county,511600",
		"SpaceAroundCells": "code,name,level,parent_code\n 511600 ,\u3000广安市\u00a0,city,\n511602,广安区,county, 511600\n",
		"ShortRows":        "code,name,level,parent_code\n511600,广安市,city\n511602,广安区,county,511600\n",
		"EmptyCellsBeyond": "code,name,level,parent_code,,\n511600,广安市,city,,,\n511602,广安区,county,511600,,\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := rows([]byte(text), table.Divisions)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		})
	}
	t.Run("NumbersOfRows", func(t *testing.T) {
		text := "\ncode,name,level,parent_code\n\n,,,\n511600,\"广安\n市\",city,\n511602,广安区,county,511600\n"
		want := []string{"5: 511600|广安\n市|city|", "7: 511602|广安区|county|511600"}
		got, err := rows([]byte(text), table.Divisions)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	})
}

func TestProblems(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string // in the error
	}{
		{"Empty", "", []string{"empty"}},
		{"OnlyAHeader", "code,name,level,parent_code\n,,\n", []string{"no row below its header"}},
		{"TooManyColumns", "code,name,level,parent_code\n" + strings.Repeat(",", 256) + "5\n", []string{"row 2", "256 columns"}},
		{"UnknownColumns", "code,name,level,parent_code,colour,faith\n", []string{`row 1, column E: "colour"`, `row 1, column F: "faith"`, "parent_code"}},
		{"MissingColumns", "code,name\n1,2\n", []string{"level: this column is missing", "parent_code: this column is missing", "上级代码"}},
		{"ColumnTwice", "code,name,level,parent_code,代码\n", []string{`row 1, column E: "code" is there twice`}},
		{"CellBeyondHeader", "code,name,level,parent_code\n1,2,3,4,5\n1,2,3,4,,6\n", []string{`row 2, column E: "5"`, `row 3, column F: "6"`}},
		{"NUL", "code,name,level,parent_code\n1,a\x00b,3,4\n", []string{"row 2, column B: has a NUL"}},
		{"Quotes", "code,name,level,parent_code\n1,\"a\"b,3,4\n", []string{"row 2"}},
		{"NeitherUTF8NorGB18030", "code,name,level,parent_code\n1,\xff\xff,3,4\n", []string{"line 2"}},
		{"UTF8WithBadBytes", "code,name,level,parent_code\n1,广安市广安区,3,4\n1,广安\xe5\xb8区,3,4\n", []string{"UTF-8", "line 3"}},
		{"OldSpreadsheet", "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1 and more", []string{".xlsx"}},
		{"BrokenXLSX", "PK\x03\x04 and nothing more", []string{"XLSX"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := rows([]byte(test.text), table.Divisions)
			var e *table.Error
			if !errors.As(err, &e) || e.File != "file" {
				t.Fatalf("got %q, %v; want an *Error that names the file", got, err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %q", err, want)
				}
			}
		})
	}
	t.Run("AtMost100", func(t *testing.T) {
		_, err := rows([]byte("code,name,level,parent_code\n"+strings.Repeat("1,2,3,4,5\n", 150)), table.Divisions)
		var e *table.Error
		if !errors.As(err, &e) || len(e.Problems) != 100 {
			t.Errorf("got %v, want 100 problems", err)
		}
	})
	t.Run("ErrorOfTheCaller", func(t *testing.T) {
		stop := errors.New("stop")
		err := table.Read(t.Context(), "file", section(sampledata.Sites()), table.Sites, func(table.Row) error { return stop })
		if !errors.Is(err, stop) {
			t.Errorf("got %v, want the caller's error", err)
		}
	})
}

// TestTypedCells ensures that what people typed into a spreadsheet comes out
// as they see it, however the program stores it.
func TestTypedCells(t *testing.T) {
	f := excelize.NewFile()
	defer f.Close()
	set := func(cell string, value any) {
		t.Helper()
		if err := f.SetCellValue("Sheet1", cell, value); err != nil {
			t.Fatal(err)
		}
	}
	style := func(s *excelize.Style) int {
		t.Helper()
		id, err := f.NewStyle(s)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for i, name := range []string{"登记证号", "名称", "区划代码", "纬度", "经度", "登记日期", "注销日期"} {
		set(string(rune('A'+i))+"1", name)
	}
	set("A2", "007")          // a text that looks like a number
	set("B2", "样例")           //
	set("C2", 511602001001.0) // a code typed as a number
	set("D2", 30.123456789)   // shown rounded
	set("E2", 106.5)          //
	set("F2", time.Date(2019, 12, 31, 0, 0, 0, 0, time.UTC))
	set("G2", 43891) // a serial number with a Chinese date format
	two, chinese := 2, `yyyy"年"m"月"d"日"`
	for cell, s := range map[string]int{
		"D2": style(&excelize.Style{NumFmt: two}), "F2": style(&excelize.Style{NumFmt: 14}), "G2": style(&excelize.Style{CustomNumFmt: &chinese}),
	} {
		if err := f.SetCellStyle("Sheet1", cell, cell, s); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := f.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := rows(b.Bytes(), table.Sites)
	want := []string{"2: 007|样例|511602001001||30.123456789|106.5|2019-12-31|2020-03-01"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// sheetOf returns a workbook whose only sheet has the rows, written as they are.
func sheetOf(t testing.TB, rows func(io.Writer)) []byte {
	t.Helper()
	template := encode(t, "XLSX", []byte("code,name,level,parent_code\n"))
	from, err := zip.NewReader(bytes.NewReader(template), int64(len(template)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	to := zip.NewWriter(&b)
	for _, part := range from.File {
		if part.Name != "xl/worksheets/sheet1.xml" {
			err = errors.Join(err, to.Copy(part))
			continue
		}
		w, createErr := to.Create(part.Name)
		if createErr != nil {
			t.Fatal(createErr)
		}
		fmt.Fprint(w, `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>`)
		rows(w)
		fmt.Fprint(w, `</sheetData></worksheet>`)
	}
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFarCells ensures that no row is filled up to a cell that stands far out, as a library
// would that keeps whole sheets.
func TestFarCells(t *testing.T) {
	const header = `<row r="1"><c r="A1" t="inlineStr"><is><t>code</t></is></c><c r="B1" t="inlineStr"><is><t>name</t></is></c>` +
		`<c r="C1" t="inlineStr"><is><t>level</t></is></c><c r="D1" t="inlineStr"><is><t>parent_code</t></is></c></row>`
	for _, test := range []struct {
		name, want string
		rows       func(io.Writer)
	}{
		{"LastColumnOfEachRow", "256 columns", func(w io.Writer) {
			fmt.Fprint(w, header)
			for i := range 20_000 {
				fmt.Fprintf(w, `<row r="%d"><c r="XFD%[1]d"><v>1</v></c></row>`, i+2)
			}
		}},
		{"CellsWithoutAName", "256 columns", func(w io.Writer) {
			fmt.Fprint(w, header, `<row r="2"><c><v>1</v></c>`, strings.Repeat(`<c/>`, 100_000), `</row>`)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := rows(sheetOf(t, test.rows), table.Divisions)
			var e *table.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an *Error that says %q", err, test.want)
			}
		})
	}
}

// TestEmptyCellsFarOut ensures that cells without a value, which programs write for their
// format, cost nothing: such a sheet was refused when each row was filled up to them.
func TestEmptyCellsFarOut(t *testing.T) {
	got, err := rows(sheetOf(t, func(w io.Writer) {
		for i, name := range []string{"code", "name", "level", "parent_code"} {
			fmt.Fprintf(w, `%s<c r="%c1" t="inlineStr"><is><t>%s</t></is></c>`, map[bool]string{true: `<row r="1">`}[i == 0], 'A'+i, name)
		}
		fmt.Fprint(w, `</row><row r="2"><c r="A2"><v>1</v></c></row>`)
		for i := range 20_000 {
			fmt.Fprintf(w, `<row r="%d"><c r="IV%[1]d"/></row>`, i+3)
		}
	}), table.Divisions)
	if want := []string{"2: 1|||"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// TestStop ensures that reading ends when its time is over, whatever the form.
func TestStop(t *testing.T) {
	for _, encoding := range []string{"UTF8", "XLSX"} {
		ctx, cancel := context.WithCancel(t.Context())
		read := 0
		err := table.Read(ctx, "file", section(encode(t, encoding, sampledata.Sites())), table.Sites, func(table.Row) error {
			read++
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) || read != 1 {
			t.Errorf("%s: got %v after %d rows, want the end after one", encoding, err, read)
		}
	}
}
