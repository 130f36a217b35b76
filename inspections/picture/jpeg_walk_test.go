package picture

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// walkable are JPEGs of one picture, as other programs write them: sequential and
// progressive, with markers to begin anew at, in one scan and in several, with all kinds of
// subsampling.
var walkable = []string{
	"baseline_420.jpg", "baseline_440.jpg", "restart_422.jpg", "three_scans_420.jpg",
	"progressive_444.jpg", "progressive_restart_420.jpg", "progressive_gray.jpg",
}

func testFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lastScan is where the compressed data of the last scan begin.
func lastScan(file []byte) int {
	at := bytes.LastIndex(file, []byte{0xff, sos})
	return at + 2 + int(file[at+2])<<8 + int(file[at+3])
}

func readAll(file []byte, limits Limits) (*Picture, error) {
	return Read(bytes.NewReader(file), int64(len(file)), limits)
}

// TestWalk holds that a JPEG is kept as it is whatever program wrote it, and that what only
// has the header of one is not, however long that is.
func TestWalk(t *testing.T) {
	text := []byte(strings.Repeat("Deng Xiaolan was at 30.456789N 106.632145E. ", 400))
	for _, name := range walkable {
		file := testFile(t, name)
		if _, kept := clean(t, file); !bytes.Equal(kept, file) {
			t.Errorf("%s: %d bytes became %d others", name, len(file), len(kept))
		}
		scan := lastScan(file)
		data := file[scan : len(file)-2]
		end := file[len(file)-2:]
		for what, fake := range map[string][]byte{
			"text of any length":           text,
			"text as long as the picture":  text[:len(data)],
			"a line of text":               text[:44],
			"nothing":                      nil,
			"half of the picture":          data[:len(data)/2],
			"the picture, and text behind": slices.Concat(data, text),
			"the picture and half of it":   slices.Concat(data, data[:len(data)/2+100]),
		} {
			if bytes.Equal(fake, data) {
				continue
			}
			for _, behind := range [][]byte{end, nil} {
				if _, err := readAll(slices.Concat(file[:scan], fake, behind), Limits{}); !errors.Is(err, ErrNotPicture) {
					t.Errorf("%s, whose scan is %s: got %v, want %v", name, what, err, ErrNotPicture)
				}
			}
		}
		// Whoever kept it before shows it.
		if _, err := readAll(slices.Concat(file[:scan], text, end), Limits{Kept: true}); err != nil {
			t.Errorf("%s, kept before: %v", name, err)
		}
	}
}

// TestBehindScan holds that padding behind the compressed data stays, and a few other bytes
// do not.
func TestBehindScan(t *testing.T) {
	for _, name := range walkable {
		file := testFile(t, name)
		head, end := file[:len(file)-2], file[len(file)-2:]
		padded := slices.Concat(head, bytes.Repeat([]byte{0x55}, 3000), end)
		if _, kept := clean(t, padded); !bytes.Equal(kept, padded) {
			t.Errorf("%s with padding: %d bytes became %d others", name, len(padded), len(kept))
		}
		// Nor need the marker of the end be there, as in a file that is filled up to a sector.
		for _, filler := range []string{"\x00", "\xff"} {
			full := slices.Concat(head, bytes.Repeat([]byte(filler), 512))
			_, kept := clean(t, full)
			if !bytes.Equal(kept, slices.Concat(full, end)) {
				t.Errorf("%s without an end, filled up by %q: %d bytes became %d others", name, filler, len(full), len(kept))
			}
			p, err := readAll(kept, Limits{Kept: true})
			if err == nil {
				_, err = p.Thumbnail(nil)
			}
			if err != nil {
				t.Errorf("%s without an end, filled up by %q: %v", name, filler, err)
			}
		}
		// Some encoders write a marker to begin anew at behind the last group too.
		for _, few := range []string{"Deng \xff\x00 Xiaolan", "\xff\xd7"} {
			if _, kept := clean(t, slices.Concat(head, []byte(few), end)); !bytes.Equal(kept, file) {
				t.Errorf("%s with %q behind it: that stays:\n%q", name, few, kept)
			}
		}
	}
}

// TestPlantedTables holds that tables which no scan uses are left out, and that no segment has
// one twice.
func TestPlantedTables(t *testing.T) {
	text := strings.Repeat("Deng Xiaolan 30.456789N 106.632145E ", 20)
	for _, name := range walkable {
		file := testFile(t, name)
		head, rest := file[:2], file[2:]
		codes := "\x10" + strings.Repeat("\x00", 15) + "\xff" + text[:255]
		planted := slices.Concat(head,
			segment(dqt, "\x00"+text[:64]), segment(dqt, "\x00"+text[64:128]), segment(dqt, "\x13"+text[:128]),
			segment(dht, codes), segment(dht, "\x03"+codes[1:]), segment(dri, "\x00\x07"), segment(dri, "\x00\x00"), rest)
		if _, kept := clean(t, planted); bytes.Contains(kept, []byte("Deng")) {
			t.Errorf("%s: a table that no scan uses is left", name)
		}
		at := bytes.Index(file, []byte{0xff, sos})
		sizes := segment(dht, "\x00"+strings.Repeat("\x00", 15)+"\xff"+text[:255])
		if _, err := readAll(slices.Concat(file[:at], sizes, file[at:]), Limits{}); !errors.Is(err, ErrNotPicture) || !strings.Contains(err.Error(), "sizes that do not exist") {
			t.Errorf("%s: got %v, want it to say that there are no such sizes", name, err)
		}
		// Nor is one beside those that are used.
		for code, table := range map[byte]string{dqt: "\x03" + text[:64], dht: "\x13" + codes[1:]} {
			at := bytes.Index(file, []byte{0xff, code})
			end := at + 2 + int(file[at+2])<<8 + int(file[at+3])
			beside := slices.Concat(file[:at], segment(code, table+string(file[at+4:end])), file[end:])
			if _, kept := clean(t, beside); !bytes.Equal(kept, file) {
				t.Errorf("%s: of tables in one segment, %d bytes stay of %d", name, len(kept), len(file))
			}
		}
		for _, twice := range [][]byte{segment(dqt, "\x00"+text[:64]+"\x00"+text[:64]), segment(dht, codes+codes)} {
			if _, err := readAll(slices.Concat(head, twice, rest), Limits{}); !errors.Is(err, ErrNotPicture) || !strings.Contains(err.Error(), "a table twice") {
				t.Errorf("%s: got %v, want it to say that a table comes twice", name, err)
			}
		}
	}
}

// TestMended holds that files which every viewer shows are kept, as files that are whole.
func TestMended(t *testing.T) {
	want, err := decode(testFile(t, "icc_planted.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"no_eoi.jpg", "two_bytes_between_segments.jpg", "no_huffman_tables.jpg"} {
		p, kept := clean(t, testFile(t, name))
		got, err := decode(kept)
		if err != nil || !samePixels(got, want) {
			t.Errorf("%s: it shows something else, %v", name, err)
		}
		if _, again := clean(t, kept); !bytes.Equal(kept, again) {
			t.Errorf("%s: cleaning twice is not cleaning once", name)
		}
		if _, err := p.Thumbnail(nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestScans holds that a JPEG has at most a hundred scans.
func TestScans(t *testing.T) {
	file := testFile(t, "progressive_gray.jpg")
	// One that says once more what the lowest bits of the DC coefficients are.
	at := bytes.Index(file, []byte("\xff\xda\x00\x08\x01\x01\x00\x00\x00\x10"))
	scan := file[at : at+10+bytes.Index(file[at+10:], []byte{0xff, sos})]
	most := MaxScans - bytes.Count(file, []byte{0xff, sos})
	for more, want := range map[int]error{most: nil, most + 1: ErrNotPicture, 3000: ErrNotPicture} {
		many := slices.Concat(file[:at], bytes.Repeat(scan, more), file[at:])
		if _, err := readAll(many, Limits{}); !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), "more than 100 scans") {
			t.Errorf("%d scans more: got %v, want %v", more, err, want)
		}
		if _, err := readAll(many, Limits{Kept: true}); err != nil {
			t.Errorf("%d scans more, kept before: %v", more, err)
		}
	}
}

// TestEnough holds that going over a JPEG ends when it is told to, and that the picture is
// kept then.
func TestEnough(t *testing.T) {
	file := plainJPEG(t, 2000, 2200) // of 17,250 groups of blocks
	for _, allowed := range []int{0, 1, 2} {
		asked := 0
		_, err := readAll(file, Limits{Enough: func() bool { asked++; return asked > allowed }})
		if err != nil || asked != min(2, allowed+1) {
			t.Errorf("%d times more: asked %d times, %v", allowed, asked, err)
		}
	}
	text := slices.Concat(file[:len(file)*3/4], bytes.Repeat([]byte("text "), 200_000), file[len(file)-2:])
	if _, err := readAll(text, Limits{Enough: func() bool { return true }}); err != nil {
		t.Errorf("with text that it does not come to: %v", err)
	}
}

// FuzzWalk holds that going over compressed data ends, whatever they are, and that what is
// kept is taken in as it is.
func FuzzWalk(f *testing.F) {
	for _, name := range walkable {
		f.Add(testFile(f, name))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		steps := 0
		p, err := readAll(file, Limits{JPEGPixels: 1 << 20, Enough: func() bool { steps++; return false }})
		if most := MaxScans * 1 << 20 / 64 / stepsAtOnce * 20; steps > most {
			t.Fatalf("%d bytes took %d steps", len(file), steps)
		}
		if err != nil || p.ContentType != JPEG {
			return
		}
		_, kept := clean(t, file)
		if _, again := clean(t, kept); !bytes.Equal(kept, again) {
			t.Fatalf("cleaning twice is not cleaning once:\n%q\n%q", kept, again)
		}
	})
}
