package rpc

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/engine"
	"xuncha/server/internal/sqlitestore"
	"xuncha/server/internal/testdisk"
)

// wantRetry checks that the caller of a call that failed keeps what it has and tries
// again later.
func wantRetry(t testing.TB, what string, err error, code codes.Code, reason string) {
	t.Helper()
	st := status.Convert(err)
	var gotReason string
	var retry time.Duration
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			gotReason = d.Reason
		case *errdetails.RetryInfo:
			retry = d.RetryDelay.AsDuration()
		}
	}
	if st.Code() != code || gotReason != reason || retry <= 0 {
		t.Errorf("%s: got %v %s, retry after %v, want %v %s", what, err, gotReason, retry, code, reason)
	}
}

// TestFaultsOfFiles takes the folders of photos away from under a server. Calls that need
// them are to be tried again, the log names what failed, and all goes on once they are
// back: nothing is called lost, and a phone gives up nothing.
func TestFaultsOfFiles(t *testing.T) {
	dir := t.TempDir()
	w := newServerOn(t, must(sqlitestore.Open(t.Context(), dir, sqlitestore.Options{}))(t))
	w.fill(t)
	stored := w.checkIn(0)
	stored.Photos = declare(testPhoto)
	w.submit(t, stored)
	w.mustUpload(t, t.Context(), stored, testPhoto)

	folder := filepath.Join(dir, "photos")
	for i, gone := range []string{folder, filepath.Join(folder, "incoming"), filepath.Join(folder, "new")} {
		for how, replace := range map[string]func(string) error{
			"is gone":         func(string) error { return nil },
			"is now a file":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
			"leads nowhere":   func(path string) error { return os.Symlink(filepath.Join(dir, "nowhere"), path) },
			"leads to itself": func(path string) error { return os.Symlink(path, path) },
		} {
			what := fmt.Sprintf("%s %s", gone, how)
			// A comment makes that the picture is written and not only linked.
			file := makePhoto(20+i, 100, 100, what[len(what)-8:])
			c := w.checkIn(1)
			c.Photos = declare(file)
			w.submit(t, c)
			before := len(w.log.String())
			if err := os.Rename(gone, gone+".away"); err != nil {
				t.Fatal(err)
			}
			if err := replace(gone); err != nil {
				t.Fatal(err)
			}
			_, err := w.send(t.Context(), c, file, 0, len(file))
			wantRetry(t, what+", uploading", err, codes.Unavailable, "STORE_UNAVAILABLE")
			if said := w.log.String()[before:]; !strings.Contains(said, `"msg":"call failed"`) || !strings.Contains(said, folder) {
				t.Errorf("%s: got the log %s, want it to name what failed", what, said)
			}
			if gone == folder {
				for _, v := range []xunchav1.Variant{xunchav1.Variant_VARIANT_FULL, xunchav1.Variant_VARIANT_THUMBNAIL} {
					_, _, err = w.download(t.Context(), stored, testPhoto, v)
					wantRetry(t, what+", downloading", err, codes.Unavailable, "STORE_UNAVAILABLE")
				}
			}
			w.submit(t, w.checkIn(2)) // which needs no photo
			os.Remove(gone)
			if err := os.Rename(gone+".away", gone); err != nil {
				t.Fatal(err)
			}
			w.mustUpload(t, t.Context(), c, file)
		}
	}
	if _, _, err := w.download(t.Context(), stored, testPhoto, xunchav1.Variant_VARIANT_THUMBNAIL); err != nil {
		t.Error(err)
	}
}

// A diskFault is what the system says once of a read amid a file.
type diskFault struct {
	err   error
	after atomic.Int64 // how many reads amid a file come before
}

// A store onBadDisk has photos of which a read fails, though they are there.
type onBadDisk struct {
	testStore
	fault *atomic.Pointer[diskFault] // nil for none
}

type badDiskPhotos struct {
	photos.Store
	fault *atomic.Pointer[diskFault]
}

type badDiskFile struct {
	photos.File
	fault *atomic.Pointer[diskFault]
}

func (s onBadDisk) Photos() photos.Store { return badDiskPhotos{s.testStore.Photos(), s.fault} }

func (p badDiskPhotos) Open(ctx context.Context, stored inspections.Digest) (photos.File, error) {
	f, err := p.Store.Open(ctx, stored)
	return badDiskFile{f, p.fault}, err
}

func (p badDiskPhotos) Partial(ctx context.Context, r photos.Ref) (photos.File, error) {
	f, err := p.Store.Partial(ctx, r)
	return badDiskFile{f, p.fault}, err
}

func (f badDiskFile) ReadAt(b []byte, at int64) (int, error) {
	fault := f.fault.Load()
	if fault == nil || at+int64(len(b)) < f.Size()/2 || fault.after.Add(-1) >= 0 || !f.fault.CompareAndSwap(fault, nil) {
		return f.File.ReadAt(b, at)
	}
	return 0, engine.FileError(&os.PathError{Op: "read", Path: "a photo", Err: fault.err})
}

// TestUnreadablePhoto holds that a photo of which the disk does not give a part is not
// called lost or no picture, whoever reads it, and that what a phone has sent of it stays.
func TestUnreadablePhoto(t *testing.T) {
	var fault atomic.Pointer[diskFault]
	w := newServerOn(t, onBadDisk{must(sqlitestore.Open(t.Context(), t.TempDir(), sqlitestore.Options{}))(t), &fault})
	w.fill(t)
	var b bytes.Buffer
	m := image.NewGray(image.Rect(0, 0, 700, 500))
	noise := rand.New(rand.NewPCG(1, 2)) // so that it takes several reads
	for i := range m.Pix {
		m.Pix[i] = byte(noise.Uint32())
	}
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	faults := 0
	for contentType, plain := range map[string][]byte{"image/jpeg": makePhoto(12345, 1200, 900, ""), "image/png": b.Bytes()} {
		for after := range int64(40) {
			// Another one each time, of which no thumbnail is known.
			file := append(slices.Clone(plain), byte(after))
			c := w.checkIn(0)
			c.Photos = declare(file)
			c.Photos[0].ContentType = contentType
			w.submit(t, c)
			// may calls f while a read fails, and checks its error where one has.
			may := func(what string, f func() error) {
				t.Helper()
				said := &diskFault{err: []error{syscall.EIO, os.ErrClosed, syscall.ESTALE}[after%3]}
				said.after.Store(after)
				fault.Store(said)
				err := f()
				if !fault.CompareAndSwap(said, nil) {
					faults++
					wantRetry(t, fmt.Sprintf("%s of %s, read %d: %v", what, contentType, after, said.err), err, codes.Unavailable, "STORE_UNAVAILABLE")
				} else if err != nil {
					t.Errorf("%s of %s: %v, and nothing has failed", what, contentType, err)
				}
			}
			may("upload", func() error {
				_, err := w.send(t.Context(), c, file, 0, len(file))
				return err
			})
			got := must(w.photos.GetPhotoUpload(t.Context(), &xunchav1.GetPhotoUploadRequest{Sha256: sum(file), SiteId: c.SiteId, CheckInId: c.CheckInId}))(t)
			if got.ReceivedBytes != int64(len(file)) {
				t.Fatalf("%d bytes are left of what was sent, want all %d", got.ReceivedBytes, len(file))
			}
			must(w.upload(t.Context(), uploadSpec(c, file, len(file))))(t)
			for _, v := range []xunchav1.Variant{xunchav1.Variant_VARIANT_THUMBNAIL, xunchav1.Variant_VARIANT_FULL} {
				may("download", func() error {
					_, _, err := w.download(t.Context(), c, file, v)
					return err
				})
			}
		}
	}
	if faults < 60 {
		t.Errorf("only %d reads have failed", faults)
	}
}

// A filled store refuses writes, but for those that may use its reserve, where it is told
// to: for where no small disk can be mounted.
type filled struct {
	testStore
	full *atomic.Bool
}

func (s filled) room(ctx context.Context) error {
	if s.full.Load() && !ledger.MayUseReserve(ctx) {
		return ledger.ErrFull
	}
	return nil
}

func (s filled) Append(ctx context.Context, d ledger.Draft) (ledger.Entry, bool, error) {
	if err := s.room(ctx); err != nil {
		return ledger.Entry{}, false, err
	}
	return s.testStore.Append(ctx, d)
}

func (s filled) AppendAfter(ctx context.Context, after ledger.Sequence, d ledger.Draft) (ledger.Entry, error) {
	if err := s.room(ctx); err != nil {
		return ledger.Entry{}, err
	}
	return s.testStore.AppendAfter(ctx, after, d)
}

func (s filled) PutSecret(ctx context.Context, name string, revision int64, value []byte) error {
	if err := s.room(ctx); err != nil {
		return err
	}
	return s.testStore.PutSecret(ctx, name, revision, value)
}

// TestFullDisk fills the disk under a server with accounts. Check-ins and photos have to
// wait, and nothing of them is lost; who may look goes on to look, and to sign in, and
// places can be opened again.
func TestFullDisk(t *testing.T) {
	disk := testdisk.New(t, 24<<20)
	var full atomic.Bool
	var store testStore = must(sqlitestore.Open(t.Context(), filepath.Join(disk.Dir, "data"), sqlitestore.Options{ReserveBytes: 6 << 20}))(t)
	if !disk.Mounted {
		store = filled{store, &full}
	}
	w := newServerOn(t, store)
	w.fill(t)
	c := w.checkIn(0)
	c.Photos = declare(testPhoto)
	w.submit(t, c)
	second := must(w.roster.CreateClosureOrder(t.Context(), &xunchav1.CreateClosureOrderRequest{ClosureOrder: w.newOrder("2")}))(t).ClosureOrder
	w.advance(time.Hour)
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "officer", accounts.Officer, "511600")
	w.create(t, "head", accounts.Head, "511600")
	spare := w.create(t, "spare", accounts.Officer, "511600")
	officer := with(t.Context(), w.signIn(t, "officer"))

	disk.Fill(t)
	full.Store(true)
	waiting := w.checkIn(1)
	waiting.Note = strings.Repeat("字", 500)
	for i := 0; ; i++ {
		// What room is left in the log goes first.
		_, err := w.checkIns.SubmitCheckIn(officer, &xunchav1.SubmitCheckInRequest{CheckIn: waiting})
		if err == nil && i < 5000 {
			waiting.CheckInId = w.checkIn(1).CheckInId
			continue
		}
		wantRetry(t, "a check-in", err, codes.ResourceExhausted, "STORE_FULL")
		break
	}
	_, err := w.send(officer, c, testPhoto, 0, len(testPhoto))
	wantRetry(t, "a photo", err, codes.ResourceExhausted, "STORE_FULL")
	root := with(t.Context(), w.signIn(t, "root"))
	head := with(t.Context(), w.signIn(t, "head"))
	if _, err := w.coverage.GetCoverage(head, &xunchav1.GetCoverageRequest{DivisionCode: "511600"}); err != nil {
		t.Errorf("a report: %v", err)
	}
	must(xunchav1.NewAccountServiceClient(w.conn).DisableAccount(root, &xunchav1.DisableAccountRequest{AccountId: spare.ID}))(t)
	must(w.roster.EndClosureOrder(root, &xunchav1.EndClosureOrderRequest{ClosureOrderId: second.ClosureOrderId}))(t)
	_, err = w.checkIns.SubmitCheckIn(officer, &xunchav1.SubmitCheckInRequest{CheckIn: waiting})
	wantRetry(t, "a check-in, while the reserve is in use", err, codes.ResourceExhausted, "STORE_FULL")

	disk.Free(t)
	full.Store(false)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := w.checkIns.SubmitCheckIn(officer, &xunchav1.SubmitCheckInRequest{CheckIn: waiting})
		if err == nil {
			break
		}
		if status.Code(err) != codes.ResourceExhausted || time.Now().After(deadline) {
			t.Fatalf("got %v, and there is room again", err)
		}
	}
	if got := must(w.send(officer, c, testPhoto, 0, len(testPhoto)))(t); !got.Stored {
		t.Errorf("got %v, want the photo stored", got)
	}
}
