package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

// testPhoto is a JPEG of 900 by 600 pixels with a comment in it.
var testPhoto = makePhoto(1, 900, 600, "Deng Xiaolan was here")

func makePhoto(seed, width, height int, comment string) []byte {
	m := image.NewGray(image.Rect(0, 0, width, height))
	for i := range m.Pix {
		m.Pix[i] = byte(i*seed ^ i>>9)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		panic(err)
	}
	return slices.Concat(b.Bytes()[:2], []byte{0xff, 0xfe, 0, byte(2 + len(comment))}, []byte(comment), b.Bytes()[2:])
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

func declare(files ...[]byte) (out []*xunchav1.Photo) {
	for _, f := range files {
		out = append(out, &xunchav1.Photo{Sha256: sum(f), SizeBytes: int64(len(f)), ContentType: "image/jpeg"})
	}
	return out
}

func uploadSpec(c *xunchav1.CheckIn, file []byte, offset int) *xunchav1.UploadPhotoRequest {
	return &xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Spec{Spec: &xunchav1.PhotoUploadSpec{
		Sha256: sum(file), CheckInId: c.CheckInId, SiteId: c.SiteId, Offset: int64(offset),
	}}}
}

func data(b []byte) *xunchav1.UploadPhotoRequest {
	return &xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Data{Data: b}}
}

// upload sends the messages as one stream.
func (w *world) upload(ctx context.Context, messages ...*xunchav1.UploadPhotoRequest) (*xunchav1.UploadPhotoResponse, error) {
	stream, err := w.photos.UploadPhoto(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if stream.Send(m) != nil {
			break // and CloseAndRecv says why
		}
	}
	return stream.CloseAndRecv()
}

// send uploads a part of the file in messages of 16 KiB.
func (w *world) send(ctx context.Context, c *xunchav1.CheckIn, file []byte, from, to int) (*xunchav1.UploadPhotoResponse, error) {
	messages := []*xunchav1.UploadPhotoRequest{uploadSpec(c, file, from)}
	for part := range slices.Chunk(file[from:to], 16<<10) {
		messages = append(messages, data(part))
	}
	return w.upload(ctx, messages...)
}

func (w *world) mustUpload(t testing.TB, ctx context.Context, c *xunchav1.CheckIn, file []byte) {
	t.Helper()
	got := must(w.send(ctx, c, file, 0, len(file)))(t)
	if !got.Stored || got.ReceivedBytes != int64(len(file)) {
		t.Fatalf("got %v, want it stored", got)
	}
}

// download returns a photo and what was said of its file.
func (w *world) download(ctx context.Context, c *xunchav1.CheckIn, file []byte, v xunchav1.Variant) (*xunchav1.PhotoFile, []byte, error) {
	stream, err := w.photos.DownloadPhoto(ctx, &xunchav1.DownloadPhotoRequest{Sha256: sum(file), SiteId: c.SiteId, CheckInId: c.CheckInId, Variant: v})
	if err != nil {
		return nil, nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	var b []byte
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return first.GetFile(), b, nil
		}
		if err != nil {
			return first.GetFile(), b, err
		}
		b = append(b, m.GetData()...)
	}
}

// visit submits a check-in that declares the files.
func (w *world) visit(t testing.TB, site int, files ...[]byte) (*xunchav1.CheckIn, *xunchav1.Receipt) {
	t.Helper()
	c := w.checkIn(site)
	c.Photos = declare(files...)
	return c, w.submit(t, c)
}

func TestPhotos(t *testing.T) {
	w := newWorld(t)
	other := makePhoto(3, 10, 10, "")
	c, receipt := w.visit(t, 0, testPhoto, other)
	if p := receipt.Photos; len(p) != 2 || p[0].Stored || p[0].ReceivedBytes != 0 || !bytes.Equal(p[1].Sha256, sum(other)) {
		t.Errorf("got %v", receipt.Photos)
	}
	ask := func() *xunchav1.GetPhotoUploadResponse {
		t.Helper()
		return must(w.photos.GetPhotoUpload(t.Context(), &xunchav1.GetPhotoUploadRequest{Sha256: sum(testPhoto), SiteId: c.SiteId, CheckInId: c.CheckInId}))(t)
	}
	if got := ask(); got.ReceivedBytes != 0 || got.Stored || got.SizeBytes != int64(len(testPhoto)) {
		t.Errorf("got %v", got)
	}
	if got := must(w.send(t.Context(), c, testPhoto, 0, 5000))(t); got.ReceivedBytes != 5000 || got.Stored {
		t.Errorf("got %v", got)
	}
	_, _, err := w.download(t.Context(), c, testPhoto, xunchav1.Variant_VARIANT_FULL)
	wantStatus(t, err, codes.FailedPrecondition, "PHOTO_NOT_STORED", "sha256")
	if got := must(w.checkIns.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t).Receipt; !got.Duplicate || got.Photos[0].ReceivedBytes != 5000 {
		t.Errorf("got %v", got)
	}
	if got := must(w.send(t.Context(), c, testPhoto, 5000, len(testPhoto)))(t); got.ReceivedBytes != int64(len(testPhoto)) || !got.Stored {
		t.Errorf("got %v", got)
	}
	if got := ask(); !got.Stored || got.Purged || got.ReceivedBytes != got.SizeBytes {
		t.Errorf("got %v", got)
	}
	item := must(w.checkIns.GetCheckIn(t.Context(), &xunchav1.GetCheckInRequest{SiteId: c.SiteId, CheckInId: c.CheckInId}))(t)
	if p := item.Receipt.Photos; !p[0].Stored || p[1].Stored {
		t.Errorf("got %v", p)
	}
	items := must(w.checkIns.ListCheckIns(t.Context(), &xunchav1.ListCheckInsRequest{SiteId: c.SiteId}))(t).Items
	if len(items) != 1 || !items[0].Receipt.Photos[0].Stored {
		t.Errorf("got %v", items)
	}

	file, full, err := w.download(t.Context(), c, testPhoto, xunchav1.Variant_VARIANT_FULL)
	if err != nil {
		t.Fatal(err)
	}
	if file.ContentType != "image/jpeg" || file.SizeBytes != int64(len(full)) || !bytes.Equal(file.Sha256, sum(full)) || bytes.Contains(full, []byte("Deng")) {
		t.Errorf("got %v and %d bytes", file, len(full))
	}
	file, small, err := w.download(t.Context(), c, testPhoto, xunchav1.Variant_VARIANT_THUMBNAIL)
	if err != nil {
		t.Fatal(err)
	}
	size := must(jpeg.DecodeConfig(bytes.NewReader(small)))(t)
	if size.Width != 320 || size.Height != 213 || file.SizeBytes != int64(len(small)) || !bytes.Equal(file.Sha256, sum(small)) {
		t.Errorf("got %v, %v", size, file)
	}

	history := must(w.audit.ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: c.SiteId, IncludeRecords: true}))(t).Entries
	e := history[0]
	event := e.GetPhotoEvent()
	if e.Kind != xunchav1.EntryKind_ENTRY_KIND_PHOTO_STORED || event == nil || event.CheckInId != c.CheckInId || !bytes.Equal(event.Sha256, sum(testPhoto)) ||
		!bytes.Equal(event.StoredSha256, sum(full)) || event.StoredSizeBytes != int64(len(full)) || event.ContentType != "image/jpeg" || event.FirstCheckInId != "" {
		t.Errorf("got %v", e)
	}

	again, receipt := w.visit(t, 1, testPhoto)
	if !slices.Contains(receipt.Flags, xunchav1.Flag_FLAG_PHOTO_REUSED) || receipt.Photos[0].Stored {
		t.Errorf("got %v", receipt)
	}
	item = must(w.checkIns.GetCheckIn(t.Context(), &xunchav1.GetCheckInRequest{SiteId: again.SiteId, CheckInId: again.CheckInId}))(t)
	if p := item.CheckIn.Photos[0]; p.FirstSiteId != c.SiteId || p.FirstCheckInId != c.CheckInId {
		t.Errorf("got %v, want the check-in of the first use", p)
	}
}

func TestUploadErrors(t *testing.T) {
	w := newWorld(t)
	text := []byte("<html>this is no picture</html>")
	bomb := bytes.Clone(testPhoto)
	copy(bomb[bytes.Index(bomb, []byte{0xff, 0xc0})+5:], []byte{0xff, 0xff, 0xff, 0xff})
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 5, 5))); err != nil {
		t.Fatal(err)
	}
	c, _ := w.visit(t, 0, testPhoto, text, bomb, b.Bytes())
	altered := bytes.Clone(testPhoto)
	altered[9000] ^= 1
	stranger := &xunchav1.CheckIn{SiteId: c.SiteId, CheckInId: "00000000-0000-4000-8000-000000000000"}
	for name, test := range map[string]struct {
		messages []*xunchav1.UploadPhotoRequest
		code     codes.Code
		reason   string
		field    string
	}{
		"Nothing":        {nil, codes.InvalidArgument, "MISSING_FIELD", "spec"},
		"NoSpec":         {[]*xunchav1.UploadPhotoRequest{data([]byte("x"))}, codes.InvalidArgument, "MISSING_FIELD", "spec"},
		"NeitherPart":    {[]*xunchav1.UploadPhotoRequest{{}}, codes.InvalidArgument, "MISSING_FIELD", "part"},
		"SpecTwice":      {[]*xunchav1.UploadPhotoRequest{uploadSpec(c, testPhoto, 0), uploadSpec(c, testPhoto, 0)}, codes.InvalidArgument, "INVALID_FIELD", "spec"},
		"OtherPhoto":     {[]*xunchav1.UploadPhotoRequest{uploadSpec(c, altered, 0)}, codes.NotFound, "PHOTO_NOT_FOUND", "spec.sha256"},
		"OtherCheckIn":   {[]*xunchav1.UploadPhotoRequest{uploadSpec(stranger, testPhoto, 0)}, codes.NotFound, "CHECK_IN_NOT_FOUND", "spec.check_in_id"},
		"NegativeOffset": {[]*xunchav1.UploadPhotoRequest{uploadSpec(c, testPhoto, -1)}, codes.InvalidArgument, "OUT_OF_RANGE", "spec.offset"},
		"Gap":            {[]*xunchav1.UploadPhotoRequest{uploadSpec(c, testPhoto, 7)}, codes.OutOfRange, "PHOTO_OFFSET", "spec.offset"},
		"Hash":           {[]*xunchav1.UploadPhotoRequest{uploadSpec(c, testPhoto, 0), data(altered)}, codes.InvalidArgument, "PHOTO_HASH_MISMATCH", "data"},
		"Size":           {[]*xunchav1.UploadPhotoRequest{uploadSpec(c, testPhoto, 0), data(testPhoto), data([]byte("x"))}, codes.InvalidArgument, "PHOTO_SIZE_MISMATCH", "data"},
		"Type":           {[]*xunchav1.UploadPhotoRequest{uploadSpec(c, b.Bytes(), 0), data(b.Bytes())}, codes.InvalidArgument, "PHOTO_TYPE_MISMATCH", "data"},
		"NoPicture":      {[]*xunchav1.UploadPhotoRequest{uploadSpec(c, text, 0), data(text)}, codes.InvalidArgument, "NOT_A_PICTURE", "data"},
		"Bomb":           {[]*xunchav1.UploadPhotoRequest{uploadSpec(c, bomb, 0), data(bomb)}, codes.InvalidArgument, "PICTURE_TOO_LARGE", "data"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.upload(t.Context(), test.messages...)
			wantStatus(t, err, test.code, test.reason, test.field)
		})
	}
	// And then the right one.
	w.mustUpload(t, t.Context(), c, testPhoto)
	_, _, err := w.download(t.Context(), c, text, xunchav1.Variant_VARIANT_FULL)
	wantStatus(t, err, codes.FailedPrecondition, "PHOTO_NOT_STORED", "sha256")
}

// TestUploadIsCut gives up in the middle: what the server has taken stays, and
// the next upload goes on there.
func TestUploadIsCut(t *testing.T) {
	w := newWorld(t)
	big := makePhoto(7, 2000, 1500, "")
	c, _ := w.visit(t, 0, big)
	received := func() int {
		return int(must(w.photos.GetPhotoUpload(t.Context(), &xunchav1.GetPhotoUploadRequest{Sha256: sum(big), SiteId: c.SiteId, CheckInId: c.CheckInId}))(t).ReceivedBytes)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream := must(w.photos.UploadPhoto(ctx))(t)
	sent := 300_000
	for _, m := range []*xunchav1.UploadPhotoRequest{uploadSpec(c, big, 0), data(big[:sent])} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "some of the photo", func() bool { return received() > 0 })
	cancel()
	if err := stream.RecvMsg(new(xunchav1.UploadPhotoResponse)); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	at := received()
	if at < sent-64<<10 || at > sent {
		t.Errorf("of %d bytes there are %d", sent, at)
	}
	if got := must(w.send(t.Context(), c, big, at, len(big)))(t); !got.Stored {
		t.Errorf("got %v, want it stored", got)
	}
}

// callLines returns the log's lines of ended calls of the method, and those of
// errors.
func (w *world) callLines(method string) (calls, errs []string) {
	for l := range strings.Lines(w.log.String()) {
		switch {
		case strings.Contains(l, `"level":"ERROR"`):
			errs = append(errs, l)
		case strings.Contains(l, `"msg":"call"`) && strings.Contains(l, method+`"`):
			calls = append(calls, l)
		}
	}
	return calls, errs
}

// TestCutCalls cuts calls in their middle. That is the caller's doing, or the
// network's: the log has the call's line and no error of the server.
func TestCutCalls(t *testing.T) {
	t.Parallel()
	big := makePhoto(7, 2000, 1500, "")
	for _, test := range []struct {
		name, method string
		cut          func(t *testing.T, w *world, c *xunchav1.CheckIn, photos xunchav1.PhotoServiceClient, hangUp func())
	}{
		{"UploadIsCancelled", "UploadPhoto", func(t *testing.T, w *world, c *xunchav1.CheckIn, photos xunchav1.PhotoServiceClient, _ func()) {
			ctx, cancel := context.WithCancel(t.Context())
			w.beginUpload(t, must(photos.UploadPhoto(ctx))(t), c, big)
			cancel()
		}},
		{"UploadLosesItsConnection", "UploadPhoto", func(t *testing.T, w *world, c *xunchav1.CheckIn, photos xunchav1.PhotoServiceClient, hangUp func()) {
			w.beginUpload(t, must(photos.UploadPhoto(t.Context()))(t), c, big)
			hangUp()
		}},
		{"UploadRunsOutOfTime", "UploadPhoto", func(t *testing.T, w *world, c *xunchav1.CheckIn, photos xunchav1.PhotoServiceClient, _ func()) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			w.beginUpload(t, must(photos.UploadPhoto(ctx))(t), c, big)
		}},
		{"DownloadIsCancelled", "DownloadPhoto", func(t *testing.T, w *world, c *xunchav1.CheckIn, photos xunchav1.PhotoServiceClient, _ func()) {
			w.mustUpload(t, t.Context(), c, big)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream := must(photos.DownloadPhoto(ctx, &xunchav1.DownloadPhotoRequest{Sha256: sum(big), SiteId: c.SiteId, CheckInId: c.CheckInId}))(t)
			must(stream.Recv())(t) // and no more, so the server waits for room to send
		}},
		{"DownloadLosesItsConnection", "DownloadPhoto", func(t *testing.T, w *world, c *xunchav1.CheckIn, photos xunchav1.PhotoServiceClient, hangUp func()) {
			w.mustUpload(t, t.Context(), c, big)
			stream := must(photos.DownloadPhoto(t.Context(), &xunchav1.DownloadPhotoRequest{Sha256: sum(big), SiteId: c.SiteId, CheckInId: c.CheckInId}))(t)
			must(stream.Recv())(t)
			hangUp()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			c, _ := w.visit(t, 0, big)
			conn := w.dial(t)
			test.cut(t, w, c, xunchav1.NewPhotoServiceClient(conn), func() { conn.Close() })
			var lines []string
			waitFor(t, "the call's end", func() bool {
				lines, _ = w.callLines(test.method)
				return len(lines) > 0
			})
			if !strings.Contains(lines[0], `"code":"Canceled"`) && !strings.Contains(lines[0], `"code":"Unavailable"`) && !strings.Contains(lines[0], `"code":"DeadlineExceeded"`) {
				t.Errorf("got %s", lines[0])
			}
			if _, errs := w.callLines(test.method); len(errs) > 0 {
				t.Errorf("the log has %s", errs)
			}
		})
	}
}

// beginUpload sends the beginning of the photo and waits until some of it has
// come.
func (w *world) beginUpload(t *testing.T, stream grpc.ClientStreamingClient[xunchav1.UploadPhotoRequest, xunchav1.UploadPhotoResponse], c *xunchav1.CheckIn, file []byte) {
	t.Helper()
	for _, m := range []*xunchav1.UploadPhotoRequest{uploadSpec(c, file, 0), data(file[:300_000])} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "some of the photo", func() bool {
		return must(w.photos.GetPhotoUpload(t.Context(), &xunchav1.GetPhotoUploadRequest{
			Sha256: sum(file), SiteId: c.SiteId, CheckInId: c.CheckInId,
		}))(t).ReceivedBytes > 0
	})
}

// waitFor waits until the condition holds.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// TestPhotoAccess holds that whoever looks at a photo is on record, and that
// photos follow a check-in whose site has moved away.
func TestPhotoAccess(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	w.create(t, "head", accounts.Head, "511602")
	w.create(t, "auditor", accounts.Auditor, "511602")
	w.create(t, "officer", accounts.Officer, "511602")
	w.create(t, "mover", accounts.Admin, "511600")
	head, auditor := with(t.Context(), w.signIn(t, "head")), with(t.Context(), w.signIn(t, "auditor"))
	officer, mover := with(t.Context(), w.signIn(t, "officer")), with(t.Context(), w.signIn(t, "mover"))
	own, other := areas[0].site, areas[1].site
	visited := func(site string) *xunchav1.CheckIn {
		return &xunchav1.CheckIn{SiteId: site, CheckInId: w.visited[site]}
	}
	for range 2 {
		if _, _, err := w.download(head, visited(own), testPhoto, xunchav1.Variant_VARIANT_THUMBNAIL); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := w.download(head, visited(other), testPhoto, xunchav1.Variant_VARIANT_FULL)
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "site_id")
	list := must(w.audit.ListAccesses(auditor, &xunchav1.ListAccessesRequest{SiteId: own}))(t).Accesses
	if len(list) != 1 || list[0].Account != "head" || list[0].Method != "xuncha.v1.PhotoService/DownloadPhoto" ||
		list[0].CheckInId != w.visited[own] || !bytes.Equal(list[0].PhotoSha256, sum(testPhoto)) {
		t.Errorf("got %v, want one access of head", list)
	}

	late := makePhoto(5, 20, 20, "")
	c := w.checkIn(0)
	c.SiteId, c.Photos = own, declare(late)
	must(w.checkIns.SubmitCheckIn(officer, &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t)
	w.advance(time.Minute)
	must(w.roster.MoveSite(mover, &xunchav1.MoveSiteRequest{SiteId: own, DivisionCode: areas[1].village}))(t)
	w.advance(time.Minute)
	w.mustUpload(t, officer, c, late)
	_, _, err = w.download(officer, c, late, xunchav1.Variant_VARIANT_FULL)
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "site_id")
	// A check-in that does not exist tells nothing of its site.
	_, err = w.send(officer, &xunchav1.CheckIn{SiteId: own, CheckInId: "00000000-0000-4000-8000-000000000000"}, late, 0, 1)
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "spec.site_id")
}

// TestThumbnailsAtOnce asks for the same thumbnail many times at once; whoever
// leaves early takes it from nobody.
func TestThumbnailsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	big := makePhoto(1, 4000, 3000, "")
	c, _ := w.visit(t, 0, big)
	w.mustUpload(t, t.Context(), c, big)
	leaving, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			ctx := t.Context()
			if i == 0 {
				ctx = leaving
			}
			_, small, err := w.download(ctx, c, big, xunchav1.Variant_VARIANT_THUMBNAIL)
			if i == 0 && status.Code(err) == codes.Canceled {
				return
			}
			if err != nil || len(small) == 0 {
				t.Errorf("got %d bytes, %v", len(small), err)
			}
		})
	}
	leave()
	all.Wait()
}

// TestNoThumbnail holds that a picture that would take too much memory is
// refused, and still shown in full.
func TestNoThumbnail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var b bytes.Buffer
	// A line of ten million pixels: small, and in a thumbnail's rows very long.
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 10_000_000))); err != nil {
		t.Fatal(err)
	}
	c := w.checkIn(0)
	c.Photos = declare(b.Bytes())
	c.Photos[0].ContentType = "image/png"
	w.submit(t, c)
	w.mustUpload(t, t.Context(), c, b.Bytes())
	_, _, err := w.download(t.Context(), c, b.Bytes(), xunchav1.Variant_VARIANT_THUMBNAIL)
	wantStatus(t, err, codes.FailedPrecondition, "NO_THUMBNAIL", "")
	if _, full, err := w.download(t.Context(), c, b.Bytes(), xunchav1.Variant_VARIANT_FULL); err != nil || !bytes.Equal(full, b.Bytes()) {
		t.Errorf("got %d bytes, %v", len(full), err)
	}
}

// TestNewerKind holds that an entry of a kind that this version does not know is
// shown as such.
func TestNewerKind(t *testing.T) {
	e := ledger.Head{}.Seal(ledger.Draft{History: "site/s", ID: "x", Kind: "newer", Content: []byte(`{"a":1}`)})
	got, err := fromEntry(e)
	if err != nil || got.Kind != xunchav1.EntryKind_ENTRY_KIND_UNSPECIFIED || got.EntryId != "x" || got.Content != nil {
		t.Errorf("got %v, %v", got, err)
	}
}
