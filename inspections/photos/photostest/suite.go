// Package photostest is the contract of photos.Store as a test suite, which an
// engine joins with one line, and a store in memory.
package photostest

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
	"xuncha/inspections/photos"
	"xuncha/sites"
)

// An Engine is an engine's store as the suite needs it.
type Engine interface {
	Photos() photos.Store
	// ForgetPhoto removes what the store knows of a photo and leaves its file, as an
	// older database in the place of the right one would. RecallPhoto puts it back.
	ForgetPhoto(testing.TB, photos.Kept)
	RecallPhoto(testing.TB, photos.Kept)
}

// Run tests what the engine promises of photos, each promise on a store of its
// own. Open returns an empty store, and reopen what has become of it after the
// server was started anew.
func Run[E Engine](t *testing.T, open func(testing.TB) E, reopen func(testing.TB, E) E) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s photos.Store, again func() photos.Store)
	}{
		{"FirstClaimCounts", testClaim},
		{"ClaimedAtOnce", testClaimAtOnce},
		{"ReceivedInParts", testReceive},
		{"ReceivedTwiceAtOnce", testReceiveAtOnce},
		{"Partials", testPartials},
		{"Keep", testKeep},
		{"KeptOnce", testKeepOnce},
		{"KeptOnceAtOnce", testKeepAtOnce},
		{"KeptAsReceived", testKeepReceived},
		{"KeepFails", testKeepFails},
		{"KeptInPages", testKeptInPages},
		{"Purge", testPurge},
		{"PurgedWhileKept", testPurgedWhileKept},
		{"Tidy", testTidy},
		{"TidiedWhileKept", testTidiedWhileKept},
		{"Cancelled", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := open(t)
			c.test(t, e.Photos(), func() photos.Store {
				e = reopen(t, e)
				return e.Photos()
			})
		})
	}
	runSetAside(t, open, reopen)
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
func ref(site sites.SiteID, checkIn int, content []byte) photos.Ref {
	id := inspections.CheckInID(fmt.Sprintf("00000000-0000-4000-9000-%012d", checkIn))
	return photos.Ref{CheckInRef: inspections.CheckInRef{Site: site, CheckIn: id}, SHA256: sha256.Sum256(content)}
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
func kept(p photos.Ref, order sites.OrderID, b []byte) photos.Kept {
	return photos.Kept{Ref: p, Stored: sha256.Sum256(b), Size: int64(len(b)), ContentType: "image/png", Order: order}
}

// given is the photo as it is given to Keep, which knows nothing of its file.
func given(k photos.Kept) photos.Kept {
	k.Stored, k.Size = inspections.Digest{}, 0
	return k
}

func mustKeep(t testing.TB, s photos.Store, k photos.Kept, b []byte) {
	t.Helper()
	got, err := s.Keep(t.Context(), given(k), bytes.NewReader(b))
	check(t, err)
	if got != k {
		t.Errorf("got %+v, want %+v", got, k)
	}
}

func wantReceived(t testing.TB, s photos.Store, r photos.Ref, want int64) {
	t.Helper()
	f, err := s.Partial(t.Context(), r)
	if want == 0 {
		if !errors.Is(err, photos.ErrMissing) {
			t.Errorf("got %v, want ErrMissing", err)
		}
		return
	}
	check(t, err)
	if f.Size() != want {
		t.Errorf("received %d, want %d", f.Size(), want)
	}
	check(t, f.Close())
}

func readAll(t testing.TB, f photos.File) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	check(t, err)
	check(t, f.Close())
	return b
}

func wantFile(t testing.TB, s photos.Store, stored inspections.Digest, want []byte) {
	t.Helper()
	f, err := s.Open(t.Context(), stored)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, f); !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes, not the %d that were stored", len(got), len(want))
	}
}

func wantLost(t testing.TB, s photos.Store, stored inspections.Digest) {
	t.Helper()
	if _, err := s.Open(t.Context(), stored); !errors.Is(err, photos.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
}

func wantKept(t testing.TB, s photos.Store, of inspections.CheckInRef, want ...photos.Kept) {
	t.Helper()
	got, err := s.KeptOf(t.Context(), []inspections.CheckInRef{of})
	check(t, err)
	slices.SortFunc(got, func(a, b photos.Kept) int { return compare(a.Ref, b.Ref) })
	slices.SortFunc(want, func(a, b photos.Kept) int { return compare(a.Ref, b.Ref) })
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func wantClaimed(t testing.TB, s photos.Store, sums []inspections.Digest, want ...inspections.CheckInRef) {
	t.Helper()
	if got, err := s.Claimed(t.Context(), sums); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func testClaim(t *testing.T, s photos.Store, again func() photos.Store) {
	a, b := ref(site, 1, nil).CheckInRef, ref(other, 2, nil).CheckInRef
	x, y, z := ref(site, 1, []byte("x")).SHA256, ref(site, 1, []byte("y")).SHA256, ref(site, 1, []byte("z")).SHA256
	nobody := inspections.CheckInRef{}
	wantClaimed(t, s, []inspections.Digest{x, y, z}, nobody, nobody, nobody)
	check(t, s.Claim(t.Context(), []inspections.Digest{x}, a))
	wantClaimed(t, s, []inspections.Digest{y, x}, nobody, a)
	check(t, s.Claim(t.Context(), []inspections.Digest{y, x, z}, b))
	check(t, s.Claim(t.Context(), []inspections.Digest{x, y}, a))
	s = again()
	check(t, s.Claim(t.Context(), []inspections.Digest{x, y}, b))
	wantClaimed(t, s, []inspections.Digest{x, y, z}, a, b, b)
}

func testClaimAtOnce(t *testing.T, s photos.Store, _ func() photos.Store) {
	sum := ref(site, 1, []byte("x")).SHA256
	firsts := make([]inspections.CheckInRef, 8)
	atOnce(len(firsts), func(i int) {
		if err := s.Claim(t.Context(), []inspections.Digest{sum}, ref(site, i, nil).CheckInRef); err != nil {
			t.Error(err)
			return
		}
		got, err := s.Claimed(t.Context(), []inspections.Digest{sum})
		if err != nil {
			t.Error(err)
			return
		}
		firsts[i] = got[0]
	})
	for _, first := range firsts {
		if first != firsts[0] || first.Site != site {
			t.Fatalf("not all were told the same: %v", firsts)
		}
	}
}

func testReceive(t *testing.T, s photos.Store, again func() photos.Store) {
	whole := content(1, 700_000)
	r := ref(site, 1, whole)
	wantReceived(t, s, r, 0)
	check(t, s.Receive(t.Context(), r, 0, whole[:300_000]))
	wantReceived(t, s, r, 300_000)
	if err := s.Receive(t.Context(), r, 300_001, whole[300_001:]); !errors.Is(err, photos.ErrOffset) {
		t.Errorf("got %v, want ErrOffset", err)
	}
	check(t, s.Secure(t.Context(), r))
	s = again()
	wantReceived(t, s, r, 300_000)
	// It may overlap what is there, and lie within it; neither changes that.
	overlapping := bytes.Clone(whole[250_000:500_001])
	overlapping[0] ^= 1
	check(t, s.Receive(t.Context(), r, 250_000, overlapping))
	check(t, s.Receive(t.Context(), r, 10, []byte("something else")))
	wantReceived(t, s, r, 500_001)
	check(t, s.Receive(t.Context(), r, 500_001, whole[500_001:]))
	wantReceived(t, s, ref(site, 2, whole), 0) // another check-in's
	f, err := s.Partial(t.Context(), r)
	check(t, err)
	if got := readAll(t, f); !bytes.Equal(got, whole) {
		t.Error("what was received is not what was sent")
	}
	check(t, s.Discard(t.Context(), r))
	check(t, s.Discard(t.Context(), r))
	wantReceived(t, s, r, 0)
}

func testReceiveAtOnce(t *testing.T, s photos.Store, _ func() photos.Store) {
	whole := content(1, 400_000)
	r := ref(site, 1, whole)
	atOnce(4, func(i int) {
		step := 30_000 + 7_000*i
		for at := 0; at < len(whole); at += step {
			if err := s.Receive(t.Context(), r, int64(at), whole[at:min(at+step, len(whole))]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	f, err := s.Partial(t.Context(), r)
	check(t, err)
	if got := readAll(t, f); !bytes.Equal(got, whole) {
		t.Errorf("what was received, %d bytes, is not what was sent", len(got))
	}
}

func testPartials(t *testing.T, s photos.Store, again func() photos.Store) {
	// Engines note by the machine's clock when something came.
	before := time.Now().Add(-time.Minute)
	want := map[photos.Ref]int64{}
	for i := range 3 {
		b := content(i, 100*(i+1))
		r := ref(site, i, b)
		check(t, s.Receive(t.Context(), r, 0, b))
		want[r] = int64(len(b))
	}
	gone := ref(other, 9, []byte("gone"))
	check(t, s.Receive(t.Context(), gone, 0, []byte("gone")))
	check(t, s.Discard(t.Context(), gone))
	s = again()
	check(t, s.Partials(t.Context(), func(r photos.Ref, received int64, last time.Time) error {
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
	if err := s.Partials(t.Context(), func(photos.Ref, int64, time.Time) error { return stop }); err != stop {
		t.Errorf("got %v, want the caller's error", err)
	}
}

func testKeep(t *testing.T, s photos.Store, again func() photos.Store) {
	// As long as several parts of whatever an engine divides files into, and one.
	b, small := content(1, 1_200_000), content(2, 10)
	k := kept(ref(site, 1, []byte("declared")), "order", b)
	tiny := kept(ref(site, 1, small), "order", small)
	wantKept(t, s, k.CheckInRef)
	wantLost(t, s, k.Stored)
	mustKeep(t, s, k, b)
	mustKeep(t, s, tiny, small)
	s = again()
	wantKept(t, s, k.CheckInRef, k, tiny)
	wantClaimed(t, s, []inspections.Digest{k.Stored}, k.CheckInRef)
	wantKept(t, s, inspections.CheckInRef{Site: other, CheckIn: k.CheckIn})
	wantFile(t, s, k.Stored, b)
	wantFile(t, s, tiny.Stored, small)
	f, err := s.Open(t.Context(), k.Stored)
	check(t, err)
	defer f.Close()
	part := make([]byte, 300_000)
	if n, err := f.ReadAt(part, 500_001); n != len(part) || err != nil || !bytes.Equal(part, b[500_001:800_001]) {
		t.Errorf("read %d bytes from the middle, %v", n, err)
	}
	if n, err := f.ReadAt(part, int64(len(b)-5)); n != 5 || err != io.EOF {
		t.Errorf("read %d bytes at the end, %v", n, err)
	}
}

// testKeepReceived is for stores that can do it.
func testKeepReceived(t *testing.T, s photos.Store, again func() photos.Store) {
	keeper, ok := s.(photos.ReceivedKeeper)
	if !ok {
		t.Skip("the store writes what it keeps")
	}
	b := content(1, 400_000)
	k := kept(ref(site, 1, b), "order", b)
	if _, err := keeper.KeepReceived(t.Context(), given(k)); !errors.Is(err, photos.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
	wantKept(t, s, k.CheckInRef)
	twin := kept(ref(other, 2, b), "order", b)
	for _, k := range []photos.Kept{k, twin, k} { // also one that is there, and is kept
		check(t, s.Receive(t.Context(), k.Ref, 0, b[:300_000]))
		check(t, s.Receive(t.Context(), k.Ref, 300_000, b[300_000:]))
		if got, err := keeper.KeepReceived(t.Context(), given(k)); err != nil || got != k {
			t.Errorf("got %+v, %v; want %+v", got, err, k)
		}
		// What has come stays until the history says that the photo is kept.
		wantReceived(t, s, k.Ref, int64(len(b)))
		check(t, s.Discard(t.Context(), k.Ref))
		wantReceived(t, s, k.Ref, 0)
		wantFile(t, s, k.Stored, b)
	}
	s = again()
	wantKept(t, s, k.CheckInRef, k)
	wantKept(t, s, twin.CheckInRef, twin)
	wantClaimed(t, s, []inspections.Digest{k.Stored}, k.CheckInRef)
	wantFile(t, s, k.Stored, b)
}

// A failingWriter is content of which only a part can be written.
type failingWriter struct{ err error }

// WriteTo implements io.WriterTo.
func (w failingWriter) WriteTo(to io.Writer) (int64, error) {
	n, err := to.Write([]byte("half of it"))
	return int64(n), errors.Join(w.err, err)
}

func testKeepOnce(t *testing.T, s photos.Store, _ func() photos.Store) {
	b := content(1, 1000)
	k := kept(ref(site, 1, b), "order", b)
	mustKeep(t, s, k, b)
	// What is kept stays, whatever comes later.
	if got, err := s.Keep(t.Context(), given(k), bytes.NewReader(content(2, 10))); err != nil || got != k {
		t.Errorf("got %+v, %v; want %+v", got, err, k)
	}
	wantLost(t, s, sha256.Sum256(content(2, 10)))
	twin := kept(ref(other, 2, []byte("with other metadata")), "order", b)
	mustKeep(t, s, twin, b)
	wantKept(t, s, twin.CheckInRef, twin)
	wantClaimed(t, s, []inspections.Digest{k.Stored}, k.CheckInRef)
	wantFile(t, s, k.Stored, b)
}

func testKeepAtOnce(t *testing.T, s photos.Store, _ func() photos.Store) {
	b := content(1, 300_000)
	atOnce(6, func(i int) {
		k := kept(ref(site, i/2, b), "order", b)
		if got, err := s.Keep(t.Context(), given(k), bytes.NewReader(b)); err != nil || got != k {
			t.Errorf("got %+v, %v; want %+v", got, err, k)
		}
	})
	stored := inspections.Digest(sha256.Sum256(b))
	for i := range 3 {
		k := kept(ref(site, i, b), "order", b)
		wantKept(t, s, k.CheckInRef, k)
		wantFile(t, s, stored, b)
		check(t, s.Purge(t.Context(), k))
	}
	// There is no second one that stayed.
	wantLost(t, s, stored)
}

func testKeepFails(t *testing.T, s photos.Store, again func() photos.Store) {
	b := content(1, 1000)
	k := kept(ref(site, 1, b), "order", b)
	stop := errors.New("stop")
	if _, err := s.Keep(t.Context(), given(k), failingWriter{stop}); !errors.Is(err, stop) {
		t.Errorf("got %v, want the content's error", err)
	}
	wantKept(t, s, k.CheckInRef)
	wantLost(t, s, sha256.Sum256([]byte("half of it")))
	s = again()
	wantKept(t, s, k.CheckInRef)
	mustKeep(t, s, k, b)
	wantFile(t, s, k.Stored, b)
}

func testKeptInPages(t *testing.T, s photos.Store, _ func() photos.Store) {
	want := map[sites.OrderID][]photos.Ref{}
	for i := range 7 {
		b := content(i, 100)
		k := kept(ref([]sites.SiteID{site, other}[i%2], i/3, b), "order", b)
		mustKeep(t, s, k, b)
		if i == 3 {
			check(t, s.Purge(t.Context(), k))
			continue
		}
		twin := kept(ref(site, 100+i, b), "another order", b)
		mustKeep(t, s, twin, b)
		want[k.Order] = append(want[k.Order], k.Ref)
		want[""] = append(want[""], k.Ref, twin.Ref)
	}
	for order, want := range want {
		slices.SortFunc(want, compare)
		var got []photos.Ref
		var after photos.Ref
		for {
			page, err := s.Kept(t.Context(), order, after, 2)
			check(t, err)
			if len(page) == 0 {
				break
			}
			if len(page) > 2 {
				t.Fatalf("got a page of %d, want at most 2", len(page))
			}
			for _, k := range page {
				got = append(got, k.Ref)
				after = k.Ref
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("under the order %q: got %v, want %v", order, got, want)
		}
	}
}

func testPurge(t *testing.T, s photos.Store, again func() photos.Store) {
	b := content(1, 1000)
	one, two := kept(ref(site, 1, b), "order", b), kept(ref(other, 2, b), "order", b)
	mustKeep(t, s, one, b)
	mustKeep(t, s, two, b)
	check(t, s.Purge(t.Context(), one))
	check(t, s.Purge(t.Context(), one))
	gone := one
	gone.Purged = true
	wantKept(t, s, one.CheckInRef, gone)
	// The other still needs the file.
	wantFile(t, s, one.Stored, b)
	// What was purged is not stored again.
	if got, err := s.Keep(t.Context(), given(one), bytes.NewReader(b)); err != nil || got != gone {
		t.Errorf("got %+v, %v; want %+v", got, err, gone)
	}
	wantKept(t, s, one.CheckInRef, gone)
	check(t, s.Purge(t.Context(), two))
	wantLost(t, s, one.Stored)
	s = again()
	wantLost(t, s, one.Stored)
	wantKept(t, s, one.CheckInRef, gone)
	if list, err := s.Kept(t.Context(), "", photos.Ref{}, 10); len(list) > 0 || err != nil {
		t.Errorf("got %v, %v; want none", list, err)
	}
	// The same picture of a later visit is stored.
	three := kept(ref(site, 3, b), "order", b)
	mustKeep(t, s, three, b)
	wantFile(t, s, three.Stored, b)
	// A copy notes what was purged before.
	never := kept(ref(site, 4, content(2, 10)), "order", content(2, 10))
	check(t, s.Purge(t.Context(), never))
	never.Purged = true
	wantKept(t, s, never.CheckInRef, never)
}

// A writerFunc is content that a function writes.
type writerFunc func(io.Writer) (int64, error)

// WriteTo implements io.WriterTo.
func (f writerFunc) WriteTo(w io.Writer) (int64, error) { return f(w) }

// testPurgedWhileKept purges the last photo with a file while another photo with
// the same file is being written.
func testPurgedWhileKept(t *testing.T, s photos.Store, _ func() photos.Store) {
	b := content(1, 1000)
	one, two := kept(ref(site, 1, b), "order", b), kept(ref(other, 2, b), "order", b)
	mustKeep(t, s, one, b)
	got, err := s.Keep(t.Context(), given(two), writerFunc(func(w io.Writer) (int64, error) {
		if err := s.Purge(t.Context(), one); err != nil {
			return 0, err
		}
		if _, err := s.Tidy(t.Context()); err != nil {
			return 0, err
		}
		n, err := w.Write(b)
		return int64(n), err
	}))
	if err != nil || got != two {
		t.Errorf("got %+v, %v; want %+v", got, err, two)
	}
	wantFile(t, s, two.Stored, b)
}

func testTidy(t *testing.T, s photos.Store, _ func() photos.Store) {
	b := content(1, 1000)
	k := kept(ref(site, 1, b), "order", b)
	mustKeep(t, s, k, b)
	check(t, s.Receive(t.Context(), ref(site, 2, b), 0, b))
	if n, err := s.Tidy(t.Context()); n != 0 || err != nil {
		t.Errorf("removed %d, %v; want none", n, err)
	}
	wantFile(t, s, k.Stored, b)
	wantReceived(t, s, ref(site, 2, b), 1000)
}

// testTidiedWhileKept tidies while a photo is being written, and at once while several
// are stored and purged.
func testTidiedWhileKept(t *testing.T, s photos.Store, _ func() photos.Store) {
	b := content(1, 600_000)
	k := kept(ref(site, 1, b), "order", b)
	got, err := s.Keep(t.Context(), given(k), writerFunc(func(w io.Writer) (n int64, err error) {
		for part := range slices.Chunk(b, 300_000) {
			if removed, err := s.Tidy(t.Context()); removed != 0 || err != nil {
				return n, fmt.Errorf("removed %d of what is being stored, %w", removed, err)
			}
			m, err := w.Write(part)
			if n += int64(m); err != nil {
				return n, err
			}
		}
		return n, nil
	}))
	if err != nil || got != k {
		t.Errorf("got %+v, %v; want %+v", got, err, k)
	}
	wantFile(t, s, k.Stored, b)
	atOnce(3, func(i int) {
		if i == 0 {
			if _, err := s.Tidy(t.Context()); err != nil {
				t.Error(err)
			}
			return
		}
		for j := range 5 {
			b := content(j, 1000) // both have the same
			k := kept(ref(site, 10*i+j, b), "order", b)
			if got, err := s.Keep(t.Context(), given(k), bytes.NewReader(b)); err != nil || got != k {
				t.Errorf("got %+v, %v; want %+v", got, err, k)
			}
			if i == 2 {
				if err := s.Purge(t.Context(), k); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for j := range 5 {
		wantFile(t, s, sha256.Sum256(content(j, 1000)), content(j, 1000))
	}
}

func testCancelled(t *testing.T, s photos.Store, _ func() photos.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := content(1, 1000)
	k := kept(ref(site, 1, b), "order", b)
	_, claimed := s.Claimed(ctx, []inspections.Digest{k.SHA256})
	_, partial := s.Partial(ctx, k.Ref)
	_, of := s.KeptOf(ctx, []inspections.CheckInRef{k.CheckInRef})
	_, list := s.Kept(ctx, "", photos.Ref{}, 10)
	_, open := s.Open(ctx, k.Stored)
	_, keep := s.Keep(ctx, k, bytes.NewReader(b))
	for name, err := range map[string]error{
		"Claimed": claimed, "Partial": partial, "KeptOf": of, "Kept": list, "Open": open, "Keep": keep,
		"Claim":   s.Claim(ctx, []inspections.Digest{k.SHA256}, k.CheckInRef),
		"Receive": s.Receive(ctx, k.Ref, 0, b),
		"Purge":   s.Purge(ctx, k),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want that the caller has gone", name, err)
		}
	}
	wantReceived(t, s, k.Ref, 0)
	wantKept(t, s, k.CheckInRef)
}
