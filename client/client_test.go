package client

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"image"
	"image/png"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/tls"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
)

func TestPlaintext(t *testing.T) {
	for address, want := range map[string]error{
		"127.0.0.1:6200": nil, "[::1]:6200": nil, "localhost:6200": nil,
		"192.0.2.1:6200": ErrPlaintext, "example.org:6200": ErrPlaintext, "0.0.0.0:6200": ErrPlaintext,
		"localhost.example.org:6200": ErrPlaintext, "dns:///127.0.0.1:6200": ErrPlaintext, "127.0.0.1": ErrPlaintext,
	} {
		for _, anywhere := range []bool{false, true} {
			c, err := New(Config{Address: address, Plaintext: true, PlaintextAnywhere: anywhere, Now: time.Now, NewID: uuid.NewString})
			if err == nil {
				c.Close()
			}
			if anywhere && err != nil || !anywhere && !errors.Is(err, want) {
				t.Errorf("%s, anywhere %v: got %v", address, anywhere, err)
			}
		}
	}
	if _, err := New(Config{Address: "127.0.0.1:6200", Plaintext: true, TLS: &tls.Config{}, Now: time.Now, NewID: uuid.NewString}); err == nil {
		t.Error("plaintext and TLS at once were taken")
	}
	if _, err := New(Config{Address: "127.0.0.1:6200", Plaintext: true}); err == nil {
		t.Error("a client without a clock was made")
	}
}

// TestTLS ensures that a server is called only where somebody who is trusted has
// signed its certificate.
func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // which has a certificate of 127.0.0.1
	web.Close()
	s := newServer(t, grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := LoadCAs(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		config *tls.Config
		want   string
	}{
		"ItsOwn":   {&tls.Config{RootCAs: pool}, ""},
		"Machines": {nil, "certificate"},
	} {
		c, err := New(Config{Address: s.address, TLS: test.config, Now: time.Now, NewID: uuid.NewString})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.SignIn(t.Context(), SignIn{Username: "wang", Password: password})
		if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCAs(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("an empty file: got %v", err)
	}
}

// report returns a check-in.
func report() *xunchav1.CheckIn {
	return &xunchav1.CheckIn{CheckInId: uuid.NewString(), SiteId: uuid.NewString(), Finding: xunchav1.Finding_FINDING_CLOSED}
}

// TestSubmit ensures that a check-in is sent again, as it was, until its receipt
// comes.
func TestSubmit(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	refused := []error{
		status.Error(codes.Unavailable, "not now"),
		reasoned(codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_STORE_FULL, time.Minute),
		status.Error(codes.Unavailable, "not now"),
	}
	s.before = func(string) (err error) {
		if len(refused) > 0 {
			err, refused = refused[0], refused[1:]
		}
		return err
	}
	s.lost["SubmitCheckIn"] = 2
	in := report()
	receipt, err := p.Submit(t.Context(), in)
	if err != nil || !receipt.Duplicate || receipt.CheckInId != in.CheckInId {
		t.Errorf("got %v, %v; want the receipt that was lost", receipt, err)
	}
	if len(s.reports) != 3 || s.reports[0].ClientTime.AsTime() != p.now {
		t.Errorf("got %v; want the same three times, with the phone's time", s.reports)
	}
	if len(p.pauses) != 5 || p.pauses[0] > firstPause || p.pauses[1] != time.Minute || p.pauses[4] < 8*firstPause {
		t.Errorf("paused for %v; want longer and longer, and as long as the server asks", p.pauses)
	}
}

// TestSubmitInVain ensures that Submit ends where sending again is of no use, and
// where there is no time for it.
func TestSubmitInVain(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	s.before = func(string) error {
		return reasoned(codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_NO_ORDER_IN_FORCE, 0)
	}
	if _, err := p.Submit(t.Context(), report()); !hasReason(err, xunchav1.ErrorReason_ERROR_REASON_NO_ORDER_IN_FORCE) || len(p.pauses) > 0 {
		t.Errorf("no order in force: got %v after pauses of %v", err, p.pauses)
	}
	s.before = func(string) error {
		return reasoned(codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_STORE_FULL, time.Hour)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.Submit(ctx, report()); !hasReason(err, xunchav1.ErrorReason_ERROR_REASON_STORE_FULL) || !errors.Is(err, context.DeadlineExceeded) || len(p.pauses) > 0 {
		t.Errorf("too little time: got %v after pauses of %v", err, p.pauses)
	}
	s.before = func(string) error {
		cancel()
		return status.Error(codes.Unavailable, "not now")
	}
	if _, err := p.Submit(ctx, report()); !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled {
		t.Errorf("cancelled: got %v", err)
	}
	if n := s.counted("SubmitCheckIn"); n != 3 {
		t.Errorf("it was sent %d times, want once each", n)
	}
}

// TestChange ensures that a change is sent under one id until its answer comes, each change
// under its own, and that it ends where sending again is of no use or takes too long.
func TestChange(t *testing.T) {
	p := newPhone(t, newServer(t))
	used := map[string]bool{}
	for what, failures := range map[string][]error{
		"at once":           nil,
		"lost answers":      {status.Error(codes.Unavailable, "the connection broke"), status.Error(codes.Unavailable, "not now")},
		"others' changes":   {reasoned(codes.Aborted, xunchav1.ErrorReason_ERROR_REASON_CONTENTION, 100*time.Millisecond)},
		"in vain":           {nil, status.Error(codes.InvalidArgument, "so never")},
		"waiting for hours": {nil, reasoned(codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_HISTORY_ALTERED, 10*time.Minute)},
	} {
		var want error
		if len(failures) > 0 && failures[0] == nil {
			failures, want = failures[1:], failures[1]
		}
		ids, tries := map[string]bool{}, 0
		err := p.Change(t.Context(), func(_ context.Context, id string) error {
			ids[id], tries = true, tries+1
			if tries > len(failures) {
				return nil
			}
			return failures[tries-1]
		})
		if !errors.Is(err, want) || want == nil && tries != len(failures)+1 || want != nil && tries != 1 {
			t.Errorf("%s: got %v after %d tries", what, err, tries)
		}
		for id := range ids {
			if len(ids) != 1 || id == "" || used[id] {
				t.Errorf("%s: got the ids %v, want one of its own", what, ids)
			}
			used[id] = true
		}
	}
}

// picture returns a photo's file, and lets the server expect it.
func picture(s *server, size int) Photo {
	content := make([]byte, size)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	p := Photo{SiteID: uuid.NewString(), CheckInID: uuid.NewString(), SHA256: Declare(content).Sha256, Content: content}
	s.declared = p.SHA256
	return p
}

// TestUploadOverCuts ensures that an upload goes on after each break with what has
// not arrived, and at once with what a receipt says.
func TestUploadOverCuts(t *testing.T) {
	for name, from := range map[string]*xunchav1.PhotoReceipt{"Asked": nil, "Nothing": {}, "Half": {ReceivedBytes: 500_000}} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			p := newPhone(t, s)
			photo := picture(s, 1_000_000)
			s.received = bytes.Clone(photo.Content[:from.GetReceivedBytes()])
			s.cutAfter = 100_000
			s.valid = map[string]time.Time{} // and the token is not valid any more
			var breaks int
			photo.Receipt, photo.Interrupted = from, func(error) { breaks++ }
			if err := p.UploadPhoto(t.Context(), photo); err != nil {
				t.Fatal(err)
			}
			missing := len(photo.Content) - int(from.GetReceivedBytes())
			if !s.stored || s.took != missing {
				t.Errorf("%d bytes were sent for the %d that were missing", s.took, missing)
			}
			// Each time it gets on by the parts that reach the 100,000 bytes. In one of the
			// cases, the token is only refused when the upload has begun.
			want := missing / (7 * photoPart)
			if breaks < want || breaks > want+1 {
				t.Errorf("it was interrupted %d times, want %d or one more", breaks, want)
			}
			asked := breaks
			if from == nil {
				asked++
			}
			if got := s.counted("GetPhotoUpload"); got < asked || got > asked+1 {
				t.Errorf("the server was asked %d times what it has, want %d", got, asked)
			}
			if err := p.UploadPhoto(t.Context(), photo); err != nil || s.took != missing {
				t.Errorf("once more: got %v, and %d bytes", err, s.took)
			}
		})
	}
}

// TestUploadGivesUp ensures that an upload ends which does not get on.
func TestUploadGivesUp(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	photo := picture(s, 1000)
	s.before = func(method string) error {
		if method == "UploadPhoto" {
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	}
	if err := p.UploadPhoto(t.Context(), photo); status.Code(err) != codes.Unavailable || s.counted("UploadPhoto") != photoTries {
		t.Errorf("got %v after %d tries", err, s.counted("UploadPhoto"))
	}
	s.before = func(string) error {
		return reasoned(codes.NotFound, xunchav1.ErrorReason_ERROR_REASON_PHOTO_NOT_FOUND, 0)
	}
	if err := p.UploadPhoto(t.Context(), photo); status.Code(err) != codes.NotFound || s.counted("GetPhotoUpload") != photoTries+1 {
		t.Errorf("an unknown photo: got %v, asked %d times", err, s.counted("GetPhotoUpload"))
	}
}

// TestUploadOfWhatIsGone ensures that an upload begins anew where the server has
// less than a receipt said, and where it has something else.
func TestUploadOfWhatIsGone(t *testing.T) {
	s := newServer(t)
	p := newPhone(t, s)
	photo := picture(s, 100_000)
	photo.Receipt = &xunchav1.PhotoReceipt{ReceivedBytes: 50_000}
	s.received = bytes.Clone(photo.Content[:10_000]) // the rest has expired
	if err := p.UploadPhoto(t.Context(), photo); err != nil || !s.stored || s.took != 90_000 {
		t.Errorf("less: got %v with %d bytes", err, s.took)
	}
	s.stored, s.took, s.received = false, 0, make([]byte, 50_000)
	if err := p.UploadPhoto(t.Context(), photo); err != nil || !s.stored || s.took != 150_000 {
		t.Errorf("something else: got %v with %d bytes", err, s.took)
	}
	s.stored, s.received = false, nil
	photo.Receipt, photo.Content[0] = nil, ^photo.Content[0]
	if err := p.UploadPhoto(t.Context(), photo); !hasReason(err, xunchav1.ErrorReason_ERROR_REASON_PHOTO_HASH_MISMATCH) {
		t.Errorf("not what was declared: got %v", err)
	}
}

// TestUploadOfWhatIsRefused ensures that nothing of a photo is sent that the server has
// refused, and that whoever sends it is told why.
func TestUploadOfWhatIsRefused(t *testing.T) {
	refused := &xunchav1.PhotoRefusal{Reason: xunchav1.ErrorReason_ERROR_REASON_PHOTO_TOO_LARGE, Locale: "en", Message: "Take a smaller one."}
	for name, receipt := range map[string]*xunchav1.PhotoReceipt{"Receipt": {Refused: refused}, "Asked": nil} {
		s := newServer(t)
		photo := picture(s, 1000)
		photo.Receipt, s.refused = receipt, refused
		var got *PhotoRefusedError
		if err := newPhone(t, s).UploadPhoto(t.Context(), photo); !errors.As(err, &got) || !strings.Contains(err.Error(), "Take a smaller one. (PHOTO_TOO_LARGE)") || s.took != 0 {
			t.Errorf("%s: got %v after %d bytes", name, err, s.took)
		}
	}
}

func TestDeclare(t *testing.T) {
	var p bytes.Buffer
	if err := png.Encode(&p, image.NewGray(image.Rect(0, 0, 40, 30))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		content       string
		contentType   string
		width, height int32
	}{
		{"\xff\xd8\xff\xe0 and so on", "image/jpeg", 0, 0},
		{p.String(), "image/png", 40, 30},
		{"\x00\x00\x00\x18ftypheic and so on", "image/heif", 0, 0},
		{"", "text/plain; charset=utf-8", 0, 0},
	} {
		got := Declare([]byte(c.content))
		if got.ContentType != c.contentType || got.SizeBytes != int64(len(c.content)) || len(got.Sha256) != 32 || got.Width != c.width || got.Height != c.height {
			t.Errorf("%.20q: got %v", c.content, got)
		}
	}
}
