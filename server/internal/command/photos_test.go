package command_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/command"
)

// planted is what must not be left of a photo.
var planted = []string{"Deng Xiaolan", "HUAWEI P40", "30.456789", "embedded thumbnail", "\x00\x00\x00\x1e\x00\x00\x00\x01\x00\x00\x00\x1b\x00\x00\x00\x01"}

// jpegSegment is a JPEG segment with the text.
func jpegSegment(code byte, text string) string {
	return string([]byte{0xff, code, byte((len(text) + 2) >> 8), byte(len(text) + 2)}) + text
}

// cameraPhoto returns a JPEG with a position, names and a thumbnail in it.
func cameraPhoto(t testing.TB, seed int) []byte {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, 640, 480))
	for i := range m.Pix {
		m.Pix[i] = byte(i*seed ^ i>>8)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	// Big-endian TIFF: the model and a GPS directory with 30° 27′.
	exif := "Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x02" +
		"\x01\x10\x00\x02\x00\x00\x00\x0b\x00\x00\x00\x40" + "\x88\x25\x00\x04\x00\x00\x00\x01\x00\x00\x00\x4c" + "\x00\x00\x00\x00" +
		strings.Repeat("\x00", 0x40-0x26) + "HUAWEI P40\x00\x00" +
		"\x00\x01\x00\x02\x00\x05\x00\x00\x00\x02\x00\x00\x00\x5e\x00\x00\x00\x00" + planted[4] + "embedded thumbnail"
	head := jpegSegment(0xe1, exif) + jpegSegment(0xe1, "http://ns.adobe.com/xap/1.0/\x00<creator>Deng Xiaolan</creator> 30.456789") +
		jpegSegment(0xed, "Photoshop 3.0\x008BIM Deng Xiaolan") + jpegSegment(0xfe, "by Deng Xiaolan")
	return slices.Concat(b.Bytes()[:2], []byte(head), b.Bytes()[2:], []byte("embedded thumbnail of HUAWEI P40"))
}

// photoFiles returns the names of the files below the folder of photos.
func photoFiles(t testing.TB, data string) (out []string) {
	t.Helper()
	root := filepath.Join(data, "photos")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(root, path)
			out = append(out, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var photoLine = regexp.MustCompile(`is stored: photo ([0-9a-f]{64})`)

// TestPhotoCommands takes a camera's file through a deployment's life: reported,
// fetched, copied to another store and back, lost, and purged.
func TestPhotoCommands(t *testing.T) {
	t.Parallel()
	folder, copied := t.TempDir(), t.TempDir()
	address, stop := serveFolder(t, folder)
	site := fill(t, address)[0]
	// An order that has ended, so that its photos can be purged.
	start := time.Now().AddDate(0, 0, -10)
	roster := xunchav1.NewRosterServiceClient(connect(t, address))
	issued, err := roster.CreateClosureOrder(t.Context(), &xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
		Number: "2", Title: "t", IssuingAuthority: "a", LegalBasis: "b", DivisionCodes: []string{"511600"},
		StartTime: timestamppb.New(start), EndTime: timestamppb.New(start.AddDate(0, 0, 20)), InspectionInterval: durationpb.New(24 * time.Hour),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := roster.EndClosureOrder(t.Context(), &xunchav1.EndClosureOrderRequest{
		ClosureOrderId: issued.ClosureOrder.ClosureOrderId, EndTime: timestamppb.New(start.AddDate(0, 0, 5)),
	}); err != nil {
		t.Fatal(err)
	}
	original := cameraPhoto(t, 3)
	for _, s := range planted {
		if !bytes.Contains(original, []byte(s)) {
			t.Fatalf("%q was not planted", s)
		}
	}
	file := sample(t, "photo.jpg", original)
	const id = "11111111-1111-4111-8111-111111111111"
	report := []string{"check-in", "--server", address, "--id", id, "--site", site, "--time", start.Add(time.Hour).Format(time.RFC3339), "--finding", "closed", "--photo", file}
	out, stderr, err := xuncha(t, report...)
	m := photoLine.FindStringSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("got %s, %v %s", out, err, stderr)
	}
	if out, _, err := xuncha(t, report...); err != nil || !strings.Contains(out, "stored already") {
		t.Errorf("once more: got %s, %v", out, err)
	}
	// Nothing is left of what was planted, whatever the file.
	filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		for _, s := range planted {
			if bytes.Contains(content, []byte(s)) {
				t.Errorf("%s has %q", path, s)
			}
		}
		return nil
	})
	fetch := func(address string, more ...string) []byte {
		t.Helper()
		to := filepath.Join(t.TempDir(), "out.jpg")
		if _, stderr, err := xuncha(t, append([]string{"photo", "--server", address, "--site", "SC-GA-0001", "--check-in", id, "--sha256", m[1], "-o", to}, more...)...); err != nil {
			t.Fatal(err, stderr)
		}
		content, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	full := fetch(address)
	was, err := jpeg.Decode(bytes.NewReader(original))
	if err != nil {
		t.Fatal(err)
	}
	is, err := jpeg.Decode(bytes.NewReader(full))
	if err != nil || !bytes.Equal(is.(*image.Gray).Pix, was.(*image.Gray).Pix) {
		t.Errorf("the picture is another: %v", err)
	}
	if c, err := jpeg.DecodeConfig(bytes.NewReader(fetch(address, "--thumbnail"))); err != nil || c.Width != 320 || c.Height != 240 {
		t.Errorf("got %+v, %v", c, err)
	}
	if out, _, err := xuncha(t, "history", site, "--server", address); err != nil || !strings.Contains(out, "photo_stored") {
		t.Errorf("got %s, %v", out, err)
	}
	stop()

	// To MongoDB, and from there to another folder.
	uri := mongo(t).Database(t)
	for _, way := range [][2]string{{folder, uri}, {uri, copied}} {
		if _, stderr, err := xuncha(t, "copy", "--from", way[0], "--to", way[1]); err != nil {
			t.Fatal(err, stderr)
		}
	}
	for _, store := range [][]string{{"--store", uri}, {"--data", copied}} {
		address, stop := serveOn(t, store...)
		if !bytes.Equal(fetch(address), full) {
			t.Errorf("%s has another photo", store[1])
		}
		stop()
	}
	stored := hex.EncodeToString(sum(full))
	if got := photoFiles(t, copied); !slices.Equal(got, []string{stored[:2] + "/" + stored[2:4] + "/" + stored}) {
		t.Errorf("got %v", got)
	}

	// A photo that somebody took away or altered is missed.
	path := filepath.Join(copied, "photos", stored[:2], stored[2:4], stored)
	altered := bytes.Clone(full)
	altered[len(altered)/2] ^= 1
	if err := os.WriteFile(path, altered, 0o600); err != nil {
		t.Fatal(err)
	}
	log := newLineWriter()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- command.Run(ctx, []string{"serve", "--listen", "127.0.0.1:0", "--data", copied}, io.Discard, log)
	}()
	eventually(t, "the altered photo is reported", func() bool {
		return strings.Contains(log.String(), "photo lost or altered") && strings.Contains(log.String(), m[1])
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, stderr, err := xuncha(t, "copy", "--from", copied, "--to", t.TempDir()); err == nil || !strings.Contains(err.Error(), "lost or altered in the source: 1") || !strings.Contains(stderr, stored) {
		t.Errorf("copying it: got %v (%s)", err, stderr)
	}

	// And purged.
	for _, args := range [][]string{{"--photo-retention-days", "0"}, {"--photo-retention-days", "1096"}} {
		if _, _, err := xuncha(t, append([]string{"purge", "--data", folder}, args...)...); err == nil {
			t.Errorf("%v: it was purged", args)
		}
	}
	for _, step := range []struct {
		args []string
		want string
		left int
	}{
		{[]string{"--dry-run"}, "0 photos", 1},
		{[]string{"--photo-retention-days", "6"}, "0 photos", 1},
		{[]string{"--photo-retention-days", "4", "--dry-run"}, "1 photos with", 1},
		{[]string{"--photo-retention-days", "4", "--yes"}, "1 photos with", 0},
		{[]string{"--photo-retention-days", "4"}, "0 photos", 0},
	} {
		out, _, err := xuncha(t, append([]string{"purge", "--data", folder}, step.args...)...)
		if err != nil || !strings.Contains(out, step.want) || len(photoFiles(t, folder)) != step.left {
			t.Errorf("%v: got %s, %v, and %d files", step.args, out, err, len(photoFiles(t, folder)))
		}
	}
	address, _ = serveFolder(t, folder)
	if _, _, err := xuncha(t, "photo", "--server", address, "--site", site, "--check-in", id, "--sha256", m[1], "-o", filepath.Join(t.TempDir(), "x")); err == nil || !strings.Contains(err.Error(), "PHOTO_PURGED") {
		t.Errorf("got %v, want PHOTO_PURGED", err)
	}
	kinds := map[xunchav1.EntryKind]int{}
	for _, e := range wantChain(t, connect(t, address), site) {
		kinds[e.Kind]++
	}
	if kinds[xunchav1.EntryKind_ENTRY_KIND_CHECK_IN] != 1 || kinds[xunchav1.EntryKind_ENTRY_KIND_PHOTO_STORED] != 1 || kinds[xunchav1.EntryKind_ENTRY_KIND_PHOTO_PURGED] != 1 {
		t.Errorf("got %v", kinds)
	}
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// noise returns a PNG of about size bytes that cannot be packed.
func noise(t testing.TB, seed uint64, size int) []byte {
	t.Helper()
	side := 1
	for 3*side*side < size {
		side++
	}
	random := rand.New(rand.NewPCG(seed, 0))
	m := image.NewNRGBA(image.Rect(0, 0, side, side))
	for i := range side * side {
		v := random.Uint32()
		m.SetNRGBA(i%side, i/side, color.NRGBA{byte(v), byte(v >> 8), byte(v >> 16), 255})
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A badLink passes connections on to a server and cuts each once so many bytes
// have gone to it.
type badLink struct {
	listener net.Listener
	sent     atomic.Int64 // to the server, by all
	cuts     atomic.Int64
}

func newBadLink(t testing.TB, to string, cutAfter int64) *badLink {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &badLink{listener: listener}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			all.Go(func() {
				_, _ = io.Copy(near, far) // until either side is cut
				near.Close()
				far.Close()
			})
			all.Go(func() {
				if n, _ := io.CopyN(counting{far, &l.sent}, near, cutAfter); n == cutAfter {
					l.cuts.Add(1)
				}
				// What has gone through arrives, as it does from a phone that has left.
				_ = far.(*net.TCPConn).CloseWrite()
				near.Close()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait()
	})
	return l
}

// counting counts what is written.
type counting struct {
	io.Writer
	n *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// TestPhotoOverABadLink sends 12 MB over a link that is cut every 300 KB.
func TestPhotoOverABadLink(t *testing.T) {
	t.Parallel()
	onBothEngines(t, testPhotoOverABadLink)
}

func testPhotoOverABadLink(t *testing.T, store ...string) {
	address, _ := serveOn(t, store...)
	site := fill(t, address)[0]
	size, wantCuts := 12<<20, int64(40)
	if store[0] == "--store" {
		// The server of these tests reads a whole collection for every question.
		size, wantCuts = 2<<20, 6
	}
	photo := noise(t, 1, size)
	link := newBadLink(t, address, 300_000)
	out, stderr, err := xuncha(t, "check-in", "--server", link.listener.Addr().String(), "--site", site, "--finding", "closed", "--photo", sample(t, "photo.png", photo))
	if err != nil || !photoLine.MatchString(out) {
		t.Fatalf("got %s, %v %s", out, err, stderr)
	}
	sent, cuts := link.sent.Load(), link.cuts.Load()
	t.Logf("%d bytes sent for %d, %.3f times, with %d cuts", sent, len(photo), float64(sent)/float64(len(photo)), cuts)
	if cuts < wantCuts || float64(sent) > 1.1*float64(len(photo)) {
		t.Errorf("%d bytes were sent for %d, with %d cuts", sent, len(photo), cuts)
	}
}

// photoOf returns the first photo of a check-in, as it is uploaded.
func photoOf(c *xunchav1.CheckIn, content []byte) client.Photo {
	return client.Photo{SiteID: c.SiteId, CheckInID: c.CheckInId, SHA256: c.Photos[0].Sha256, Content: content}
}

// sendPhoto sends a photo from a place on, and does not try again.
func sendPhoto(ctx context.Context, photos xunchav1.PhotoServiceClient, p client.Photo, from int) (*xunchav1.UploadPhotoResponse, error) {
	stream, err := photos.UploadPhoto(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Spec{Spec: &xunchav1.PhotoUploadSpec{
		Sha256: p.SHA256, CheckInId: p.CheckInID, SiteId: p.SiteID, Offset: int64(from),
	}}})
	for part := range slices.Chunk(p.Content[from:], 16<<10) {
		if err != nil {
			break // and CloseAndRecv says why
		}
		err = stream.Send(&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Data{Data: part}})
	}
	return stream.CloseAndRecv()
}

// TestKillDuringUploads kills the built server while photos arrive, twenty times
// on the embedded store. What it acknowledged must be there and whole, what had
// come must be of use, and nothing else may be left. In MongoDB, what was being
// written is only removed after an hour, as another server may be at it.
func TestKillDuringUploads(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "xuncha")
	if out, err := exec.Command("go", "build", "-o", binary, "xuncha/server").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	onBothEngines(t, func(t *testing.T, store ...string) {
		if store[0] == "--data" {
			testKillDuringUploads(t, binary, 20, 8, 300_000, store...)
			eventually(t, "nothing but the photos is left", func() bool { return len(photoFiles(t, store[1])) == 20*8 })
			return
		}
		// The server of these tests reads a whole collection for every question.
		testKillDuringUploads(t, binary, 3, 4, 50_000, store...)
	})
}

// testKillDuringUploads begins so many photos in each round, the larger ones by
// so many bytes larger than the smallest.
func testKillDuringUploads(t *testing.T, binary string, rounds, photosEach, larger int, store ...string) {
	begin := func() (*exec.Cmd, string) {
		t.Helper()
		out := newLineWriter()
		server := exec.Command(binary, append([]string{"serve", "--listen", "127.0.0.1:0", "--log-level", "error"}, store...)...)
		server.Stdout, server.Stderr = out, out
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Process.Kill() }) // nothing to kill after a test that passes
		return server, out.address(t)
	}
	server, address := begin()
	ids := fill(t, address)

	type upload struct {
		photo  []byte
		report *xunchav1.CheckIn
		from   int  // how much had come before
		done   bool // it was acknowledged
	}
	var all []*upload
	resumed := 0
	for round := range rounds {
		conn := connect(t, address)
		photos := xunchav1.NewPhotoServiceClient(conn)
		// What was interrupted goes on, and new ones are begun.
		todo := slices.DeleteFunc(slices.Clone(all), func(u *upload) bool { return u.done })
		for _, u := range todo {
			state, err := photos.GetPhotoUpload(t.Context(), &xunchav1.GetPhotoUploadRequest{Sha256: u.report.Photos[0].Sha256, SiteId: u.report.SiteId, CheckInId: u.report.CheckInId})
			if err != nil {
				t.Fatal(err)
			}
			if u.from = int(state.ReceivedBytes); u.from > 0 {
				resumed++
			}
		}
		for i := range photosEach {
			u := &upload{photo: noise(t, uint64(100*round+i), 200_000+larger*(i%4)), report: newCheckIn(ids[i%5])}
			u.report.Photos = []*xunchav1.Photo{client.Declare(u.photo)}
			submit(t, conn, u.report)
			all = append(all, u)
			todo = append(todo, u)
		}
		var done atomic.Int64
		enough := make(chan struct{})
		target := int64(1 + round%min(6, photosEach))
		var group sync.WaitGroup
		for _, u := range todo {
			group.Go(func() {
				answer, err := sendPhoto(context.Background(), photos, photoOf(u.report, u.photo), u.from)
				if err != nil {
					if status.Code(err) != codes.Unavailable {
						t.Error(err)
					}
					return
				}
				if !answer.Stored {
					t.Errorf("the server has only %d of %d bytes", answer.ReceivedBytes, len(u.photo))
				}
				u.done = true
				if done.Add(1) == target {
					close(enough)
				}
			})
		}
		<-enough
		if err := server.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = server.Wait() // it was killed
		group.Wait()
		server, address = begin()
	}
	conn := connect(t, address)
	for _, u := range all {
		if !u.done {
			if err := newClient(t, address).UploadPhoto(t.Context(), photoOf(u.report, u.photo)); err != nil {
				t.Errorf("going on: %v", err)
			}
		}
		stream, err := xunchav1.NewPhotoServiceClient(conn).DownloadPhoto(t.Context(), &xunchav1.DownloadPhotoRequest{Sha256: u.report.Photos[0].Sha256, SiteId: u.report.SiteId, CheckInId: u.report.CheckInId})
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for {
			part, err := stream.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("a photo that was acknowledged: %v, %v", u.done, err)
			}
			got = append(got, part.GetData()...)
		}
		// Nothing had to be taken out of these.
		if !bytes.Equal(got, u.photo) {
			t.Errorf("a photo of %d bytes came back with %d", len(u.photo), len(got))
		}
	}
	if resumed == 0 {
		t.Error("no upload was interrupted")
	}
	t.Logf("%d photos, %d interrupted uploads", len(all), resumed)
	photos := 0
	for _, site := range ids[:5] {
		for _, e := range wantChain(t, conn, site) {
			if e.Kind == xunchav1.EntryKind_ENTRY_KIND_PHOTO_STORED {
				photos++
			}
		}
	}
	if photos != len(all) {
		t.Errorf("%d photos are on record, want %d", photos, len(all))
	}
	for range 2 { // a last kill, and a start that ends in peace
		_ = server.Process.Signal(syscall.SIGKILL)
		_ = server.Wait()
		server, _ = begin()
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// TestPhotoOnTwoServers sends the beginning of a photo to one server and the rest
// to another on the same database.
func TestPhotoOnTwoServers(t *testing.T) {
	t.Parallel()
	uri := mongo(t).Database(t)
	first, _ := serveOn(t, "--store", uri)
	site := fill(t, first)[0]
	second, _ := serveOn(t, "--store", uri)
	conns := []*grpc.ClientConn{connect(t, first), connect(t, second)}
	content := noise(t, 1, 300_000)
	c := newCheckIn(site)
	c.Photos = []*xunchav1.Photo{client.Declare(content)}
	submit(t, conns[0], c)
	half := photoOf(c, content[:150_000])
	if answer, err := sendPhoto(t.Context(), xunchav1.NewPhotoServiceClient(conns[0]), half, 0); err != nil || answer.Stored {
		t.Fatalf("got %v, %v, want that half is there", answer, err)
	}
	state, err := xunchav1.NewPhotoServiceClient(conns[1]).GetPhotoUpload(t.Context(), &xunchav1.GetPhotoUploadRequest{Sha256: half.SHA256, SiteId: site, CheckInId: c.CheckInId})
	if err != nil || state.ReceivedBytes != 150_000 || state.Stored {
		t.Fatalf("got %v, %v, want that half is there", state, err)
	}
	if err := newClient(t, second).UploadPhoto(t.Context(), photoOf(c, content)); err != nil {
		t.Fatal(err)
	}
	for i, address := range []string{first, second} {
		to := filepath.Join(t.TempDir(), "out.png")
		if _, stderr, err := xuncha(t, "photo", "--server", address, "--site", site, "--check-in", c.CheckInId, "--sha256", hex.EncodeToString(half.SHA256), "-o", to); err != nil {
			t.Fatal(err, stderr)
		}
		if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
			t.Errorf("server %d shows %d bytes, %v", i, len(got), err)
		}
	}
}

// TestDatabaseMovedAside holds that a server that is told to go on with another database
// deletes no photo, and that with the right one all are there again.
func TestDatabaseMovedAside(t *testing.T) {
	t.Parallel()
	folder, aside := t.TempDir(), t.TempDir()
	move := func(from, to string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(from, "xuncha.db*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("there is no database in %s, %v", from, err)
		}
		for _, f := range files {
			if err := os.Rename(f, filepath.Join(to, filepath.Base(f))); err != nil {
				t.Fatal(err)
			}
		}
	}
	address, stop := serveFolder(t, folder)
	conn := connect(t, address)
	type upload struct {
		report *xunchav1.CheckIn
		photo  []byte
	}
	var all []upload
	for i, site := range fill(t, address)[:5] {
		u := upload{newCheckIn(site), noise(t, uint64(i), 10_000)}
		u.report.Photos = []*xunchav1.Photo{client.Declare(u.photo)}
		submit(t, conn, u.report)
		if err := newClient(t, address).UploadPhoto(t.Context(), photoOf(u.report, u.photo)); err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	stop()
	before := photoFiles(t, folder)
	if len(before) != len(all) {
		t.Fatalf("got the files %v", before)
	}

	move(folder, aside)
	if _, _, err := xuncha(t, "serve", "--listen", "127.0.0.1:0", "--data", folder); err == nil || !strings.Contains(err.Error(), "--accept-loss") {
		t.Errorf("without the database: got %v, want that it does not start", err)
	}
	if now := photoFiles(t, folder); !slices.Equal(now, before) {
		t.Errorf("without the database: got the files %v, want %v", now, before)
	}
	_, stop = serveOn(t, "--data", folder, "--accept-loss")
	unknown := func() (n int) {
		for _, f := range photoFiles(t, folder) {
			if strings.HasPrefix(f, "unknown/") {
				n++
			}
		}
		return n
	}
	eventually(t, "all files are set aside", func() bool { return unknown() == len(all) })
	if log := stop(); !strings.Contains(log, "files of photos that no record knows are set aside") || len(photoFiles(t, folder)) != len(all) {
		t.Errorf("got the files %v, %s", photoFiles(t, folder), log)
	}

	move(folder, t.TempDir())
	move(aside, folder)
	address, _ = serveOn(t, "--data", folder, "--accept-loss")
	for _, u := range all {
		to := filepath.Join(t.TempDir(), "out.png")
		if _, stderr, err := xuncha(t, "photo", "--server", address, "--site", u.report.SiteId, "--check-in", u.report.CheckInId, "--sha256", hex.EncodeToString(u.report.Photos[0].Sha256), "-o", to); err != nil {
			t.Fatal(err, stderr)
		}
		if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, u.photo) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	eventually(t, "all files are back", func() bool { return slices.Equal(photoFiles(t, folder), before) })
}
