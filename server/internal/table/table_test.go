package table_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
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

// rows reads a table and returns "number: cell|cell|…" for each row.
func rows(data []byte, columns []table.Column) ([]string, error) {
	var out []string
	err := table.Read("file", bytes.NewReader(data), columns, func(r table.Row) error {
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
		{"UnknownColumns", "code,name,level,parent_code,colour,faith\n", []string{`row 1, column E: "colour"`, `row 1, column F: "faith"`, "parent_code"}},
		{"MissingColumns", "code,name\n1,2\n", []string{"level: this column is missing", "parent_code: this column is missing", "上级代码"}},
		{"ColumnTwice", "code,name,level,parent_code,代码\n", []string{`row 1, column E: "code" is there twice`}},
		{"CellBeyondHeader", "code,name,level,parent_code\n1,2,3,4,5\n1,2,3,4,,6\n", []string{`row 2, column E: "5"`, `row 3, column F: "6"`}},
		{"NUL", "code,name,level,parent_code\n1,a\x00b,3,4\n", []string{"row 2, column B: has a NUL"}},
		{"Quotes", "code,name,level,parent_code\n1,\"a\"b,3,4\n", []string{"row 2"}},
		{"NeitherUTF8NorGB18030", "code,name,level,parent_code\n1,\xff\xff,3,4\n", []string{"line 2"}},
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
		err := table.Read("file", bytes.NewReader(sampledata.Sites()), table.Sites, func(table.Row) error { return stop })
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

// FuzzRead ensures that no file brings the reader down, and that each row has
// a cell for each column.
func FuzzRead(f *testing.F) {
	f.Add([]byte("code,name,level,parent_code\n511600,广安市,city,\n"))
	f.Add(encode(f, "GB18030", []byte("代码,名称,级别,上级代码\n511600,广安市,city,\n")))
	f.Add(encode(f, "UTF16", []byte("代码;名称;级别;上级代码\n511600;广安市;city;\n")))
	f.Add(encode(f, "XLSX", []byte("code,name,level,parent_code\n511600,广安市,city,\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		last := 0
		err := table.Read("file", bytes.NewReader(data), table.Divisions, func(r table.Row) error {
			if len(r.Cells) != len(table.Divisions) || r.Number <= last {
				t.Errorf("row %d after %d has %d cells", r.Number, last, len(r.Cells))
			}
			last = r.Number
			return nil
		})
		if err == nil && last == 0 && len(bytes.TrimSpace(data)) == 0 {
			t.Error("nothing was taken for a table")
		}
	})
}
