package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestWalkWebP holds that a WebP is kept as it is, and that what only has the header of one is
// not.
func TestWalkWebP(t *testing.T) {
	text := []byte(strings.Repeat("Deng Xiaolan was at 30.456789N 106.632145E. ", 400))
	for name, head := range map[string]int{
		"larger_lossy.webp": 10, "larger_lossless.webp": 5, "lossy.webp": 10, "webp_lossy_red.webp": 10,
	} {
		file := testFile(t, name)
		if _, kept := clean(t, file); !bytes.Equal(kept, file) {
			t.Errorf("%s: %d bytes became %d others", name, len(file), len(kept))
		}
		kind, image := string(file[12:16]), file[20:20+binary.LittleEndian.Uint32(file[16:])]
		for what, data := range map[string][]byte{
			"text of any length":           slices.Concat(image[:head], text),
			"text as long as the picture":  slices.Concat(image[:head], text[:len(image)-head]),
			"half of the picture":          image[:len(image)/2],
			"the picture, and text behind": slices.Concat(image, text),
			"the picture, and a word":      slices.Concat(image, text[:12]),
		} {
			fake := webpFile(webpChunk(kind, data))
			if _, err := readAll(fake, Limits{}); !errors.Is(err, ErrNotPicture) {
				t.Errorf("%s, which has %s: got %v, want %v", name, what, err, ErrNotPicture)
			}
			if _, err := readAll(fake, Limits{Kept: true}); err != nil {
				t.Errorf("%s, which has %s and was kept before: %v", name, what, err)
			}
		}
		if _, err := readAll(webpFile(webpChunk(kind, image[:len(image)/2])), Limits{Enough: func() bool { return true }}); err != nil && len(image) > 2000 {
			t.Errorf("%s, where that is enough: %v", name, err)
		}
	}
	// Its transparency is no place for text either.
	whole := testFile(t, "lossy_alpha.webp")
	at := bytes.Index(whole, []byte("ALPH"))
	rest := whole[at+8+int(binary.LittleEndian.Uint32(whole[at+4:]))+int(whole[at+4]&1):]
	for _, kind := range []string{"\x00", "\x01", "\x03"} {
		fake := webpFile(whole[12:at], webpChunk("ALPH", append([]byte(kind), text...)), rest)
		if _, err := readAll(fake, Limits{}); !errors.Is(err, ErrNotPicture) {
			t.Errorf("transparency of kind %q: got %v, want %v", kind, err, ErrNotPicture)
		}
	}
	// One that is too large to be decoded is looked at all the same.
	huge := webpFile(webpChunk("VP8L", slices.Concat([]byte{0x2f}, binary.LittleEndian.AppendUint32(nil, 6999|6999<<14), text)))
	if _, err := readAll(huge, Limits{}); !errors.Is(err, ErrNotPicture) {
		t.Errorf("a lossless image of 49 megapixels of text: got %v, want %v", err, ErrNotPicture)
	}
}

// TestWalkPNG holds that the stream of a PNG has rows of pixels, and that its palette has no
// more colours than can be used.
func TestWalkPNG(t *testing.T) {
	text := strings.Repeat("Deng Xiaolan ", 2000)
	header := func(width, height uint32, depth, colours, interlaced byte) []byte {
		b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, width), height)
		return slices.Concat(pngSignature, chunk("IHDR", append(b, depth, colours, 0, 0, interlaced)))
	}
	with := func(header []byte, stream string, before ...[]byte) []byte {
		return slices.Concat(header, slices.Concat(before...), chunk("IDAT", []byte(packed([]byte(stream)))), chunk("IEND", nil))
	}
	grey, adam7 := header(99, 40, 8, 0, 0), header(16, 16, 8, 0, 1)
	rows := strings.Repeat("\x04"+text[:99], 40)
	const passes = 2*3 + 2*3 + 2*5 + 4*5 + 4*9 + 8*9 + 8*17 // a byte more than its pixels in each row
	palette := chunk("PLTE", []byte(text[:48]))
	for name, c := range map[string]struct {
		file []byte
		kept bool
	}{
		"rows":                         {with(grey, rows), true},
		"text":                         {with(grey, text[:4000]), false},
		"one row that is none":         {with(grey, rows[:3900]+"D"+rows[3901:]), false},
		"rows of seven passes":         {with(adam7, strings.Repeat("\x00", passes)), true},
		"text in seven passes":         {with(adam7, text[:passes]), false},
		"16 colours of four bits":      {with(header(2, 1, 4, 3, 0), "\x00\x12", palette), true},
		"16 colours of two bits":       {with(header(4, 1, 2, 3, 0), "\x00\x12", palette), false},
		"checksums that are not right": {bytes.Replace(with(grey, rows), []byte("IDAT"), []byte("IDAT "), 1), false},
	} {
		_, err := readAll(c.file, Limits{})
		if c.kept && err != nil || !c.kept && !errors.Is(err, ErrNotPicture) {
			t.Errorf("%s: got %v, want it kept: %v", name, err, c.kept)
		}
	}
	if _, err := readAll(with(grey, text[:4000]), Limits{Enough: func() bool { return true }}); err != nil {
		t.Errorf("text, where that is enough: %v", err)
	}
	for kind, content := range map[string]string{
		"cHRM": text[:32], "gAMA": text[:4], "sRGB": text[:1], "cICP": text[:4], "mDCV": text[:24], "cLLI": text[:8], "sBIT": text[:1], "tRNS": "",
	} {
		if _, kept := clean(t, with(grey, rows, chunk(kind, []byte(content)))); !bytes.Equal(kept, with(grey, rows)) {
			t.Errorf("%s of letters is left", kind)
		}
	}
	colours := with(grey, rows, chunk("cHRM", []byte("\x00\x00\x7a\x26\x00\x00\x80\x84\x00\x00\xfa\x00\x00\x00\x80\xe8\x00\x00\x75\x30\x00\x00\xea\x60\x00\x00\x3a\x98\x00\x00\x17\x70")),
		chunk("gAMA", []byte("\x00\x00\xb1\x8f")), chunk("sRGB", []byte("\x00")), chunk("cICP", []byte("\x0c\x0d\x00\x01")), chunk("sBIT", []byte("\x08")))
	if _, kept := clean(t, colours); !bytes.Equal(kept, colours) {
		t.Error("colours that are some are changed")
	}
	// What shows nothing is left out.
	_, kept := clean(t, with(header(1, 1, 8, 2, 0), "\x00abc", palette, chunk("tRNS", []byte(text[:40]))))
	if bytes.Contains(kept, []byte("Deng")) {
		t.Error("colours that the picture does not use are left")
	}
}

// FuzzVP8 holds that going over a lossy WebP ends, whatever it is, after as many rows as it has.
func FuzzVP8(f *testing.F) {
	for _, name := range []string{"larger_lossy.webp", "lossy.webp", "webp_lossy_red.webp", "webp_lossy_white.webp"} {
		f.Add(testFile(f, name)[20:], uint16(97), uint16(71))
	}
	f.Fuzz(func(t *testing.T, data []byte, width, height uint16) {
		width, height = width&1023+1, height&1023+1
		rows := 0
		err := walkVP8(bytes.NewReader(data), 0, int64(len(data)), int(width), int(height), func() bool { rows++; return false })
		if err == nil && rows != (int(height)+15)/16 || rows > (int(height)+15)/16 {
			t.Errorf("%d rows of a picture of %d pixels: %v", rows, height, err)
		}
	})
}
