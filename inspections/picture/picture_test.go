package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/webp"
)

// secrets are what is planted in the files of these tests. None of them may be
// left, in either byte order.
var secrets = []string{
	"Deng Xiaolan", "HUAWEI P40", "maker's note", "30.456789N 106.632145E", "a comment", "thumbnail bytes", "behind the end",
	gpsBytes(binary.BigEndian), gpsBytes(binary.LittleEndian),
}

// gpsBytes is a position as EXIF has it: degrees, minutes and seconds as
// fractions.
func gpsBytes(order binary.AppendByteOrder) string {
	var b []byte
	for _, n := range []uint32{30, 1, 27, 1, 244404, 10000} {
		b = order.AppendUint32(b, n)
	}
	return string(b)
}

// camera returns an EXIF structure as cameras write it, with all that must go.
func camera(order binary.AppendByteOrder, orientation uint16) []byte {
	type field struct {
		tag, kind uint16
		count     uint32
		value     []byte
	}
	short := func(v uint16) []byte { return order.AppendUint16(nil, v) }
	text := func(s string) (uint16, uint32, []byte) { return 2, uint32(len(s) + 1), append([]byte(s), 0) }
	var b []byte
	directory := func(fields []field, next uint32) {
		at := len(b)
		b = order.AppendUint16(b, uint16(len(fields)))
		data := uint32(at + 2 + 12*len(fields) + 4)
		var behind []byte
		for _, f := range fields {
			b = order.AppendUint16(b, f.tag)
			b = order.AppendUint16(b, f.kind)
			b = order.AppendUint32(b, f.count)
			if len(f.value) <= 4 {
				b = append(b, append(slices.Clone(f.value), 0, 0, 0, 0)[:4]...)
				continue
			}
			b = order.AppendUint32(b, data+uint32(len(behind)))
			behind = append(behind, f.value...)
		}
		b = order.AppendUint32(b, next)
		b = append(b, behind...)
	}
	if order == binary.AppendByteOrder(binary.BigEndian) {
		b = append(b, "MM\x00\x2a"...)
	} else {
		b = append(b, "II\x2a\x00"...)
	}
	b = order.AppendUint32(b, 8)
	model, modelN, modelV := text("HUAWEI P40")
	artist, artistN, artistV := text("Deng Xiaolan")
	directory([]field{
		{0x0110, model, modelN, modelV},
		{orientationTag, 3, 1, short(orientation)},
		{0x013b, artist, artistN, artistV},
		{0x8825, 4, 1, order.AppendUint32(nil, 200)},
		{0x927c, 7, 12, []byte("maker's note")},
	}, 0)
	b = append(b, make([]byte, 200-len(b))...)
	directory([]field{{2, 5, 3, []byte(gpsBytes(order))}, {1, 2, 2, []byte("N\x00")}}, 0)
	return append(b, "thumbnail bytes"...)
}

func sample(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, color.NRGBA{uint8(x * 5), uint8(y * 7), uint8(x * y), uint8(255 - x%3)})
		}
	}
	return m
}

func segment(code byte, data string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0xff, code}, uint16(2+len(data))), data...)
}

// plainJPEG is a JPEG with nothing to take out.
func plainJPEG(t testing.TB, w, h int) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, sample(w, h), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// plantJPEG puts into a JPEG what cameras and programs put there.
func plantJPEG(plain []byte, order binary.AppendByteOrder, orientation uint16, icc []byte) []byte {
	out := []byte{0xff, soi}
	out = append(out, segment(app0, "JFIF\x00\x01\x02\x01\x00\x48\x00\x48\x03\x05thumbnail bytes and so on and on and on and on and on")...)
	out = append(out, segment(app0, "JFXX\x00\x10thumbnail bytes")...)
	out = append(out, segment(app1, "Exif\x00\x00"+string(camera(order, orientation)))...)
	out = append(out, segment(app1, "http://ns.adobe.com/xap/1.0/\x00<dc:creator>Deng Xiaolan</dc:creator>")...)
	out = append(out, segment(app1, "http://ns.adobe.com/xmp/extension/\x00 30.456789N 106.632145E")...)
	if icc != nil {
		half := len(icc) / 2
		out = append(out, segment(app2, "ICC_PROFILE\x00\x01\x02"+string(icc[:half]))...)
		out = append(out, segment(app2, "ICC_PROFILE\x00\x02\x02"+string(icc[half:]))...)
	}
	out = append(out, segment(app2, "MPF\x00 thumbnail bytes")...)
	out = append(out, segment(0xed, "Photoshop 3.0\x008BIM\x04\x04 Deng Xiaolan")...)
	out = append(out, segment(0xe4, "HUAWEI P40")...)
	out = append(out, 0xff, 0xff) // fill bytes
	out = append(out, segment(com, "a comment")...)
	out = append(out, plain[2:len(plain)-2]...)
	out = append(out, segment(com, "a comment")...)
	out = append(out, 0xff, eoi)
	out = append(out, "behind the end"...)
	return append(out, plain...)
}

func plainPNG(t testing.TB, w, h int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, sample(w, h)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packed(b []byte) string {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.String()
}

// ihdrEnd is where the first chunk of a PNG ends.
const ihdrEnd = 8 + 12 + 13

func plantPNG(plain []byte, order binary.AppendByteOrder, orientation uint16, icc []byte) []byte {
	out := slices.Clone(plain[:ihdrEnd])
	if icc != nil {
		out = append(out, chunk("iCCP", []byte("Deng Xiaolan\x00\x00"+packed(icc)))...)
	}
	out = append(out, chunk("gAMA", []byte{0, 0, 0xb1, 0x8f})...)
	out = append(out, chunk("tEXt", []byte("Author\x00Deng Xiaolan"))...)
	out = append(out, chunk("iTXt", []byte("XML:com.adobe.xmp\x00\x00\x00\x00\x0030.456789N 106.632145E"))...)
	out = append(out, chunk("eXIf", camera(order, orientation))...)
	out = append(out, chunk("vpAg", []byte("HUAWEI P40"))...)
	out = append(out, plain[ihdrEnd:len(plain)-12]...)
	out = append(out, chunk("tEXt", []byte("Comment\x00a comment"))...)
	out = append(out, chunk("IEND", nil)...)
	return append(out, "behind the end"...)
}

func webpChunk(kind string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(data)))
	b = append(b, data...)
	return append(b, make([]byte, len(data)&1)...)
}

func webpFile(chunks ...[]byte) []byte {
	all := append([]byte("WEBP"), bytes.Join(chunks, nil)...)
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(all))), all...)
}

func plainWebP(t testing.TB, name string) []byte {
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// webpParts returns the chunks of a WebP file that hold its image, and its size.
func webpParts(t testing.TB, plain []byte) (parts []byte, alpha bool, w, h int) {
	p, err := Read(bytes.NewReader(plain), int64(len(plain)), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	parts = plain[12:]
	if string(parts[:4]) == "VP8X" {
		alpha = parts[8]&webpAlpha != 0
		parts = parts[18:]
	}
	return parts, alpha, p.Width, p.Height
}

func plantWebP(t testing.TB, plain []byte, order binary.AppendByteOrder, orientation uint16, icc []byte) []byte {
	parts, alpha, w, h := webpParts(t, plain)
	flags := byte(webpEXIF | 4)
	if alpha {
		flags |= webpAlpha
	}
	var chunks [][]byte
	if icc != nil {
		flags |= webpICC
		chunks = append(chunks, webpChunk("ICCP", icc))
	}
	head := []byte{flags, 0, 0, 0, byte(w - 1), byte((w - 1) >> 8), 0, byte(h - 1), byte((h - 1) >> 8), 0}
	chunks = append([][]byte{webpChunk("VP8X", head)}, chunks...)
	chunks = append(chunks, webpChunk("NOTE", []byte("a comment")), parts,
		webpChunk("EXIF", camera(order, orientation)), webpChunk("XMP ", []byte("<dc:creator>Deng Xiaolan</dc:creator> HUAWEI P40")))
	return append(webpFile(chunks...), "behind the end"...)
}

// clean returns what is kept of the file.
func clean(t testing.TB, file []byte) (*Picture, []byte) {
	t.Helper()
	p, err := Read(bytes.NewReader(file), int64(len(file)), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if n, err := p.WriteTo(&out); err != nil || n != p.Size() || n != int64(out.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, p.Size(), err)
	}
	if same := bytes.Equal(out.Bytes(), file); p.Unchanged() != same {
		t.Errorf("it is unchanged: got %v, want %v", p.Unchanged(), same)
	}
	return p, out.Bytes()
}

func decode(b []byte) (image.Image, error) {
	switch {
	case bytes.HasPrefix(b, pngSignature):
		return png.Decode(bytes.NewReader(b))
	case bytes.HasPrefix(b, []byte("RIFF")):
		return webp.Decode(bytes.NewReader(b))
	}
	return jpeg.Decode(bytes.NewReader(b))
}

// samePixels reports whether two images show the same.
func samePixels(a, b image.Image) bool {
	if a.Bounds() != b.Bounds() {
		return false
	}
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			if a.At(x, y) != b.At(x, y) {
				return false
			}
		}
	}
	return true
}

// A planter puts into a plain file what cameras and programs put there.
type planter struct {
	plain []byte
	plant func(order binary.AppendByteOrder, orientation uint16, icc []byte) []byte
}

// files has a plain file of each kind.
func files(t testing.TB) map[string]planter {
	j, p := plainJPEG(t, 61, 47), plainPNG(t, 61, 47)
	out := map[string]planter{
		"JPEG": {j, func(o binary.AppendByteOrder, n uint16, icc []byte) []byte { return plantJPEG(j, o, n, icc) }},
		"PNG":  {p, func(o binary.AppendByteOrder, n uint16, icc []byte) []byte { return plantPNG(p, o, n, icc) }},
	}
	for _, name := range []string{"lossy.webp", "lossy_alpha.webp", "lossless_alpha.webp"} {
		w := plainWebP(t, name)
		out[name] = planter{w, func(o binary.AppendByteOrder, n uint16, icc []byte) []byte { return plantWebP(t, w, o, n, icc) }}
	}
	return out
}

// TestClean holds what the package is for: nothing that was planted is left, and
// the picture, its colours and its upper side are.
func TestClean(t *testing.T) {
	icc := p3Profile()
	for kind, f := range files(t) {
		for _, order := range []binary.AppendByteOrder{binary.BigEndian, binary.LittleEndian} {
			for orientation := uint16(1); orientation <= 8; orientation++ {
				t.Run(fmt.Sprint(kind, order, orientation), func(t *testing.T) {
					dirty := f.plant(order, orientation, icc)
					for _, s := range secrets[:6] {
						if kind == "JPEG" && !bytes.Contains(dirty, []byte(s)) {
							t.Fatalf("%q was not planted", s)
						}
					}
					p, kept := clean(t, dirty)
					for _, s := range secrets {
						if bytes.Contains(kept, []byte(s)) {
							t.Errorf("%q is left", s)
						}
					}
					if p.Orientation != int(orientation) || p.Width != 61 || p.Height != 47 {
						t.Errorf("got %d by %d, orientation %d", p.Width, p.Height, p.Orientation)
					}
					was, err := decode(dirty)
					if err != nil {
						t.Fatal(err)
					}
					is, err := decode(kept)
					if err != nil {
						t.Fatal(err)
					}
					if !samePixels(was, is) {
						t.Error("the pixels are others")
					}
					// Once more changes nothing; and it is still the right way up.
					again, same := clean(t, kept)
					if !bytes.Equal(kept, same) || again.Orientation != int(orientation) {
						t.Error("cleaning twice is not cleaning once")
					}
					if got := storedProfile(t, kept); !bytes.Equal(got, reduced(icc)) {
						t.Errorf("the colour profile is %q", got)
					}
				})
			}
		}
	}
}

// unpacked returns what packed has packed.
func unpacked(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPlain holds that a picture with nothing to take out stays byte for byte.
func TestPlain(t *testing.T) {
	for kind, f := range files(t) {
		if _, kept := clean(t, f.plain); !bytes.Equal(kept, f.plain) {
			t.Errorf("%s: %d bytes became %d others", kind, len(f.plain), len(kept))
		}
	}
}

// TestLateOrientation holds that a PNG may say at its end which side is up.
func TestLateOrientation(t *testing.T) {
	plain := plainPNG(t, 5, 4)
	file := slices.Concat(plain[:len(plain)-12], chunk("eXIf", camera(binary.BigEndian, 6)), plain[len(plain)-12:])
	p, kept := clean(t, file)
	if p.Orientation != 6 || !bytes.Contains(kept, exifOf(6)) {
		t.Errorf("orientation %d, kept %q", p.Orientation, kept)
	}
}

// TestTransparencyIsTold holds that the header of a WebP file says that its
// lossless image is transparent, also where it did not before.
func TestTransparencyIsTold(t *testing.T) {
	dirty := plantWebP(t, plainWebP(t, "lossless_alpha.webp"), binary.BigEndian, 6, nil)
	for _, flags := range []byte{dirty[20], dirty[20] | webpAlpha, dirty[20] &^ webpAlpha} {
		dirty[20] = flags
		if _, kept := clean(t, dirty); kept[20] != webpEXIF|webpAlpha {
			t.Errorf("of the flags %#x there are left %#x", flags, kept[20])
		}
	}
}

// resum sets a PNG chunk's checksum right after its content was changed.
func resum(file []byte, start int) []byte {
	n := int(binary.BigEndian.Uint32(file[start:]))
	fixed := chunk(string(file[start+4:start+8]), file[start+8:start+8+n])
	copy(file[start:], fixed)
	return file
}

func TestRefused(t *testing.T) {
	j, p, w := plainJPEG(t, 16, 16), plainPNG(t, 16, 16), plainWebP(t, "lossy.webp")
	at := bytes.Index(j, []byte{0xff, sof0})
	edit := func(b []byte, at int, with ...byte) []byte {
		b = slices.Clone(b)
		copy(b[at:], with)
		return b
	}
	bomb := func(h, w uint16) []byte {
		return edit(j, at+5, byte(h>>8), byte(h), byte(w>>8), byte(w))
	}
	bigPNG := resum(edit(p, 16, 0, 0, 0x27, 0x10, 0, 0, 0x13, 0x89), 8)
	idat := bytes.Index(p, []byte("IDAT")) - 4
	stream := p[idat+8 : len(p)-12-4]
	pngWith := func(data []byte) []byte {
		return slices.Concat(p[:idat], chunk("IDAT", data), chunk("IEND", nil))
	}
	for _, c := range []struct {
		name string
		file []byte
		want error
		says string
	}{
		{"nothing", nil, ErrNotPicture, "ends too early"},
		{"text", []byte("<!DOCTYPE html><html></html>"), ErrNotPicture, "begins like no"},
		{"GIF", []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00"), ErrNotPicture, "begins like no"},
		{"a JPEG that was cut", j[:len(j)-20], ErrNotPicture, "too early"},
		{"a JPEG without an image", slices.Concat(j[:2], []byte{0xff, eoi}, make([]byte, 9)), ErrNotPicture, "no image"},
		{"a JPEG bomb", bomb(65500, 65500), ErrTooLarge, "65500 by 65500"},
		{"one row too many", bomb(20000, 12501), ErrTooLarge, "12501 by 20000 pixels are more than 250 megapixels"},
		{"a JPEG without height", bomb(0, 16), ErrNotPicture, "16 by 0"},
		{"an arithmetic JPEG", edit(j, at+1, 0xc9), ErrNotPicture, "not supported"},
		{"a JPEG with a long frame", edit(j, at+9, 2), ErrNotPicture, "wrong length"},
		{"a PNG that was cut", p[:len(p)-13], ErrNotPicture, "too early"},
		{"a damaged PNG", edit(p, len(p)-30, p[len(p)-30]^1), ErrNotPicture, "checksum"},
		{"a PNG bomb", bigPNG, ErrTooLarge, "10000 by 5001 pixels are more than 50 megapixels"},
		{"a PNG with too few pixels", resum(edit(p, 20, 0, 0, 0, 17), 8), ErrNotPicture, "of 1105"},
		{"a PNG with too many pixels", resum(edit(p, 20, 0, 0, 0, 15), 8), ErrNotPicture, "more than"},
		{"a PNG with something behind its pixels", pngWith(append(slices.Clone(stream), "behind the end"...)), ErrNotPicture, "something follows"},
		{"a PNG that unpacks to much more", pngWith([]byte(packed(make([]byte, 1<<20)))), ErrNotPicture, "more than"},
		{"a WebP that was cut", w[:len(w)-10], ErrNotPicture, "too early"},
		{"a WebP animation", webpFile(webpChunk("VP8X", []byte{webpAnimated, 0, 0, 0, 15, 0, 0, 15, 0, 0}), w[12:]), ErrNotPicture, "animation"},
		{"a WebP bomb", webpFile(webpChunk("VP8L", []byte{0x2f, 0xff, 0xff, 0xff, 0x0f, 0})), ErrTooLarge, "16384 by 16384"},
		{"a WebP without an image", webpFile(webpChunk("XMP ", []byte("<x/>"))), ErrNotPicture, "no image"},
	} {
		_, err := Read(bytes.NewReader(c.file), int64(len(c.file)), Limits{})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v; want %v with %q", c.name, err, c.want, c.says)
		}
	}
}

// TestProfiles holds that what only looks like a colour profile does not stay.
func TestProfiles(t *testing.T) {
	j := plainJPEG(t, 8, 8)
	good := p3Profile()
	for name, icc := range map[string][]byte{
		"longer than it says": append(slices.Clone(good), "Deng Xiaolan"...),
		"no profile":          []byte(strings.Repeat("Deng Xiaolan ", 30)),
	} {
		for kind, file := range map[string][]byte{
			"JPEG": plantJPEG(j, binary.BigEndian, 1, icc),
			"PNG":  plantPNG(plainPNG(t, 8, 8), binary.BigEndian, 1, icc),
			"WebP": plantWebP(t, plainWebP(t, "lossy.webp"), binary.BigEndian, 1, icc),
		} {
			_, kept := clean(t, file)
			if bytes.Contains(kept, []byte("Deng")) || bytes.Contains(kept, []byte("acsp")) || bytes.Contains(kept, []byte("iCCP")) {
				t.Errorf("%s, %s: the profile stays", kind, name)
			}
		}
	}
}

// TestThumbnail holds its size, and that it stands upright: the corner that is
// red in the picture as it is to be shown is red in the thumbnail.
func TestThumbnail(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 800, 400))
	for y := range 400 {
		for x := range 800 {
			c := color.RGBA{255, 255, 255, 255}
			if x < 200 && y < 200 {
				c = color.RGBA{255, 0, 0, 255}
			}
			m.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	// Where the corner of the first row and the first column is shown: right? below?
	corners := [][2]bool{1: {false, false}, 2: {true, false}, 3: {true, true}, 4: {false, true}, 5: {false, false}, 6: {true, false}, 7: {true, true}, 8: {false, true}}
	for orientation := 1; orientation <= 8; orientation++ {
		p, _ := clean(t, plantJPEG(b.Bytes(), binary.LittleEndian, uint16(orientation), nil))
		thumbnail, err := p.Thumbnail(nil)
		if err != nil {
			t.Fatal(err)
		}
		small, err := jpeg.Decode(bytes.NewReader(thumbnail))
		if err != nil {
			t.Fatal(err)
		}
		size := image.Pt(320, 160)
		if orientation >= 5 {
			size = image.Pt(160, 320)
		}
		if small.Bounds().Size() != size {
			t.Errorf("orientation %d: %v", orientation, small.Bounds())
		}
		at := image.Pt(10, 10)
		if corners[orientation][0] {
			at.X = size.X - 11
		}
		if corners[orientation][1] {
			at.Y = size.Y - 11
		}
		if r, g, _, _ := small.At(at.X, at.Y).RGBA(); r>>8 < 200 || g>>8 > 60 {
			t.Errorf("orientation %d: the corner at %v is not red", orientation, at)
		}
	}
	for kind, f := range files(t) {
		p, _ := clean(t, f.plain)
		thumbnail, err := p.Thumbnail(nil)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if c, err := jpeg.DecodeConfig(bytes.NewReader(thumbnail)); err != nil || c.Width != 61 || c.Height != 47 {
			t.Errorf("%s: %v, %v", kind, c, err)
		}
	}
}

// small is how many pixels a fuzzed picture has at most to be decoded.
const small = 1 << 16

// fuzz holds of any file that is taken: what is kept of it is taken too and kept
// as it is, it shows the same, and more metadata changes nothing.
func fuzz(t *testing.T, file []byte, plant func(file []byte) [][]byte) {
	p, err := Read(bytes.NewReader(file), int64(len(file)), Limits{})
	if err != nil {
		if !errors.Is(err, ErrNotPicture) && !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
		return
	}
	_, kept := clean(t, file)
	q, again := clean(t, kept)
	if !bytes.Equal(kept, again) || q.Orientation != p.Orientation || q.Width != p.Width || q.Height != p.Height || q.ContentType != p.ContentType {
		t.Fatalf("cleaning twice is not cleaning once:\n%q\n%q", kept, again)
	}
	for i, more := range plant(file) {
		if _, same := clean(t, more); !bytes.Equal(kept, same) {
			t.Fatalf("metadata %d leaves a trace:\n%q\n%q", i, kept, same)
		}
	}
	if p.Width*p.Height > small {
		return
	}
	was, err := decode(file)
	if err != nil {
		return
	}
	is, err := decode(kept)
	if err != nil || !samePixels(was, is) {
		t.Fatalf("the pixels are others: %v", err)
	}
	if _, err := p.Thumbnail(nil); err != nil {
		t.Fatal(err)
	}
}

func FuzzJPEG(f *testing.F) {
	j := plainJPEG(f, 9, 7)
	f.Add(j)
	f.Add(plantJPEG(j, binary.BigEndian, 6, p3Profile()))
	f.Add(plantJPEG(j, binary.LittleEndian, 1, nil))
	f.Fuzz(func(t *testing.T, file []byte) {
		fuzz(t, file, func(file []byte) [][]byte {
			head, body := file[:2], file[2:]
			return [][]byte{
				slices.Concat(head, segment(com, "a comment"), body),
				slices.Concat(head, segment(app1, "http://ns.adobe.com/xap/1.0/\x00<x/>"), segment(0xed, "Photoshop 3.0\x00"), body),
				slices.Concat(file, []byte("\xff\xd9behind the end")), // the end may have been missing
			}
		})
	})
}

func FuzzPNG(f *testing.F) {
	p := plainPNG(f, 9, 7)
	f.Add(p)
	f.Add(plantPNG(p, binary.BigEndian, 6, p3Profile()))
	f.Add(plantPNG(p, binary.LittleEndian, 1, nil))
	f.Fuzz(func(t *testing.T, file []byte) {
		fuzz(t, file, func(file []byte) [][]byte {
			return [][]byte{
				slices.Concat(file[:ihdrEnd], chunk("tEXt", []byte("a\x00comment")), chunk("vpAg", []byte("x")), file[ihdrEnd:]),
				slices.Concat(file, []byte("behind the end")),
			}
		})
	})
}

func FuzzWebP(f *testing.F) {
	for _, name := range []string{"lossy.webp", "lossy_alpha.webp", "lossless_alpha.webp"} {
		w := plainWebP(f, name)
		f.Add(w)
		f.Add(plantWebP(f, w, binary.LittleEndian, 8, p3Profile()))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		fuzz(t, file, func(file []byte) [][]byte {
			size := binary.LittleEndian.Uint32(file[4:])
			if size&1 != 0 { // its last chunk lacks what makes it even, and nothing can follow
				return [][]byte{slices.Concat(file, []byte("behind the end"))}
			}
			end := 8 + size
			more := slices.Concat(file[:end], webpChunk("XMP ", []byte("<x/>")), webpChunk("????", []byte("x")))
			binary.LittleEndian.PutUint32(more[4:], uint32(len(more)-8))
			return [][]byte{more, slices.Concat(file, []byte("behind the end"))}
		})
	})
}
