// Package inspectionstest is the contract of inspections.Photos as a test suite,
// which an engine joins with one line, and photos in memory.
package inspectionstest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/sites"
)

// A PhotoStore is an engine's store as the suite of photos needs it.
type PhotoStore interface {
	Photos() inspections.Photos
}

// RunPhotos tests what the engine promises of photos, each on a store of its own.
func RunPhotos[S PhotoStore](t *testing.T, open func(testing.TB) S, reopen func(testing.TB, S) S) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, p inspections.Photos, again func() inspections.Photos)
	}{
		{"FirstClaimCounts", testClaim},
		{"ClaimedAtOnce", testClaimAtOnce},
		{"ReceivedInParts", testReceive},
		{"ReceivedTwiceAtOnce", testReceiveAtOnce},
		{"Partials", testPartials},
		{"Keep", testKeep},
		{"KeptOnce", testKeepOnce},
		{"KeptOnceAtOnce", testKeepAtOnce},
		{"KeepFails", testKeepFails},
		{"KeptUnderAnOrder", testKeptUnder},
		{"Purge", testPurgePhoto},
		{"Tidy", testTidy},
		{"PhotosCancelled", testPhotosCancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			c.test(t, s.Photos(), func() inspections.Photos {
				s = reopen(t, s)
				return s.Photos()
			})
		})
	}
}

const (
	site  = sites.SiteID("00000000-0000-4000-8000-000000000001")
	other = sites.SiteID("00000000-0000-4000-8000-000000000002")
)

// atOnce calls f(0) to f(n-1), each in a goroutine of its own.
func atOnce(n int, f func(int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// ref names the photo with the content of the check-in.
func ref(site sites.SiteID, checkIn int, content []byte) inspections.PhotoRef {
	id := inspections.CheckInID(fmt.Sprintf("00000000-0000-4000-9000-%012d", checkIn))
	return inspections.PhotoRef{CheckInRef: inspections.CheckInRef{Site: site, CheckIn: id}, SHA256: sha256.Sum256(content)}
}

// content is n bytes that differ from those of another seed.
func content(seed, n int) []byte {
	b := make([]byte, 0, n+8)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d.%d ", seed, i)
	}
	return b[:n]
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kept is the photo of which all that came was b, as one that had nothing to take
// out.
func kept(p inspections.PhotoRef, order sites.OrderID, b []byte) inspections.KeptPhoto {
	return inspections.KeptPhoto{
		PhotoRef: p, Stored: sha256.Sum256(b), Size: int64(len(b)), ContentType: "image/png", Order: order,
	}
}

func mustKeep(t testing.TB, p inspections.Photos, k inspections.KeptPhoto, b []byte) {
	t.Helper()
	check(t, p.Keep(t.Context(), k, bytes.NewReader(b)))
}

func wantReceived(t testing.TB, p inspections.Photos, r inspections.PhotoRef, want int64) {
	t.Helper()
	if got, err := p.Received(t.Context(), r); err != nil || got != want {
		t.Errorf("received %d, %v; want %d", got, err, want)
	}
}

func readAll(t testing.TB, f inspections.File) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	check(t, err)
	check(t, f.Close())
	return b
}

func wantFile(t testing.TB, p inspections.Photos, stored inspections.Digest, want []byte) {
	t.Helper()
	f, err := p.Open(t.Context(), stored)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, f); !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes, not the %d that were stored", len(got), len(want))
	}
}

func wantLost(t testing.TB, p inspections.Photos, stored inspections.Digest) {
	t.Helper()
	if _, err := p.Open(t.Context(), stored); !errors.Is(err, inspections.ErrPhotoLost) {
		t.Errorf("got %v, want ErrPhotoLost", err)
	}
}

func wantKept(t testing.TB, p inspections.Photos, of inspections.CheckInRef, want ...inspections.KeptPhoto) {
	t.Helper()
	got, err := p.KeptOf(t.Context(), []inspections.CheckInRef{of})
	check(t, err)
	slices.SortFunc(got, func(a, b inspections.KeptPhoto) int { return comparePhotos(a.PhotoRef, b.PhotoRef) })
	slices.SortFunc(want, func(a, b inspections.KeptPhoto) int { return comparePhotos(a.PhotoRef, b.PhotoRef) })
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func testClaim(t *testing.T, p inspections.Photos, again func() inspections.Photos) {
	a, b := ref(site, 1, nil).CheckInRef, ref(other, 2, nil).CheckInRef
	x, y := ref(site, 1, []byte("x")).SHA256, ref(site, 1, []byte("y")).SHA256
	want := func(sums []inspections.Digest, by inspections.CheckInRef, want ...inspections.CheckInRef) {
		t.Helper()
		if got, err := p.Claim(t.Context(), sums, by); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	looked := func(want ...inspections.CheckInRef) {
		t.Helper()
		if got, err := p.Claimed(t.Context(), []inspections.Digest{x, y}); err != nil || !slices.Equal(got, want) {
			t.Errorf("looked up: got %v, %v; want %v", got, err, want)
		}
	}
	looked(inspections.CheckInRef{}, inspections.CheckInRef{})
	want([]inspections.Digest{x}, a, a)
	looked(a, inspections.CheckInRef{})
	want([]inspections.Digest{y, x}, b, b, a)
	want([]inspections.Digest{x, y}, a, a, b)
	p = again()
	want([]inspections.Digest{x, y}, b, a, b)
}

func testClaimAtOnce(t *testing.T, p inspections.Photos, _ func() inspections.Photos) {
	sum := ref(site, 1, []byte("x")).SHA256
	firsts := make([]inspections.CheckInRef, 8)
	atOnce(len(firsts), func(i int) {
		got, err := p.Claim(t.Context(), []inspections.Digest{sum}, ref(site, i, nil).CheckInRef)
		if err != nil {
			t.Error(err)
			return
		}
		firsts[i] = got[0]
	})
	for _, first := range firsts {
		if first != firsts[0] {
			t.Fatalf("not all were told the same: %v", firsts)
		}
	}
}

func testReceive(t *testing.T, p inspections.Photos, again func() inspections.Photos) {
	whole := content(1, 700_000)
	r := ref(site, 1, whole)
	wantReceived(t, p, r, 0)
	if _, err := p.Partial(t.Context(), r); !errors.Is(err, inspections.ErrPhotoMissing) {
		t.Errorf("got %v, want ErrPhotoMissing", err)
	}
	check(t, p.Receive(t.Context(), r, 0, whole[:300_000]))
	wantReceived(t, p, r, 300_000)
	if err := p.Receive(t.Context(), r, 300_001, whole[300_001:]); !errors.Is(err, inspections.ErrPhotoOffset) {
		t.Errorf("got %v, want ErrPhotoOffset", err)
	}
	check(t, p.Secure(t.Context(), r))
	p = again()
	wantReceived(t, p, r, 300_000)
	// It may overlap what is there, and lie within it; neither changes that.
	overlapping := bytes.Clone(whole[250_000:500_001])
	overlapping[0] ^= 1
	check(t, p.Receive(t.Context(), r, 250_000, overlapping))
	check(t, p.Receive(t.Context(), r, 10, []byte("something else")))
	wantReceived(t, p, r, 500_001)
	check(t, p.Receive(t.Context(), r, 500_001, whole[500_001:]))
	wantReceived(t, p, ref(site, 2, whole), 0) // another check-in's
	f, err := p.Partial(t.Context(), r)
	check(t, err)
	if got := readAll(t, f); !bytes.Equal(got, whole) {
		t.Error("what was received is not what was sent")
	}
	check(t, p.Discard(t.Context(), r))
	check(t, p.Discard(t.Context(), r))
	wantReceived(t, p, r, 0)
}

func testReceiveAtOnce(t *testing.T, p inspections.Photos, _ func() inspections.Photos) {
	whole := content(1, 400_000)
	r := ref(site, 1, whole)
	atOnce(4, func(i int) {
		step := 30_000 + 7_000*i
		for at := 0; at < len(whole); at += step {
			if err := p.Receive(t.Context(), r, int64(at), whole[at:min(at+step, len(whole))]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	f, err := p.Partial(t.Context(), r)
	check(t, err)
	if got := readAll(t, f); !bytes.Equal(got, whole) {
		t.Errorf("what was received, %d bytes, is not what was sent", len(got))
	}
}

func testPartials(t *testing.T, p inspections.Photos, again func() inspections.Photos) {
	// Engines note by the machine's clock when something came.
	before := time.Now().Add(-time.Minute)
	want := map[inspections.PhotoRef]int64{}
	for i := range 3 {
		b := content(i, 100*(i+1))
		r := ref(site, i, b)
		check(t, p.Receive(t.Context(), r, 0, b))
		want[r] = int64(len(b))
	}
	gone := ref(other, 9, []byte("gone"))
	check(t, p.Receive(t.Context(), gone, 0, []byte("gone")))
	check(t, p.Discard(t.Context(), gone))
	p = again()
	check(t, p.Partials(t.Context(), func(r inspections.PhotoRef, received int64, last time.Time) error {
		if want[r] != received || !last.IsZero() && last.Before(before) {
			t.Errorf("%v: got %d of %s, want %d", r, received, last, want[r])
		}
		delete(want, r)
		return nil
	}))
	if len(want) > 0 {
		t.Errorf("%v are missing", want)
	}
	stop := errors.New("stop")
	if err := p.Partials(t.Context(), func(inspections.PhotoRef, int64, time.Time) error { return stop }); err != stop {
		t.Errorf("got %v, want the caller's error", err)
	}
}

func testKeep(t *testing.T, p inspections.Photos, again func() inspections.Photos) {
	// As long as several parts of whatever an engine divides files into, and one.
	b, small := content(1, 1_200_000), content(2, 10)
	k := kept(ref(site, 1, []byte("declared")), "order", b)
	s := kept(ref(site, 1, small), "order", small)
	wantKept(t, p, k.CheckInRef)
	wantLost(t, p, k.Stored)
	mustKeep(t, p, k, b)
	mustKeep(t, p, s, small)
	p = again()
	wantKept(t, p, k.CheckInRef, k, s)
	if first, err := p.Claim(t.Context(), []inspections.Digest{k.Stored}, ref(other, 9, nil).CheckInRef); err != nil || first[0] != k.CheckInRef {
		t.Errorf("the file was used first for %v, %v; want the check-in that it was stored for", first, err)
	}
	wantKept(t, p, inspections.CheckInRef{Site: other, CheckIn: k.CheckIn})
	wantFile(t, p, k.Stored, b)
	wantFile(t, p, s.Stored, small)
	f, err := p.Open(t.Context(), k.Stored)
	check(t, err)
	defer f.Close()
	part := make([]byte, 300_000)
	if n, err := f.ReadAt(part, 500_001); n != len(part) || err != nil || !bytes.Equal(part, b[500_001:800_001]) {
		t.Errorf("read %d bytes from the middle, %v", n, err)
	}
	if n, err := f.ReadAt(part, int64(len(b)-5)); n != 5 || err != io.EOF {
		t.Errorf("read %d bytes at the end, %v", n, err)
	}
	n := 0
	check(t, p.Kept(t.Context(), func(inspections.KeptPhoto) error { n++; return nil }))
	if n != 2 {
		t.Errorf("got %d photos, want 2", n)
	}
}

// failingWriter is content that must not be asked for.
type failingWriter struct{ err error }

func (w failingWriter) WriteTo(to io.Writer) (int64, error) {
	n, err := to.Write([]byte("half of it"))
	return int64(n), errors.Join(w.err, err)
}

func testKeepOnce(t *testing.T, p inspections.Photos, _ func() inspections.Photos) {
	b := content(1, 1000)
	k := kept(ref(site, 1, b), "order", b)
	mustKeep(t, p, k, b)
	unneeded := failingWriter{errors.New("it was asked for")}
	check(t, p.Keep(t.Context(), k, unneeded))
	twin := kept(ref(other, 2, []byte("with other metadata")), "order", b)
	check(t, p.Keep(t.Context(), twin, unneeded))
	wantKept(t, p, twin.CheckInRef, twin)
	wantFile(t, p, k.Stored, b)
}

func testKeepAtOnce(t *testing.T, p inspections.Photos, _ func() inspections.Photos) {
	b := content(1, 300_000)
	atOnce(6, func(i int) {
		k := kept(ref(site, i/2, b), "order", b)
		if err := p.Keep(t.Context(), k, bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
	})
	stored := inspections.Digest(sha256.Sum256(b))
	for i := range 3 {
		k := kept(ref(site, i, b), "order", b)
		wantKept(t, p, k.CheckInRef, k)
		wantFile(t, p, stored, b)
		check(t, p.Purge(t.Context(), k))
	}
	// There is no second one that stayed.
	wantLost(t, p, stored)
}

func testKeepFails(t *testing.T, p inspections.Photos, again func() inspections.Photos) {
	b := content(1, 1000)
	k := kept(ref(site, 1, b), "order", b)
	stop := errors.New("stop")
	if err := p.Keep(t.Context(), k, failingWriter{stop}); !errors.Is(err, stop) {
		t.Errorf("got %v, want the content's error", err)
	}
	wantKept(t, p, k.CheckInRef)
	wantLost(t, p, k.Stored)
	p = again()
	wantLost(t, p, k.Stored)
	mustKeep(t, p, k, b)
	wantFile(t, p, k.Stored, b)
}

func testKeptUnder(t *testing.T, p inspections.Photos, _ func() inspections.Photos) {
	var want []inspections.PhotoRef
	for i := range 7 {
		b := content(i, 100)
		k := kept(ref([]sites.SiteID{site, other}[i%2], i/3, b), "order", b)
		mustKeep(t, p, k, b)
		if i == 3 {
			check(t, p.Purge(t.Context(), k))
			continue
		}
		want = append(want, k.PhotoRef)
		mustKeep(t, p, kept(ref(site, 100+i, b), "another order", b), b)
	}
	slices.SortFunc(want, comparePhotos)
	var got []inspections.PhotoRef
	var after inspections.PhotoRef
	for {
		page, err := p.KeptUnder(t.Context(), "order", after, 2)
		check(t, err)
		if len(page) == 0 {
			break
		}
		for _, k := range page {
			got = append(got, k.PhotoRef)
			after = k.PhotoRef
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func testPurgePhoto(t *testing.T, p inspections.Photos, again func() inspections.Photos) {
	b := content(1, 1000)
	one, two := kept(ref(site, 1, b), "order", b), kept(ref(other, 2, b), "order", b)
	mustKeep(t, p, one, b)
	mustKeep(t, p, two, b)
	check(t, p.Purge(t.Context(), one))
	check(t, p.Purge(t.Context(), one))
	gone := one
	gone.Purged = true
	wantKept(t, p, one.CheckInRef, gone)
	// The other still needs the file.
	wantFile(t, p, one.Stored, b)
	// What was purged is not stored again.
	mustKeep(t, p, one, b)
	wantKept(t, p, one.CheckInRef, gone)
	check(t, p.Purge(t.Context(), two))
	wantLost(t, p, one.Stored)
	p = again()
	wantLost(t, p, one.Stored)
	wantKept(t, p, one.CheckInRef, gone)
	check(t, p.Kept(t.Context(), func(k inspections.KeptPhoto) error { return fmt.Errorf("%v is there", k) }))
	// The same picture of a later visit is stored.
	three := kept(ref(site, 3, b), "order", b)
	mustKeep(t, p, three, b)
	wantFile(t, p, three.Stored, b)
	// A copy notes what was purged before.
	never := kept(ref(site, 4, content(2, 10)), "order", content(2, 10))
	check(t, p.Purge(t.Context(), never))
	never.Purged = true
	wantKept(t, p, never.CheckInRef, never)
}

func testTidy(t *testing.T, p inspections.Photos, _ func() inspections.Photos) {
	b := content(1, 1000)
	k := kept(ref(site, 1, b), "order", b)
	mustKeep(t, p, k, b)
	check(t, p.Receive(t.Context(), ref(site, 2, b), 0, b))
	if n, err := p.Tidy(t.Context()); n != 0 || err != nil {
		t.Errorf("removed %d, %v; want none", n, err)
	}
	wantFile(t, p, k.Stored, b)
	wantReceived(t, p, ref(site, 2, b), 1000)
}

func testPhotosCancelled(t *testing.T, p inspections.Photos, _ func() inspections.Photos) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := content(1, 1000)
	k := kept(ref(site, 1, b), "order", b)
	_, claim := p.Claim(ctx, []inspections.Digest{k.SHA256}, k.CheckInRef)
	_, received := p.Received(ctx, k.PhotoRef)
	_, of := p.KeptOf(ctx, []inspections.CheckInRef{k.CheckInRef})
	_, open := p.Open(ctx, k.Stored)
	for name, err := range map[string]error{
		"Claim": claim, "Received": received, "KeptOf": of, "Open": open,
		"Receive": p.Receive(ctx, k.PhotoRef, 0, b),
		"Keep":    p.Keep(ctx, k, bytes.NewReader(b)),
		"Purge":   p.Purge(ctx, k),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want that the caller has gone", name, err)
		}
	}
	wantReceived(t, p, k.PhotoRef, 0)
	wantKept(t, p, k.CheckInRef)
}
