package inspections_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/picture"
)

// TestPhotosRefused holds which photos are not taken, and that none of them refuses the
// visit, whose good photos are taken.
func TestPhotosRefused(t *testing.T) {
	const mega = 1_000_000
	good := inspections.Photo{SHA256: inspections.Digest{0xff}, Size: 1, ContentType: "image/jpeg"}
	for _, c := range []struct {
		name  string
		photo inspections.Photo
		want  inspections.Refusal
		err   error
	}{
		{"HEIC", inspections.Photo{Size: 1, ContentType: "image/heic"}, inspections.FormatUnsupported, inspections.ErrPhotoFormat},
		{"NoType", inspections.Photo{Size: 1}, inspections.FormatUnsupported, inspections.ErrPhotoFormat},
		{"Empty", inspections.Photo{ContentType: "image/jpeg"}, inspections.FormatUnsupported, inspections.ErrPhotoFormat},
		{"OfUnknownSize", inspections.Photo{Size: -1, ContentType: "image/jpeg"}, inspections.FormatUnsupported, inspections.ErrPhotoFormat},
		{"LargeHEIC", inspections.Photo{Size: 90 << 20, ContentType: "image/heic"}, inspections.FormatUnsupported, inspections.ErrPhotoFormat},
		{"LargestJPEG", inspections.Photo{Size: 40 << 20, ContentType: "image/jpeg", Width: 20_000, Height: 12_500}, "", nil},
		{"LargeJPEG", inspections.Photo{Size: 40<<20 + 1, ContentType: "image/jpeg"}, inspections.PhotoTooLarge, inspections.ErrPhotoTooLarge},
		{"LargestPNG", inspections.Photo{Size: 20 << 20, ContentType: "image/png", Width: 10_000, Height: 5_000}, "", nil},
		{"LargePNG", inspections.Photo{Size: 20<<20 + 1, ContentType: "image/png", Width: 10_000, Height: 5_001}, inspections.PhotoTooLarge, inspections.ErrPhotoTooLarge},
		{"LargeWebP", inspections.Photo{Size: 20<<20 + 1, ContentType: "image/webp"}, inspections.PhotoTooLarge, inspections.ErrPhotoTooLarge},
		{"PixelsOfJPEG", inspections.Photo{Size: 1, ContentType: "image/jpeg", Width: 20_000, Height: 12_501}, inspections.PictureTooLarge, picture.ErrTooLarge},
		{"PixelsOfPNG", inspections.Photo{Size: 1, ContentType: "image/png", Width: 8192, Height: 6144}, inspections.PictureTooLarge, picture.ErrTooLarge},
		{"PixelsOfAnInt", inspections.Photo{Size: 1, ContentType: "image/jpeg", Width: 1<<31 - 1, Height: 1<<31 - 1}, inspections.PictureTooLarge, picture.ErrTooLarge},
		{"OneSideAlone", inspections.Photo{Size: 1, ContentType: "image/jpeg", Width: 1<<31 - 1}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			in := w.checkIn(1)
			in.Photos = []inspections.Photo{c.photo, good}
			stored := w.submit(t, in)
			got, err := w.Get(t.Context(), in.Site, in.ID)
			must(t, err)
			if len(got.Photos) != 2 || got.Photos[0].Refused != c.want || got.Photos[1] != good || !slices.Equal(got.Photos, stored.Photos) {
				t.Fatalf("got %+v, want it refused as %q, and %+v", got.Photos, c.want, good)
			}
			if err := w.Refused(got.Photos[0]); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			if _, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, in, time.Time{}); err != nil || !duplicate {
				t.Errorf("got %v, %v; want the repeat equal", duplicate, err)
			}
		})
	}
	t.Run("ByFlag", func(t *testing.T) {
		w := newWorld(t)
		w.Limits = picture.Limits{JPEGBytes: 5, JPEGPixels: 12 * mega}
		in := w.checkIn(1)
		in.Photos = []inspections.Photo{
			{SHA256: inspections.Digest{1}, Size: 5, ContentType: "image/jpeg", Width: 4000, Height: 3000},
			{SHA256: inspections.Digest{2}, Size: 6, ContentType: "image/jpeg"},
			{SHA256: inspections.Digest{3}, Size: 5, ContentType: "image/jpeg", Width: 4000, Height: 3001},
			{SHA256: inspections.Digest{4}, Size: 6, ContentType: "image/png"},
		}
		var got []inspections.Refusal
		for _, p := range w.submit(t, in).Photos {
			got = append(got, p.Refused)
		}
		if want := []inspections.Refusal{"", inspections.PhotoTooLarge, inspections.PictureTooLarge, ""}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		// What was judged once stays so under other limits.
		w.Limits = picture.Limits{}
		again, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, in, time.Time{})
		if err != nil || !duplicate || again.Photos[1].Refused != inspections.PhotoTooLarge {
			t.Errorf("got %+v, %v, %v; want the first answer", again, duplicate, err)
		}
	})
}

// TestTooManyPhotos holds that the first ten that can be kept are, however many others
// there are among them.
func TestTooManyPhotos(t *testing.T) {
	w := newWorld(t)
	in := w.checkIn(1)
	in.Photos = somePhotos(100)
	for i := range in.Photos[:50] {
		if i%2 == 0 {
			in.Photos[i].ContentType = "image/heif"
		}
	}
	taken := 0
	for i, p := range w.submit(t, in).Photos {
		want := inspections.Refusal("")
		switch {
		case i < 50 && i%2 == 0:
			want = inspections.FormatUnsupported
		case taken == 10:
			want = inspections.TooManyPhotos
		default:
			taken++
		}
		if p.Refused != want {
			t.Errorf("photo %d: got %q, want %q", i, p.Refused, want)
		}
	}
	if _, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, in, time.Time{}); err != nil || !duplicate {
		t.Errorf("got %v, %v; want the repeat equal", duplicate, err)
	}
}

// TestPhotosAsPhonesWriteThem holds that the spellings of a type are one, that a file is one
// photo however often it is declared, and that an app that says more of it after an update
// still repeats the same visit.
func TestPhotosAsPhonesWriteThem(t *testing.T) {
	w := newWorld(t)
	for i, c := range []struct{ says, want string }{
		{"image/jpg", "image/jpeg"},
		{"image/pjpeg", "image/jpeg"},
		{"IMAGE/JPEG", "image/jpeg"},
		{" image/jpeg ; quality=90", "image/jpeg"},
		{"image/x-png", "image/png"},
		{"Image/WebP", "image/webp"},
		{"image/HEIC", "image/heic"},
		{"Deng Xiaolan, 13800138000", ""},
		{"jpeg", ""},
		{`video/mp4; codecs="avc1.640028, mp4a.40.2"; profiles="` + strings.Repeat("isom,mp42,", 90) + `"`, "video/mp4"},
		{"image/" + strings.Repeat("x", 95), ""},
	} {
		in := w.checkIn(i)
		in.Photos = []inspections.Photo{{SHA256: inspections.Digest{byte(i)}, Size: 5, ContentType: c.says}}
		stored := w.submit(t, in)
		if got := stored.Photos[0]; got.ContentType != c.want || (got.Refused == "") != (strings.HasPrefix(c.want, "image/") && c.want != "image/heic") {
			t.Errorf("%q: got %+v, want %q", c.says, got, c.want)
		}
		in.Photos[0].ContentType, in.Photos[0].Width, in.Photos[0].Height = c.want, 20_000, 20_000
		if again, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, in, time.Time{}); err != nil || !duplicate || again.Photos[0].Refused != stored.Photos[0].Refused {
			t.Errorf("%q: got %v, %v; want a repeat that changes nothing", c.says, duplicate, err)
		}
	}
	in := w.checkIn(20)
	right := inspections.Photo{SHA256: inspections.Digest{20}, Size: 5, ContentType: "image/jpeg"}
	for _, wrong := range []inspections.Photo{
		right,
		{SHA256: right.SHA256, Size: -1, ContentType: "image/jpeg"},
		{SHA256: right.SHA256, Size: 9, ContentType: "application/octet-stream"},
	} {
		in.Photos = []inspections.Photo{right, wrong}
		stored, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, in, time.Time{})
		must(t, err)
		if !slices.Equal(stored.Photos, []inspections.Photo{right}) {
			t.Errorf("got %+v, want %+v alone", stored.Photos, right)
		}
		slices.Reverse(in.Photos)
		if _, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, in, time.Time{}); err != nil || !duplicate {
			t.Errorf("got %v, %v; want the repeat equal, in whichever order", duplicate, err)
		}
	}
}

// TestRefusedPhotoIsNotUsed holds that a photo that was not taken was not used either.
func TestRefusedPhotoIsNotUsed(t *testing.T) {
	w := newWorld(t)
	c := w.withPhoto(1, inspections.Digest{1})
	c.Photos[0].ContentType = "image/heic"
	w.submit(t, c)
	w.wantUnused(t, 2, inspections.Digest{1})
	c = w.withPhoto(3, inspections.Digest{1}, inspections.Digest{2})
	c.Photos[0].ContentType = "image/heic"
	if got := w.submit(t, c); got.Has(inspections.PhotoReused) {
		t.Errorf("got %+v, want none of them used before", got.Reused)
	}
}

// TestUseOf holds the name that records have of a check-in for ever. Any SHA-256 program
// gives it.
func TestUseOf(t *testing.T) {
	c := inspections.CheckInRef{Site: "3f2504e0-4f89-41d3-9a0c-0305e82c3301", CheckIn: "11111111-0000-4000-8000-000000000001"}
	const want = "295a57d9efb0a2020f4e506de53e9ade18848bf702fd2e8a865c6a19e60b66d0"
	if got := inspections.UseOf(c); got.Name.String() != want || got.First != c {
		t.Errorf("got %s, want %s", got.Name, want)
	}
}
