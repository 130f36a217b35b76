//go:build linux

package command_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// peakRow is the line of /proc/PID/status with the most memory that a process had.
var peakRow = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB`)

// peakOf runs a program to its end, and returns the most memory that it had, in MiB, and what
// it wrote. The system's own figure of an ended child is that of its parent where that is
// larger.
func peakOf(t *testing.T, program string, args ...string) (peak int, out string) {
	t.Helper()
	var b bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &b, &b
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // that it fails is said in what it wrote
	status := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for {
		if text, err := os.ReadFile(status); err == nil {
			if m := peakRow.FindSubmatch(text); m != nil {
				kib, err := strconv.Atoi(string(m[1]))
				if err != nil {
					t.Fatal(err)
				}
				peak = max(peak, kib>>10)
			}
		}
		select {
		case <-ended:
			return peak, b.String()
		case <-looks.C:
		}
	}
}

// TestImportTakesLittle ensures that no table, however made, takes more than 512 MiB in the
// command: neither those that unpack to far more and are refused, nor one that goes as far
// as the limits do.
func TestImportTakesLittle(t *testing.T) {
	folder := t.TempDir()
	binary := filepath.Join(folder, "xuncha")
	if out, err := exec.Command("go", "build", "-o", binary, "xuncha/server").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const header = "registration_no,name,division_code,address,latitude,longitude,registered_on,deregistered_on"
	type writes = func(io.Writer)
	repeat := func(text string, n int) writes {
		return func(w io.Writer) {
			for range n {
				io.WriteString(w, text)
			}
		}
	}
	all := func(parts ...writes) writes {
		return func(w io.Writer) {
			for _, p := range parts {
				p(w)
			}
		}
	}
	book := func(shared, rows writes) writes {
		return func(w io.Writer) {
			z := zip.NewWriter(w)
			for _, part := range []struct {
				name string
				text writes
			}{
				{"xl/workbook.xml", repeat(`<workbook xmlns:r="r"><sheets><sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>`, 1)},
				{"xl/_rels/workbook.xml.rels", repeat(`<a><Relationship Id="rId1" Type="x/worksheet" Target="sheet.xml"/><Relationship Id="rId2" Type="x/sharedStrings" Target="shared.xml"/></a>`, 1)},
				{"xl/shared.xml", shared},
				{"xl/sheet.xml", all(repeat(`<a><sheetData><row r="1">`, 1), func(w io.Writer) {
					for name := range strings.SplitSeq(header, ",") {
						fmt.Fprintf(w, `<c t="inlineStr"><is><t>%s</t></is></c>`, name)
					}
				}, repeat(`</row>`, 1), rows, repeat(`</sheetData></a>`, 1))},
			} {
				f, err := z.Create(part.name)
				if err != nil {
					t.Fatal(err)
				}
				part.text(f)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// As many texts as may be shared, and as long as a cell may be; each of as many rows as
	// have 256 MiB of text has eight.
	random := rand.New(rand.NewPCG(1, 2))
	const texts = 32_000
	longest := book(func(w io.Writer) {
		io.WriteString(w, "<a>")
		for range texts {
			fmt.Fprintf(w, "<si><t>%0128x%s</t></si>", random.Uint64(), strings.Repeat(fmt.Sprintf("%032x", random.Uint64()), 124))
		}
		io.WriteString(w, "</a>")
	}, func(w io.Writer) {
		for i := range 8100 {
			io.WriteString(w, "<row>")
			for j := range 8 {
				fmt.Fprintf(w, `<c t="s"><v>%d</v></c>`, (8*i+j)%texts)
			}
			io.WriteString(w, "</row>")
		}
	})
	one := repeat(`<row><c t="s"><v>0</v></c></row>`, 1)
	for name, test := range map[string]struct {
		text writes
		most int // MiB
		want string
	}{
		"commas.csv":   {all(repeat(header+"\n", 1), repeat(strings.Repeat(",", 1<<20), 200)), 160, "256 columns"},
		"newlines.csv": {all(repeat(header+"\n", 1), repeat(strings.Repeat("\n", 1<<20), 200)), 160, "no row"},
		"gb18030.csv":  {all(repeat(header+"\n", 1), repeat(strings.Repeat("\xB4\xFA\xC2\xEB\n", 1<<18), 40)), 160, "1000000 rows; split"},
		"giant.xlsx":   {book(all(repeat("<a><si><t>", 1), repeat(strings.Repeat("a", 1<<20), 60), repeat("</t></si></a>", 1)), one), 160, "1 MiB"},
		"many.xlsx":    {book(all(repeat("<a>", 1), repeat(strings.Repeat("<si/>", 1<<15), 400), repeat("</a>", 1)), one), 160, "save the table as .csv"},
		"nested.xlsx":  {book(repeat("<a/>", 1), repeat(strings.Repeat("<a>", 1<<15), 500)), 160, "100 elements"},
		"longest.xlsx": {longest, 512, "no server answers"},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := os.Create(filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			w := bufio.NewWriterSize(file, 1<<20)
			test.text(w)
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			peak, out := peakOf(t, binary, "import", "sites", "--server", "127.0.0.1:1", file.Name())
			if peak == 0 || peak > test.most || !strings.Contains(out, test.want) {
				t.Errorf("it took %d MiB, want at most %d, and wrote %q, want that it says %q", peak, test.most, out, test.want)
			}
			t.Logf("%d MiB", peak)
			if err := os.Remove(file.Name()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
