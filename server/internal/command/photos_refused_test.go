package command_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/mongostore/mongotest"
)

// hugePhoto returns a JPEG with so many pixels, all of them black.
func hugePhoto(t testing.TB, width, height int) []byte {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, width, height))
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	// The encoder writes a second table of quantization, which a grey picture does not use.
	out := b.Bytes()
	at := bytes.Index(out, []byte{0xff, 0xdb})
	return slices.Concat(out[:at+2], []byte{0, 67}, out[at+4:at+2+67], out[at+2+132:])
}

// longPhoto returns a JPEG of so many bytes, of which nothing is to be removed.
func longPhoto(t testing.TB, size int) []byte {
	t.Helper()
	b := hugePhoto(t, 64, 48)
	end := []byte{0xff, 0xd9}
	at := len(b) - len(end)
	return slices.Concat(b[:at], bytes.Repeat([]byte{0x55}, size-len(b)), end)
}

// TestLargePhotos holds that what phones write is taken, whole, on either engine. On FerretDB
// each part of a photo that is read costs as much as all of them, so that 40 MiB take minutes;
// the stand-in has an index, as MongoDB has.
func TestLargePhotos(t *testing.T) {
	standIn, err := mongotest.StartStandIn("-commit=1ms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standIn.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, store := range map[string][]string{"Embedded": {"--data", t.TempDir()}, "MongoDB": {"--store", standIn.Database(t)}} {
		t.Run(name, func(t *testing.T) {
			address, _ := serveOn(t, store...)
			site := fill(t, address)[0]
			conn := connect(t, address)
			for _, c := range []struct {
				name    string
				content []byte
				small   bool // it has a thumbnail
			}{
				{"8192 × 6144", hugePhoto(t, 8192, 6144), true},
				{"12000 × 9000", hugePhoto(t, 12_000, 9000), true},
				{"250 megapixels", hugePhoto(t, 25_000, 10_000), false},
				{"40 MiB", longPhoto(t, 40<<20), true},
			} {
				in := newCheckIn(site)
				in.Photos = []*xunchav1.Photo{client.Declare(c.content)}
				if r := submit(t, conn, in); r.Photos[0].Refused != nil {
					t.Errorf("%s: refused: %v", c.name, r.Photos[0].Refused)
					continue
				}
				if err := newClient(t, address).UploadPhoto(t.Context(), photoOf(in, c.content)); err != nil {
					t.Errorf("%s: %v", c.name, err)
					continue
				}
				args := []string{"photo", "--server", address, "--site", site, "--check-in", in.CheckInId, "--sha256", hex.EncodeToString(in.Photos[0].Sha256), "-o"}
				file := filepath.Join(t.TempDir(), "full.jpg")
				if _, stderr, err := xuncha(t, append(args, file)...); err != nil {
					t.Fatal(c.name, err, stderr)
				}
				if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, c.content) {
					t.Errorf("%s: got another file of %d bytes, %v", c.name, len(got), err)
				}
				// Its thumbnail is made where it fits into the memory for that, and into two seconds
				// of CPU, in which a race detector does not read 40 MiB.
				if len(c.content) == 40<<20 {
					continue
				}
				_, stderr, err := xuncha(t, append(args, filepath.Join(t.TempDir(), "small.jpg"), "--thumbnail")...)
				if c.small && err != nil || !c.small && (err == nil || !strings.Contains(err.Error(), "NO_THUMBNAIL")) {
					t.Errorf("%s: thumbnail: got %v %s, want one: %v", c.name, err, stderr, c.small)
				}
			}
		})
	}
}

// TestRefusedPhotosAmongOthers takes a visit with photos that cannot be kept through a
// deployment's life: the visit is stored, the others are uploaded, and the answer stays the
// same after a restart and with other limits.
func TestRefusedPhotosAmongOthers(t *testing.T) {
	onBothEngines(t, func(t *testing.T, store ...string) {
		address, stop := serveOn(t, append(store, "--max-jpeg-bytes", "1000000", "--max-jpeg-megapixels", "12")...)
		site := fill(t, address)[0]
		good, heic := cameraPhoto(t, 3), []byte("\x00\x00\x00\x18ftypheic and so on")
		long, huge := longPhoto(t, 1_000_001), hugePhoto(t, 4001, 3000)
		const id = "11111111-1111-4111-8111-111111111111"
		report := []string{"check-in", "--id", id, "--site", site, "--time", time.Now().Format(time.RFC3339), "--finding", "closed",
			"--photo", sample(t, "a.heic", heic), "--photo", sample(t, "good.jpg", good), "--photo", sample(t, "long.jpg", long),
			"--photo", sample(t, "huge.jpg", huge), "--photo", sample(t, "empty.jpg", nil), "--photo", sample(t, "again.jpg", good)}
		want := func(address, good string) {
			t.Helper()
			out, stderr, err := xuncha(t, append(report, "--server", address)...)
			if err != nil {
				t.Fatal(err, stderr)
			}
			for _, line := range []string{
				`a\.heic: .*image/heif.*\(PHOTO_FORMAT_UNSUPPORTED\)`, `long\.jpg: .*1000001 bytes.*\(PHOTO_TOO_LARGE\)`,
				`huge\.jpg: .*4001 × 3000.*\(PICTURE_TOO_LARGE\)`, `empty\.jpg: .*empty.*\(PHOTO_FORMAT_UNSUPPORTED\)`,
				`good\.jpg is stored` + good, `again\.jpg is stored`,
			} {
				if !regexp.MustCompile("(?m)^" + line).MatchString(out) {
					t.Errorf("no line is %s:\n%s", line, out)
				}
			}
		}
		want(address, ": photo")
		want(address, " already")
		stop()
		address, _ = serveOn(t, store...)
		want(address, " already")

		// What other apps find out, who do not heed the receipt.
		photos := xunchav1.NewPhotoServiceClient(connect(t, address))
		sum := sha256.Sum256(long)
		_, err := sendPhoto(t.Context(), photos, client.Photo{SiteID: site, CheckInID: id, SHA256: sum[:], Content: long}, 0)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("got %v, want INVALID_ARGUMENT", err)
		}
		state, err := photos.GetPhotoUpload(t.Context(), &xunchav1.GetPhotoUploadRequest{SiteId: site, CheckInId: id, Sha256: sum[:]})
		if err != nil || state.ReceivedBytes != 0 || state.Refused.GetReason() != xunchav1.ErrorReason_ERROR_REASON_PHOTO_TOO_LARGE {
			t.Errorf("got %v, %v", state, err)
		}
		out, stderr, err := xuncha(t, "history", "SC-GA-0001", "--server", address)
		if err != nil || !strings.Contains(out, "5 photos, 4 of them refused") {
			t.Errorf("got %s, %v %s", out, err, stderr)
		}
	})
}

// TestPhotoThatIsNone holds that a file which turns out to be no picture once it was sent keeps
// none of the other photos from being sent, and that the command says so and fails.
func TestPhotoThatIsNone(t *testing.T) {
	address, _ := serveOn(t, "--data", t.TempDir())
	fill(t, address)
	good, other := longPhoto(t, 2000), longPhoto(t, 3000)
	cut := cameraPhoto(t, 7)
	cut = cut[:len(cut)/2]
	out, stderr, err := xuncha(t, "check-in", "--server", address, "--site", "SC-GA-0001", "--finding", "closed",
		"--photo", sample(t, "good.jpg", good), "--photo", sample(t, "cut.jpg", cut), "--photo", sample(t, "other.jpg", other))
	if err == nil || !strings.Contains(err.Error(), "1 of its 3 photos") {
		t.Errorf("got %v, want it to fail for one of three", err)
	}
	for _, line := range []string{"(?m)^good.jpg is stored: ", "(?m)^other.jpg is stored: "} {
		if !regexp.MustCompile(line).MatchString(out) {
			t.Errorf("no line is %s:\n%s", line, out)
		}
	}
	if !strings.Contains(stderr, "cut.jpg: ") || !strings.Contains(stderr, "NOT_A_PICTURE") {
		t.Errorf("got %q, want it to say what is wrong with cut.jpg", stderr)
	}
}

// TestLimitsThatCannotBe holds that a server does not start with limits that nothing could
// have, of which it would keep none.
func TestLimitsThatCannotBe(t *testing.T) {
	for _, flag := range []string{"--max-jpeg-bytes=-1", "--max-jpeg-bytes=268435457", "--max-jpeg-megapixels=-1", "--max-jpeg-megapixels=4295", "--max-stream-age=-5s"} {
		name, _, _ := strings.Cut(flag, "=")
		if _, _, err := xuncha(t, "serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), flag); err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s: got %v", flag, err)
		}
	}
}
