package picture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// fixed is a number of 15 and 16 bits.
func fixed(values ...float64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, uint32(int32(math.Round(v*65536))))
	}
	return b
}

// profileOf puts a profile together as programs do, with all that must go in its header,
// between its tags, and in tags of its own.
func profileOf(version byte, space string, tags ...profileTag) []byte {
	head := make([]byte, profileHeader)
	copy(head[4:], "lcms")
	copy(head[8:], []byte{version, 0x30})
	copy(head[12:], "mntr"+space+"XYZ ")
	copy(head[24:], "\x07\xea\x00\x0b\x00\x1a\x00\x08\x00\x1e\x00\x2a") // 2026-11-26 08:30:42
	copy(head[36:], "acspAPPL")
	copy(head[48:], "HWEIP40 Deng    ")
	copy(head[68:], d50)
	copy(head[80:], "Deng")
	copy(head[84:], "Deng Xiaolan 042")
	copy(head[100:], "30.456789N 106.632145E")
	tags = append(tags, profileTag{"zzGP", []byte("text\x00\x00\x00\x0030.456789N 106.632145E\x00")},
		profileTag{"desc", []byte("desc\x00\x00\x00\x00\x00\x00\x00\x0dDeng Xiaolan\x00")},
		profileTag{"cprt", []byte("text\x00\x00\x00\x00Deng Xiaolan\x00")},
		profileTag{"dmdd", []byte("text\x00\x00\x00\x00HUAWEI P40\x00")})
	for i := range tags {
		tags[i].data = append(slices.Clone(tags[i].data), "Deng Xiaolan"[:4*(i%4)]...)
	}
	return assembleProfile(head, tags)
}

// primaries are tags with the colours that red, green and blue are.
func primaries(rgb [9]float64) (out []profileTag) {
	for i, sign := range []string{"rXYZ", "gXYZ", "bXYZ"} {
		out = append(out, profileTag{sign, append([]byte("XYZ \x00\x00\x00\x00"), fixed(rgb[3*i:3*i+3]...)...)})
	}
	return out
}

func curves(data []byte) (out []profileTag) {
	for _, sign := range []string{"rTRC", "gTRC", "bTRC"} {
		out = append(out, profileTag{sign, data})
	}
	return out
}

var (
	srgbCurve = append([]byte("para\x00\x00\x00\x00\x00\x03\x00\x00"), fixed(2.4, 1/1.055, 0.055/1.055, 1/12.92, 0.04045)...)
	p3        = [9]float64{0.51512, 0.2412, -0.00105, 0.29198, 0.69225, 0.04189, 0.1571, 0.06657, 0.78407}
	adobe     = [9]float64{0.60974, 0.31111, 0.01947, 0.20528, 0.62567, 0.06087, 0.14919, 0.06322, 0.74457}
)

// p3Profile is Display P3, as a phone writes it.
func p3Profile() []byte {
	return profileOf(4, "RGB ", slices.Concat(primaries(p3), curves(srgbCurve), []profileTag{
		{"chad", append([]byte("sf32\x00\x00\x00\x00"), fixed(1.0479, 0.0229, -0.0502, 0.0296, 0.9905, -0.0171, -0.0092, 0.0151, 0.7517)...)},
		{"cicp", []byte("cicp\x00\x00\x00\x00\x0c\x0d\x00\x01")},
	})...)
}

// tableCurve is a curve of n points, as older programs write it.
func tableCurve(n int, gamma float64) []byte {
	b := binary.BigEndian.AppendUint32([]byte("curv\x00\x00\x00\x00"), uint32(n))
	for i := range n {
		b = binary.BigEndian.AppendUint16(b, uint16(math.Round(65535*math.Pow(float64(i)/float64(n-1), gamma))))
	}
	return b
}

// light is what a sample of 8 bits means by the curve, of 1.
func light(t testing.TB, tag []byte, sample int) float64 {
	x := float64(sample) / 255
	if string(tag[:4]) == "para" {
		var v [7]float64
		for i := range (len(tag) - 12) / 4 {
			v[min(i, 6)] = float64(int32(binary.BigEndian.Uint32(tag[12+4*i:]))) / 65536
		}
		if tag[9] != 3 {
			t.Fatalf("a curve of kind %d", tag[9])
		}
		if x >= v[4] {
			return math.Pow(v[1]*x+v[2], v[0])
		}
		return v[3] * x
	}
	n := int(binary.BigEndian.Uint32(tag[8:]))
	point := func(i int) float64 { return float64(binary.BigEndian.Uint16(tag[12+2*i:])) / 65535 }
	switch n {
	case 0:
		return x
	case 1:
		return math.Pow(x, float64(binary.BigEndian.Uint16(tag[12:]))/256)
	}
	at := x * float64(n-1)
	i := min(int(at), n-2)
	return point(i) + (at-float64(i))*(point(i+1)-point(i))
}

// shown returns the colour that a pixel has by the profile, relative to its white.
func shown(t testing.TB, profile []byte, pixel [3]int) (xyz [3]float64) {
	t.Helper()
	tags := tagsOf(profile)
	for i, c := range []string{"r", "g", "b"} {
		linear := light(t, tags[c+"TRC"], pixel[i])
		for j := range xyz {
			xyz[j] += linear * float64(int32(binary.BigEndian.Uint32(tags[c+"XYZ"][8+4*j:]))) / 65536
		}
	}
	return xyz
}

// TestProfileColours holds that the colours of profiles which cameras and programs write stay
// as they are, and nothing else of them.
func TestProfileColours(t *testing.T) {
	gamma := func(n uint16) []byte {
		return binary.BigEndian.AppendUint16([]byte("curv\x00\x00\x00\x00\x00\x00\x00\x01"), n)
	}
	for name, profile := range map[string][]byte{
		"Display P3":                p3Profile(),
		"Adobe RGB":                 profileOf(2, "RGB ", slices.Concat(primaries(adobe), curves(gamma(563)))...),
		"a table of 1024 points":    profileOf(2, "RGB ", slices.Concat(primaries(p3), curves(tableCurve(1024, 2.2)))...),
		"a table of 4096 points":    profileOf(4, "RGB ", slices.Concat(primaries(p3), curves(tableCurve(4096, 1.8)))...),
		"a table of 17 points":      profileOf(4, "RGB ", slices.Concat(primaries(p3), curves(tableCurve(17, 2.4)))...),
		"samples that are linear":   profileOf(4, "RGB ", slices.Concat(primaries(p3), curves([]byte("curv\x00\x00\x00\x00\x00\x00\x00\x00")))...),
		"a profile that is reduced": reduced(p3Profile()),
	} {
		got := reduced(profile)
		if got == nil {
			t.Errorf("%s: it is dropped", name)
			continue
		}
		for _, pixel := range [][3]int{{0, 0, 0}, {255, 255, 255}, {255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {1, 2, 3}, {17, 200, 90}, {128, 127, 12}, {250, 254, 77}} {
			was, is := shown(t, profile, pixel), shown(t, got, pixel)
			for i := range was {
				if math.Abs(was[i]-is[i]) > 1.5/65535 {
					t.Errorf("%s: %v is %v and was %v", name, pixel, is, was)
					break
				}
			}
		}
		for _, s := range append([]string{"lcms", "APPL", "HWEI", "Deng", "\x07\xea\x00\x0b"}, secrets...) {
			if bytes.Contains(got, []byte(s)) {
				t.Errorf("%s: %q is left", name, s)
			}
		}
		if again := reduced(got); !bytes.Equal(again, got) {
			t.Errorf("%s: reducing twice is not reducing once", name)
		}
		if tags := tagsOf(got); len(tags["desc"]) == 0 || len(tags["cprt"]) == 0 || len(tags["wtpt"]) == 0 {
			t.Errorf("%s: it lacks a tag that it must have", name)
		}
	}
	if tagsOf(reduced(p3Profile()))["cicp"] == nil || tagsOf(reduced(p3Profile()))["chad"] == nil {
		t.Error("Display P3 lacks the numbers of its coding or of its white")
	}
	if grey := reduced(profileOf(2, "GRAY", profileTag{"kTRC", gamma(563)})); tagsOf(grey)["kTRC"] == nil {
		t.Error("a profile of grey is dropped")
	}
}

// TestProfilesDropped holds that what could be anything but primaries and curves is dropped.
func TestProfilesDropped(t *testing.T) {
	good := slices.Concat(primaries(p3), curves(srgbCurve))
	without := func(sign string, with ...profileTag) []byte {
		return profileOf(4, "RGB ", append(slices.DeleteFunc(slices.Clone(good), func(t profileTag) bool { return t.sign == sign }), with...)...)
	}
	edit := func(at int, with ...byte) []byte {
		b := p3Profile()
		copy(b[at:], with)
		return b
	}
	text := strings.Repeat("Deng Xiaolan at 30.456789N 106.632145E ", 30)
	falling := tableCurve(512, 2.2)
	copy(falling[400:], text)
	many := slices.Clone(good)
	for i := range maxTags {
		many = append(many, profileTag{fmt.Sprintf("z%03d", i), []byte("text")})
	}
	for name, profile := range map[string][]byte{
		"nothing":                   nil,
		"text":                      []byte(text),
		"longer than it says":       append(p3Profile(), text...),
		"shorter than it says":      p3Profile()[:600],
		"of another version":        edit(8, 5),
		"a link between devices":    edit(12, []byte("link")...),
		"of colours with four inks": edit(16, []byte("CMYK")...),
		"of tables alone":           profileOf(4, "RGB ", profileTag{"A2B0", []byte("mft2\x00\x00\x00\x00" + text)}),
		"without green":             without("gXYZ"),
		"without a curve":           without("bTRC"),
		"text as a curve":           without("rTRC", profileTag{"rTRC", falling}),
		"a curve longer than it is": without("rTRC", profileTag{"rTRC", []byte("curv\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x01")}),
		"a curve of another kind":   without("rTRC", profileTag{"rTRC", append([]byte("para\x00\x00\x00\x00\x00\x05\x00\x00"), text...)}),
		"text as numbers":           without("rXYZ", profileTag{"rXYZ", []byte("XYZ \x00\x00\x00\x00Deng Xiaolan")}),
		"a tag outside it":          edit(profileHeader+4+4, 0xff, 0xff, 0xff, 0xff),
		"a tag beyond its end":      edit(profileHeader+4+8, 0x7f, 0xff, 0xff, 0xff),
		"more tags than fit":        edit(profileHeader, 0, 0, 0, maxTags),
		"too many tags":             profileOf(4, "RGB ", many...),
		"a tag twice":               profileOf(4, "RGB ", append(slices.Clone(good), good[0])...),
	} {
		if got := reduced(profile); got != nil {
			t.Errorf("%s: %d bytes are kept", name, len(got))
		}
	}
}

// TestPlantedProfile holds that nothing but colours passes with a profile through any of the
// formats, and that a profile whose parts came in another order is kept.
func TestPlantedProfile(t *testing.T) {
	planted := testFile(t, "icc_planted.jpg")
	at := bytes.Index(planted, iccPrefix)
	profile := planted[at+len(iccPrefix)+2 : at-2+int(binary.BigEndian.Uint16(planted[at-2:]))]
	want := reduced(profile)
	if want == nil {
		t.Fatal("the profile is dropped")
	}
	half := len(profile) / 2
	part := func(number, count byte, data []byte) []byte {
		return segment(app2, string(iccPrefix)+string([]byte{number, count})+string(data))
	}
	plain := plainJPEG(t, 8, 8)
	with := func(parts ...[]byte) []byte { return slices.Concat(plain[:2], slices.Concat(parts...), plain[2:]) }
	first, second := part(1, 2, profile[:half]), part(2, 2, profile[half:])
	for name, c := range map[string]struct {
		file []byte
		want []byte
	}{
		"the case":                {planted, want},
		"JPEG":                    {with(part(1, 1, profile)), want},
		"JPEG, parts swapped":     {with(second, first), want},
		"JPEG, a part is missing": {with(first), nil},
		"JPEG, a part twice":      {with(first, second, second), nil},
		"PNG":                     {plantPNG(plainPNG(t, 8, 8), binary.BigEndian, 1, profile), want},
		"WebP":                    {plantWebP(t, plainWebP(t, "lossy.webp"), binary.BigEndian, 1, profile), want},
	} {
		_, kept := clean(t, c.file)
		if got := storedProfile(t, kept); !bytes.Equal(got, c.want) {
			t.Errorf("%s: got a profile of %d bytes, want %d", name, len(got), len(c.want))
		}
		for _, s := range []string{"GPS", "PLANTED", "lcms", "mmod", "\x12\x34\x56\x78", "\x07\xea\x00\x0b"} {
			if bytes.Contains(kept, []byte(s)) {
				t.Errorf("%s: %q is left", name, s)
			}
		}
		if _, again := clean(t, kept); !bytes.Equal(kept, again) {
			t.Errorf("%s: cleaning twice is not cleaning once", name)
		}
	}
	if _, kept := clean(t, testFile(t, "icc_parts_swapped.jpg")); storedProfile(t, kept) == nil {
		t.Error("the profile whose parts are swapped is dropped")
	}
}

// storedProfile returns the profile in a file that was cleaned, or nil.
func storedProfile(t testing.TB, file []byte) []byte {
	t.Helper()
	switch {
	case bytes.HasPrefix(file, pngSignature):
		_, rest, ok := bytes.Cut(file, []byte("iCCPprofile\x00\x00"))
		if !ok {
			return nil
		}
		return unpacked(t, rest)
	case bytes.HasPrefix(file, []byte("RIFF")):
		at := bytes.Index(file, []byte("ICCP"))
		if at < 0 {
			return nil
		}
		return file[at+8 : at+8+int(binary.LittleEndian.Uint32(file[at+4:]))]
	}
	at := bytes.Index(file, iccPrefix)
	if at < 0 {
		return nil
	}
	return file[at+len(iccPrefix)+2 : at-2+int(binary.BigEndian.Uint16(file[at-2:]))]
}

// FuzzProfile holds that whatever a profile is, what is kept of it is small, and is kept as it
// is the next time.
func FuzzProfile(f *testing.F) {
	f.Add(p3Profile())
	f.Add(profileOf(2, "RGB ", slices.Concat(primaries(adobe), curves(tableCurve(1024, 2.2)))...))
	f.Add(profileOf(2, "GRAY", profileTag{"kTRC", tableCurve(1024, 2.2)}))
	f.Fuzz(func(t *testing.T, profile []byte) {
		got := reduced(profile)
		if got == nil {
			return
		}
		if len(got) > 2500 {
			t.Fatalf("%d bytes are kept", len(got))
		}
		if again := reduced(got); !bytes.Equal(got, again) {
			t.Fatalf("reducing twice is not reducing once:\n%q\n%q", got, again)
		}
	})
}
