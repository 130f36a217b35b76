package rpc

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/inspections/picture"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestPhotosRefused holds that a photo that cannot be kept never refuses its visit, and that
// all who ask are told why it is refused, by which limit and what to do, in their language.
func TestPhotosRefused(t *testing.T) {
	chinese := metadata.AppendToOutgoingContext(t.Context(), "accept-language", "zh-CN")
	for _, test := range []struct {
		name   string
		change func(*xunchav1.Photo)
		reason string
		en, zh []string
	}{
		{"HEIC", func(p *xunchav1.Photo) { p.ContentType = "image/HEIC" }, "PHOTO_FORMAT_UNSUPPORTED",
			[]string{"image/heic", "JPEG", "another check-in"}, []string{"image/heic", "JPEG", "另行提交"}},
		{"NoType", func(p *xunchav1.Photo) { p.ContentType = "?" }, "PHOTO_FORMAT_UNSUPPORTED",
			[]string{"JPEG", "another check-in"}, []string{"JPEG", "另行提交"}},
		{"Empty", func(p *xunchav1.Photo) { p.SizeBytes = 0 }, "PHOTO_FORMAT_UNSUPPORTED", []string{"empty"}, []string{"为空"}},
		{"SizeUnknown", func(p *xunchav1.Photo) { p.SizeBytes, p.Width, p.Height = -1, -1, -1 }, "PHOTO_FORMAT_UNSUPPORTED", []string{"empty"}, []string{"为空"}},
		{"PNGOf21MB", func(p *xunchav1.Photo) { p.ContentType, p.SizeBytes = "image/png", 21<<20 }, "PHOTO_TOO_LARGE",
			[]string{"21 MB", "20 MB", "lower resolution"}, []string{"21 MB", "20 MB", "分辨率"}},
		{"JPEGOf40MBAndAByte", func(p *xunchav1.Photo) { p.SizeBytes = 40<<20 + 1 }, "PHOTO_TOO_LARGE", []string{"40.1 MB", "40 MB"}, []string{"40.1 MB", "40 MB"}},
		{"JPEGOf251Megapixels", func(p *xunchav1.Photo) { p.Width, p.Height = 20_080, 12_500 }, "PICTURE_TOO_LARGE",
			[]string{"20080 × 12500", "250 megapixels"}, []string{"20080×12500", "25000万像素"}},
		{"WebPOf50Megapixels", func(p *xunchav1.Photo) { p.ContentType, p.Width, p.Height = "image/webp", 8192, 6144 }, "PICTURE_TOO_LARGE",
			[]string{"8192 × 6144", "50 megapixels"}, []string{"8192×6144", "5000万像素"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			c := w.checkIn(0)
			other := makePhoto(7, 90, 60, "")
			c.Photos = declare(testPhoto, other)
			test.change(c.Photos[0])
			first := must(w.checkIns.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t).Receipt
			wantRefused(t, first.Photos, test.reason, "en", test.en)
			again := must(w.checkIns.SubmitCheckIn(chinese, &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t).Receipt
			wantRefused(t, again.Photos, test.reason, "zh-CN", test.zh)
			if !again.Duplicate || !bytes.Equal(again.EntryHash, first.EntryHash) {
				t.Errorf("got %v, want the first receipt", again)
			}
			_, err := w.upload(t.Context(), uploadSpec(c, testPhoto, 0), data(testPhoto))
			wantStatus(t, err, codes.InvalidArgument, test.reason, "spec.sha256")
			w.mustUpload(t, t.Context(), c, other)

			state := must(w.photos.GetPhotoUpload(chinese, &xunchav1.GetPhotoUploadRequest{Sha256: sum(testPhoto), SiteId: c.SiteId, CheckInId: c.CheckInId}))(t)
			if state.ReceivedBytes != 0 || state.Stored || state.Refused.GetMessage() != again.Photos[0].Refused.Message {
				t.Errorf("got %v, want it refused as in the receipt", state)
			}
			_, _, err = w.download(t.Context(), c, testPhoto, xunchav1.Variant_VARIANT_FULL)
			wantStatus(t, err, codes.FailedPrecondition, "PHOTO_NOT_STORED", "sha256")

			item := must(w.checkIns.GetCheckIn(t.Context(), &xunchav1.GetCheckInRequest{SiteId: c.SiteId, CheckInId: c.CheckInId}))(t)
			wantRefused(t, item.Receipt.Photos, test.reason, "en", test.en)
			list := must(w.checkIns.ListCheckIns(chinese, &xunchav1.ListCheckInsRequest{SiteId: c.SiteId}))(t)
			wantRefused(t, list.Items[0].Receipt.Photos, test.reason, "zh-CN", test.zh)
			history := must(w.audit.ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: c.SiteId, IncludeRecords: true}))(t)
			i := slices.IndexFunc(history.Entries, func(e *xunchav1.HistoryEntry) bool { return e.GetCheckIn() != nil })
			for _, in := range []*xunchav1.CheckIn{item.CheckIn, list.Items[0].CheckIn, history.Entries[i].GetCheckIn()} {
				if p := in.Photos; reasonName(p[0].RefusedReason) != test.reason || p[1].RefusedReason != 0 || p[0].Width != max(0, c.Photos[0].Width) {
					t.Errorf("got %v", p)
				}
			}
			if n := bytes.Count(history.Entries[i].Record, []byte(`"refused":`)); n != 1 {
				t.Errorf("the record has %d refusals: %s", n, history.Entries[i].Record)
			}
		})
	}
}

// TestRefusedUnderSmallerLimits holds that nobody is told that a photo has too much where it
// has less than the limit that is named, since larger ones are set by now.
func TestRefusedUnderSmallerLimits(t *testing.T) {
	c := Config{Inspections: inspections.New(inspections.Config{})}
	for _, p := range []inspections.Photo{
		{Size: 30 << 20, ContentType: picture.JPEG, Refused: inspections.PhotoTooLarge},
		{Size: 1, ContentType: picture.JPEG, Width: 12_000, Height: 9000, Refused: inspections.PictureTooLarge},
	} {
		for language, says := range map[string]string{"en": "Now it can be kept: send another check-in", "zh-CN": "现在可以保存，请另行提交一次检查"} {
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("accept-language", language))
			if got := c.refused(ctx)(p); got.Locale != language || !strings.Contains(got.Message, says) || strings.Contains(got.Message, "at most") {
				t.Errorf("%s: got %v", p.Refused, got)
			}
		}
	}
}

// TestRefusalsSayWhatToDo holds that whatever refuses a photo for good tells the officer to
// take or send it again, with another check-in.
func TestRefusalsSayWhatToDo(t *testing.T) {
	for _, err := range []error{
		inspections.ErrPhotoFormat, inspections.ErrPhotoTooLarge, inspections.ErrTooManyPhotos, picture.ErrTooLarge,
		picture.ErrNotPicture, photos.ErrType, photos.ErrSize, photos.ErrUnknown,
	} {
		if m := meaningOf(err); !strings.Contains(m.en, "another check-in") || !strings.Contains(m.zh, "另行提交一次检查") {
			t.Errorf("%v: got %q and %q", err, m.en, m.zh)
		}
	}
}

// wantRefused holds that the first of two photos is refused, and the second is taken.
func wantRefused(t *testing.T, photos []*xunchav1.PhotoReceipt, reason, locale string, says []string) {
	t.Helper()
	if len(photos) != 2 || photos[0].Refused == nil || photos[1].Refused != nil {
		t.Fatalf("got %v, want the first refused and the second not", photos)
	}
	r := photos[0].Refused
	if reasonName(r.Reason) != reason || r.Locale != locale {
		t.Errorf("got %v, want %s in %s", r, reason, locale)
	}
	for _, text := range says {
		if !strings.Contains(r.Message, text) {
			t.Errorf("%q does not say %q", r.Message, text)
		}
	}
}

// TestElevenPhotos holds that the first ten photos that can be kept are, that one receipt
// comes back for each photo of the call, and that a hundred are no fault.
func TestElevenPhotos(t *testing.T) {
	w := newWorld(t)
	c := w.checkIn(0)
	var files [][]byte
	for i := range 12 {
		files = append(files, makePhoto(i+1, 20, 10, ""))
	}
	c.Photos = declare(files...)
	c.Photos[3].ContentType = "image/heif"
	submit := func(c *xunchav1.CheckIn) *xunchav1.Receipt {
		t.Helper()
		return must(w.checkIns.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t).Receipt
	}
	want := func(r *xunchav1.Receipt) {
		t.Helper()
		for i, p := range r.Photos {
			reason := map[int]string{3: "PHOTO_FORMAT_UNSUPPORTED", 11: "TOO_MANY_PHOTOS"}[i]
			if got := p.Refused.GetReason(); (got != 0) != (reason != "") || got != 0 && reasonName(got) != reason {
				t.Errorf("photo %d: got %v, want %q", i, p.Refused, reason)
			}
		}
	}
	want(submit(c))
	for i, f := range files {
		if i != 3 && i != 11 {
			w.mustUpload(t, context.Background(), c, f)
		}
	}
	_, err := w.upload(t.Context(), uploadSpec(c, files[11], 0))
	wantStatus(t, err, codes.InvalidArgument, "TOO_MANY_PHOTOS", "spec.sha256")

	// A file that is declared twice is one photo, and its receipt comes twice.
	c.Photos = append(c.Photos, c.Photos[0])
	again := submit(c)
	if n := len(again.Photos); n != 13 || !again.Duplicate || !again.Photos[12].Stored || !bytes.Equal(again.Photos[12].Sha256, sum(files[0])) {
		t.Fatalf("got %v, want a receipt for each photo of the call", again)
	}
	want(again)
	if n := len(must(w.checkIns.GetCheckIn(t.Context(), &xunchav1.GetCheckInRequest{SiteId: c.SiteId, CheckInId: c.CheckInId}))(t).CheckIn.Photos); n != 12 {
		t.Errorf("the check-in has %d photos, want 12", n)
	}

	c = w.checkIn(0)
	for i := range 100 {
		c.Photos = append(c.Photos, &xunchav1.Photo{Sha256: sum([]byte{byte(i)}), SizeBytes: 1, ContentType: "image/jpeg"})
	}
	refused := 0
	for _, p := range submit(c).Photos {
		if p.Refused != nil {
			refused++
		}
	}
	if refused != 90 {
		t.Errorf("%d of 100 are refused, want 90", refused)
	}
}
