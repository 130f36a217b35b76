package photos_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/inspections/photos/photostest"
	"xuncha/inspections/picture"
	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

const day = 24 * time.Hour

// A world is where a service takes in photos.
type world struct {
	*sitestest.World
	*photos.Service
	store *photostest.Memory
	// believed is the time that may be counted with. Where it is zero, that is the clock's.
	believed time.Time
	// doubted tells that there is none.
	doubted bool
}

// believe implements photos.Config.Believed.
func (w *world) believe() (time.Time, bool) {
	if w.believed.IsZero() {
		return w.Now, !w.doubted
	}
	return w.believed, !w.doubted
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{World: sitestest.NewWorld(t)}
	w.store = &photostest.Memory{Now: w.Clock}
	w.Service = w.open(t, w.store)
	return w
}

// open opens the world's store once more, as after a restart.
func (w *world) open(t testing.TB, store photos.Store) *photos.Service {
	t.Helper()
	s, err := photos.New(photos.Config{
		Ledger: w.Ledger, Store: store, Roster: w.Roster, RetentionDays: photos.DefaultRetentionDays, Now: w.Clock, Believed: w.believe,
		CheckIns: inspections.New(inspections.Config{Ledger: w.Ledger, Claims: store, Roster: w.Roster, Now: w.Clock}),
	})
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checkIn returns a check-in made now, with the number in its id.
func (w *world) checkIn(n int) inspections.CheckIn {
	return inspections.CheckIn{
		ID: inspections.CheckInID(fmt.Sprintf("11111111-0000-4000-8000-%012d", n)), Site: w.Site.ID, Captured: w.Now,
		Finding: inspections.FoundClosed,
	}
}

// submit submits a check-in that must be stored.
func (w *world) submit(t testing.TB, c inspections.CheckIn) *inspections.Stored {
	t.Helper()
	stored, duplicate, err := w.CheckIns.Submit(t.Context(), inspections.By{Account: "officer"}, c, time.Time{})
	if err != nil || duplicate {
		t.Fatalf("%s: duplicate %v, %v", c.ID, duplicate, err)
	}
	return stored
}

// photo returns a JPEG with a comment, the one of the seed.
func photo(t testing.TB, seed int, comment string) []byte {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, 40, 30))
	for i := range m.Pix {
		m.Pix[i] = byte(i * (seed + 3))
	}
	m.SetGray(0, 0, color.Gray{byte(seed)})
	var b bytes.Buffer
	must(t, jpeg.Encode(&b, m, nil))
	return slices.Concat(b.Bytes()[:2], []byte{0xff, 0xfe, 0, byte(2 + len(comment))}, []byte(comment), b.Bytes()[2:])
}

// declare submits a check-in with the photos.
func (w *world) declare(t testing.TB, n int, files ...[]byte) *inspections.Stored {
	t.Helper()
	c := w.checkIn(n)
	for _, f := range files {
		c.Photos = append(c.Photos, inspections.Photo{SHA256: sha256.Sum256(f), Size: int64(len(f)), ContentType: "image/jpeg"})
	}
	return w.submit(t, c)
}

func refOf(c *inspections.Stored, i int) photos.Ref {
	return photos.Ref{CheckInRef: c.Ref(), SHA256: c.Photos[i].SHA256}
}

// send uploads bytes of a photo from the offset on, and ends.
func (w *world) send(t testing.TB, ref photos.Ref, offset int, b []byte) (photos.State, error) {
	t.Helper()
	u, err := w.BeginUpload(t.Context(), "officer", ref, int64(offset), nil)
	if err != nil {
		return photos.State{}, err
	}
	defer u.Close()
	for part := range slices.Chunk(b, 100) {
		if err := u.Write(t.Context(), part); err != nil {
			return photos.State{}, err
		}
	}
	return u.End(t.Context())
}

func (w *world) mustSend(t testing.TB, c *inspections.Stored, i int, b []byte) {
	t.Helper()
	state, err := w.send(t, refOf(c, i), 0, b)
	if err != nil || !state.Stored {
		t.Fatalf("got %+v, %v; want it stored", state, err)
	}
}

// events returns what the site's history says of photos, oldest first.
func (w *world) events(t testing.TB) (out []*photos.Event) {
	t.Helper()
	entries, err := w.Ledger.Span(t.Context(), w.Site.ID.History(), 0, 1000)
	must(t, err)
	var head ledger.Head
	for _, e := range entries {
		head, err = head.Follow(e)
		must(t, err)
		if e.Kind != inspections.KindCheckIn {
			event, err := photos.ParseEvent(e)
			must(t, err)
			out = append(out, event)
		}
	}
	return out
}

func wantFiles(t testing.TB, w *world, files, partials int) {
	t.Helper()
	if gotFiles, gotPartials := w.store.Files(); gotFiles != files || gotPartials != partials {
		t.Errorf("there are %d files and the beginnings of %d, want %d and %d", gotFiles, gotPartials, files, partials)
	}
}

// A photo with nothing in it but the picture is kept as it came; one with a comment
// without that. Either is stored under the hash of what is kept.
func TestKeptAsItCame(t *testing.T) {
	w := newWorld(t)
	dirty := photo(t, 1, "")
	plain := slices.Concat(dirty[:2], dirty[6:])
	// The encoder writes a second table of quantization, which a grey picture does not use.
	at := bytes.Index(plain, []byte{0xff, 0xdb})
	plain = slices.Concat(plain[:at+2], []byte{0, 67}, plain[at+4:at+2+67], plain[at+2+132:])
	c := w.declare(t, 1, plain, dirty)
	w.mustSend(t, c, 0, plain)
	w.mustSend(t, c, 1, dirty)
	wantFiles(t, w, 1, 0)
	for i := range 2 {
		kept, f, err := w.Open(t.Context(), refOf(c, i))
		must(t, err)
		b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		must(t, errors.Join(err, f.Close()))
		if kept.Stored != sha256.Sum256(plain) || !bytes.Equal(b, plain) {
			t.Errorf("photo %d is kept as %d bytes under %s", i, len(b), kept.Stored)
		}
	}
}

func TestUploadInParts(t *testing.T) {
	w := newWorld(t)
	a, b := photo(t, 1, "Deng Xiaolan was here"), photo(t, 2, "")
	c := w.declare(t, 1, a, b)
	ref := refOf(c, 0)
	for i, step := range []struct {
		offset, end, received int
		stored                bool
	}{
		{0, 0, 0, false}, {0, 333, 333, false}, {100, 200, 333, false}, {333, 334, 334, false}, {200, 600, 600, false},
		{600, len(a), len(a), true}, {0, len(a), len(a), true}, {7, 7, len(a), true},
	} {
		state, err := w.send(t, ref, step.offset, a[step.offset:step.end])
		if err != nil || state.Received != int64(step.received) || state.Stored != step.stored {
			t.Fatalf("step %d: got %+v, %v", i, state, err)
		}
		if asked, err := w.State(t.Context(), ref); err != nil || asked != state {
			t.Errorf("step %d: asked, got %+v, %v; want %+v", i, asked, err, state)
		}
	}
	states, err := w.States(t.Context(), []*inspections.Stored{c})
	must(t, err)
	if !states[0][0].Stored || states[0][1].Stored || states[0][1].Received != 0 {
		t.Errorf("got %+v", states)
	}
	wantFiles(t, w, 1, 0)

	events := w.events(t)
	if len(events) != 1 || events[0].SHA256 != ref.SHA256 || events[0].CheckIn != c.ID || events[0].Purged {
		t.Fatalf("got events %+v, want one photo stored", events)
	}
	kept, f, err := w.Open(t.Context(), ref)
	must(t, err)
	defer f.Close()
	file, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	must(t, err)
	if bytes.Contains(file, []byte("Deng")) || sha256.Sum256(file) != kept.Stored || kept.Stored != events[0].Stored || events[0].Size != int64(len(file)) {
		t.Errorf("got %d bytes and %+v", len(file), kept)
	}
	if _, _, err := w.Open(t.Context(), refOf(c, 1)); !errors.Is(err, photos.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
	// Entries about photos are no check-ins, also after a restart.
	w.Service = w.open(t, w.store)
	if state, err := w.State(t.Context(), ref); err != nil || !state.Stored {
		t.Errorf("got %+v, %v", state, err)
	}
}

// A silentStore takes bytes of photos and never says that it has, once it is silent.
type silentStore struct {
	*photostest.Memory
	silent chan struct{}
}

func (s *silentStore) Receive(ctx context.Context, ref photos.Ref, offset int64, b []byte) error {
	close(s.silent)
	<-ctx.Done()
	return ctx.Err()
}

// TestUploadSilent ensures that who asks for a photo while a store does not answer another
// caller's upload of it leaves with the own deadline.
func TestUploadSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		store := &silentStore{w.store, make(chan struct{})}
		s := w.open(t, store)
		a := photo(t, 1, "")
		c := w.declare(t, 1, a)
		u, err := s.BeginUpload(t.Context(), "officer", refOf(c, 0), 0, nil)
		must(t, err)
		must(t, u.Write(t.Context(), a[:400]))
		ended := make(chan error, 1)
		go func() { ended <- u.Break() }()
		<-store.silent
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.State(ctx, refOf(c, 0)); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("got %v, want the caller's deadline", err)
		}
		if _, err := s.BeginUpload(ctx, "officer", refOf(c, 0), 0, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("another upload: got %v, want the caller's deadline", err)
		}
		u.Close()
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the upload itself: got %v", err)
		}
	})
}

func TestUploadCut(t *testing.T) {
	w := newWorld(t)
	a := photo(t, 1, "")
	c := w.declare(t, 1, a)
	ctx, cancel := context.WithCancel(t.Context())
	u, err := w.BeginUpload(ctx, "officer", refOf(c, 0), 0, ctx.Done())
	must(t, err)
	must(t, u.Write(ctx, a[:400]))
	// Who asks meanwhile is told of what is only held in memory.
	if state, err := w.State(t.Context(), refOf(c, 0)); err != nil || state.Received != 400 {
		t.Errorf("got %+v, %v; want 400 bytes", state, err)
	}
	cancel()
	// And from the cut on waits for what has arrived to be read.
	asked := make(chan int64)
	go func() {
		state, err := w.State(t.Context(), refOf(c, 0))
		if err != nil {
			t.Error(err)
		}
		asked <- state.Received
	}()
	must(t, u.Write(t.Context(), a[400:500]))
	must(t, u.Break())
	u.Close()
	if got := <-asked; got != 500 {
		t.Errorf("was told of %d bytes, want 500", got)
	}
	state, err := w.State(t.Context(), refOf(c, 0))
	if err != nil || state.Received != 500 || state.Stored {
		t.Errorf("got %+v, %v; want what came before the cut", state, err)
	}
}

// TestUploadRefused holds that what is not what was declared leaves nothing.
func TestUploadRefused(t *testing.T) {
	a := photo(t, 1, "")
	bomb := bytes.Clone(a)
	sof := bytes.Index(bomb, []byte{0xff, 0xc0})
	copy(bomb[sof+5:], []byte{0xff, 0xff, 0xff, 0xff})
	altered := bytes.Clone(a)
	altered[len(altered)-3] ^= 1
	for _, c := range []struct {
		name           string
		declared, sent []byte
		kind           string
		want           error
	}{
		{"Hash", a, altered, "image/jpeg", photos.ErrHash},
		{"Size", a, append(bytes.Clone(a), 0), "image/jpeg", photos.ErrSize},
		{"Type", a, a, "image/png", photos.ErrType},
		{"NoPicture", []byte("<html>no picture</html>"), []byte("<html>no picture</html>"), "image/jpeg", picture.ErrNotPicture},
		{"Cut", a[:len(a)-9], a[:len(a)-9], "image/jpeg", picture.ErrNotPicture},
		{"Bomb", bomb, bomb, "image/jpeg", picture.ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			in := w.checkIn(1)
			in.Photos = []inspections.Photo{{SHA256: sha256.Sum256(c.declared), Size: int64(len(c.declared)), ContentType: c.kind}}
			stored := w.submit(t, in)
			if _, err := w.send(t, refOf(stored, 0), 0, c.sent); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			wantFiles(t, w, 0, 0)
			if len(w.events(t)) != 0 {
				t.Error("it is in the history")
			}
		})
	}
	w := newWorld(t)
	c := w.declare(t, 1, a)
	for name, call := range map[string]struct {
		ref    func(*photos.Ref)
		offset int64
		want   error
	}{
		"OtherPhoto":   {func(r *photos.Ref) { r.SHA256[0]++ }, 0, photos.ErrUnknown},
		"OtherCheckIn": {func(r *photos.Ref) { r.CheckIn = "x" }, 0, inspections.ErrNotFound},
		"Gap":          {func(*photos.Ref) {}, 1, photos.ErrOffset},
		"Negative":     {func(*photos.Ref) {}, -1, photos.ErrOffset},
	} {
		ref := refOf(c, 0)
		call.ref(&ref)
		if _, err := w.BeginUpload(t.Context(), "officer", ref, call.offset, nil); !errors.Is(err, call.want) {
			t.Errorf("%s: got %v, want %v", name, err, call.want)
		}
	}
}

// TestUploadInterrupted lets the store fail between the file and its entry: the
// phone sends nothing again and it is stored.
func TestUploadInterrupted(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("ReplyLost", lost), func(t *testing.T) {
			w := newWorld(t)
			a := photo(t, 1, "")
			c := w.declare(t, 1, a)
			w.Ledger.OnWrite(func(ledger.Draft) ledgertest.Fault {
				if lost {
					return ledgertest.FailedButStored
				}
				return ledgertest.Failed
			})
			if _, err := w.send(t, refOf(c, 0), 0, a); !errors.Is(err, ledger.ErrUnavailable) {
				t.Fatalf("got %v, want ErrUnavailable", err)
			}
			w.Ledger.OnWrite(nil)
			if lost {
				// A start does it too.
				w.Service = w.open(t, w.store)
				if got, err := w.Tend(t.Context()); err != nil || got != (photos.Tending{Finished: 1}) {
					t.Errorf("got %+v, %v; want one finished", got, err)
				}
			}
			state, err := w.send(t, refOf(c, 0), len(a), nil)
			if err != nil || !state.Stored {
				t.Errorf("got %+v, %v; want it stored", state, err)
			}
			if len(w.events(t)) != 1 {
				t.Errorf("got %d entries, want one", len(w.events(t)))
			}
			wantFiles(t, w, 1, 0)
		})
	}
}

// A countingStore counts what is asked of it for a photo that is finished.
type countingStore struct {
	photos.Store
	read   atomic.Int64 // bytes of what was received
	kept   atomic.Int32 // calls of Keep
	claims atomic.Int32 // calls of Claim
	// keeping, where it is not nil, holds up Keep until it is closed.
	keeping chan struct{}
}

func (s *countingStore) Claim(ctx context.Context, sums []inspections.Digest, by inspections.CheckInRef) error {
	s.claims.Add(1)
	return s.Store.Claim(ctx, sums, by)
}

func (s *countingStore) Keep(ctx context.Context, k photos.Kept, content io.WriterTo) (photos.Kept, error) {
	s.kept.Add(1)
	if s.keeping != nil {
		<-s.keeping
	}
	return s.Store.Keep(ctx, k, content)
}

func (s *countingStore) Partial(ctx context.Context, p photos.Ref) (photos.File, error) {
	f, err := s.Store.Partial(ctx, p)
	return countingFile{f, s}, err
}

// A countingFile counts the bytes that are read of it.
type countingFile struct {
	photos.File
	store *countingStore
}

func (f countingFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(b, at)
	f.store.read.Add(int64(n))
	return n, err
}

// TestFinishedTogether lets two uploads of one photo come to their ends at once,
// while the store is slow: it is stored once, and both are told that it is.
func TestFinishedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		store := &countingStore{Store: w.store, keeping: make(chan struct{})}
		w.Service = w.open(t, store)
		a := photo(t, 1, "")
		c := w.declare(t, 1, a)
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				if state, err := w.send(t, refOf(c, 0), 0, a); err != nil || !state.Stored {
					t.Errorf("got %+v, %v; want it stored", state, err)
				}
			})
		}
		synctest.Wait() // until one is in Keep and the other can do nothing but wait
		if n := store.kept.Load(); n != 1 {
			t.Errorf("%d of two are storing it, want one", n)
		}
		close(store.keeping)
		all.Wait()
		if n := store.kept.Load(); n != 1 {
			t.Errorf("it was stored %d times, want once", n)
		}
		if n := len(w.events(t)); n != 1 {
			t.Errorf("got %d entries, want one", n)
		}
		wantFiles(t, w, 1, 0)
	})
}

// TestFinishReadsTwice holds what it costs to finish a photo: what has come is read
// once for the declared hash and once for the stored one, and the latter is claimed
// by Keep alone.
func TestFinishReadsTwice(t *testing.T) {
	w := newWorld(t)
	store := &countingStore{Store: w.store}
	w.Service = w.open(t, store)
	a := photo(t, 1, strings.Repeat("c", 200))
	c := w.declare(t, 1, a)
	store.claims.Store(0)
	w.mustSend(t, c, 0, a)
	if n, want := store.read.Load(), int64(2*len(a)); n > want {
		t.Errorf("%d bytes were read of a photo of %d, want at most %d", n, len(a), want)
	}
	if n := store.claims.Load(); n != 0 {
		t.Errorf("Claim was called %d times beside Keep", n)
	}
}

func TestUploadAtOnce(t *testing.T) {
	w := newWorld(t)
	a := photo(t, 1, "")
	c, d := w.declare(t, 1, a), w.declare(t, 2, a)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			state, err := w.send(t, refOf([]*inspections.Stored{c, d}[i%2], 0), 0, a)
			if err != nil || !state.Stored {
				t.Errorf("got %+v, %v; want it stored", state, err)
			}
		})
	}
	all.Wait()
	wantFiles(t, w, 1, 0)
	if len(w.events(t)) != 2 {
		t.Errorf("got %d entries, want one for each check-in", len(w.events(t)))
	}
}

// TestSamePictureInAnotherFile holds that a picture with other metadata is
// recognised once it has arrived.
func TestSamePictureInAnotherFile(t *testing.T) {
	w := newWorld(t)
	a, b := photo(t, 1, "one"), photo(t, 1, "another comment")
	first, disguised := w.declare(t, 1, a), w.declare(t, 2, b)
	w.mustSend(t, first, 0, a)
	w.mustSend(t, disguised, 0, b)
	events := w.events(t)
	if len(events) != 2 || events[0].Reused() || !events[1].Reused() || events[1].First != (inspections.CheckInRef{}) {
		t.Fatalf("got %+v, want the name of the first check-in in the latter", events)
	}
	for _, e := range events {
		must(t, w.FindFirst(t.Context(), e))
	}
	if events[0].Reused() || events[1].FirstUse != inspections.UseOf(first.Ref()) {
		t.Errorf("got %+v and %+v, want the first check-in in the latter", events[0], events[1])
	}
	wantFiles(t, w, 1, 0)
}

// TestClaimedByNobody holds that a claim which an earlier version left for a
// check-in that was never stored does not count as use.
func TestClaimedByNobody(t *testing.T) {
	w := newWorld(t)
	a := photo(t, 1, "")
	c := w.declare(t, 1, a)
	nobody := inspections.CheckInRef{Site: w.Site.ID, CheckIn: "never stored"}
	must(t, w.store.Claim(t.Context(), []inspections.Digest{sha256.Sum256(cleaned(t, a))}, nobody))
	w.mustSend(t, c, 0, a)
	if events := w.events(t); len(events) != 1 || events[0].Reused() {
		t.Errorf("got %+v, want one photo that is nobody else's", events)
	}
}

// cleaned returns what is stored of a file.
func cleaned(t testing.TB, file []byte) []byte {
	t.Helper()
	p, err := picture.Read(bytes.NewReader(file), int64(len(file)), picture.Limits{})
	must(t, err)
	b, err := io.ReadAll(p.Reader())
	must(t, err)
	return b
}

func TestPurge(t *testing.T) {
	w := newWorld(t)
	a, b, late := photo(t, 1, ""), photo(t, 2, ""), photo(t, 3, "")
	c := w.declare(t, 1, a, b, late)
	w.mustSend(t, c, 0, a)
	w.mustSend(t, c, 1, b)
	purge := func(dryRun bool) (n int, list []photos.Event) {
		t.Helper()
		n, err := w.Purge(t.Context(), "operator", dryRun, func(e photos.Event) { list = append(list, e) })
		must(t, err)
		return n, list
	}
	w.Now = sitestest.Start.Add((30+180)*day - 1)
	if n, _ := purge(false); n != 0 {
		t.Errorf("purged %d before their time was over", n)
	}
	w.Now = w.Now.Add(1)
	if n, list := purge(true); n != 2 || len(list) != 2 || !list[0].OrderEnd.Equal(w.Order.End) || list[0].RetentionDays != 180 {
		t.Errorf("a dry run lists %d: %+v", n, list)
	}
	wantFiles(t, w, 2, 0)
	// Interrupted between the entry and the file, it is done by the next.
	w.Ledger.OnWrite(func(ledger.Draft) ledgertest.Fault { return ledgertest.FailedButStored })
	if _, err := w.Purge(t.Context(), "operator", false, nil); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	w.Ledger.OnWrite(nil)
	if n, _ := purge(false); n != 2 {
		t.Errorf("purged %d, want 2", n)
	}
	if n, _ := purge(false); n != 0 {
		t.Errorf("purged %d once more", n)
	}
	wantFiles(t, w, 0, 0)
	events := w.events(t)
	if len(events) != 4 || !events[2].Purged || events[2].Order != w.Order.ID || events[2].Stored != events[0].Stored && events[2].Stored != events[1].Stored {
		t.Errorf("got %d events: %+v", len(events), events)
	}
	if _, _, err := w.Open(t.Context(), refOf(c, 0)); !errors.Is(err, photos.ErrPurged) {
		t.Errorf("got %v, want ErrPurged", err)
	}
	states, err := w.States(t.Context(), []*inspections.Stored{c})
	must(t, err)
	if s := states[0]; !s[0].Purged || !s[0].Stored || s[2].Purged || s[2].Stored {
		t.Errorf("got %+v", s)
	}
	// Nothing comes in any more, whether or not it was there.
	for i, file := range [][]byte{a, b, late} {
		if _, err := w.send(t, refOf(c, i), 0, file); !errors.Is(err, photos.ErrPurged) {
			t.Errorf("photo %d: got %v, want ErrPurged", i, err)
		}
	}
}

// TestPurgeEndedEarly holds that it is the end itself that counts, not the one
// that was planned.
func TestPurgeEndedEarly(t *testing.T) {
	w := newWorld(t)
	a := photo(t, 1, "")
	w.mustSend(t, w.declare(t, 1, a), 0, a)
	_, err := w.Roster.EndOrder(t.Context(), sites.By{Account: "test"}, w.Order.ID, w.Now.Add(time.Hour))
	must(t, err)
	w.Now = w.Now.Add(time.Hour + 180*day)
	if n, err := w.Purge(t.Context(), "operator", false, nil); n != 1 || err != nil {
		t.Errorf("purged %d, %v; want 1", n, err)
	}
}

func TestTend(t *testing.T) {
	w := newWorld(t)
	old, fresh, bad, whole := photo(t, 1, ""), photo(t, 2, ""), photo(t, 3, ""), photo(t, 4, "")
	c := w.declare(t, 1, old, fresh, bad, whole)
	part := func(i int, b []byte) {
		t.Helper()
		u, err := w.BeginUpload(t.Context(), "officer", refOf(c, i), 0, nil)
		must(t, err)
		must(t, u.Write(t.Context(), b))
		must(t, u.Break())
		u.Close()
	}
	part(0, old[:100])
	w.Now = w.Now.Add(7 * day)
	part(1, fresh[:100])
	part(2, append(bytes.Clone(bad[:len(bad)-1]), 0))
	part(3, whole)
	nobodys := photos.Ref{CheckInRef: inspections.CheckInRef{Site: c.Site, CheckIn: "nobody's"}}
	must(t, w.store.Receive(t.Context(), nobodys, 0, []byte("x")))
	w.Now = w.Now.Add(time.Second)
	got, err := w.Tend(t.Context())
	if want := (photos.Tending{Finished: 1, Refused: 1, Expired: 1}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	wantFiles(t, w, 1, 2)
	if state, err := w.State(t.Context(), refOf(c, 3)); err != nil || !state.Stored {
		t.Errorf("got %+v, %v; want it stored", state, err)
	}
	if state, err := w.State(t.Context(), refOf(c, 1)); err != nil || state.Received != 100 {
		t.Errorf("got %+v, %v; want 100 bytes", state, err)
	}
	// What came of a check-in that does not exist stays for a month, in which somebody may
	// put back the database that knows it.
	w.Now = w.Now.Add(30*day - time.Second)
	if got, err := w.Tend(t.Context()); err != nil || got.Expired != 2 {
		t.Errorf("got %+v, %v; want the two that are left expired", got, err)
	}
	wantFiles(t, w, 1, 0)
}

// TestTendAfterPowerCut holds that a photo comes on record that was kept before the
// power was cut, also where less than all is left of what had come.
func TestTendAfterPowerCut(t *testing.T) {
	w := newWorld(t)
	content := photo(t, 1, "")
	ref := refOf(w.declare(t, 1, content), 0)
	_, err := w.store.Keep(t.Context(), photos.Kept{Ref: ref, ContentType: "image/png", Order: w.Order.ID}, bytes.NewReader(content))
	must(t, err)
	must(t, w.store.Receive(t.Context(), ref, 0, content[:10]))
	if got, err := w.Tend(t.Context()); err != nil || got != (photos.Tending{Finished: 1}) {
		t.Errorf("got %+v, %v; want one finished", got, err)
	}
	if n := len(w.events(t)); n != 1 {
		t.Errorf("got %d entries, want one", n)
	}
	wantFiles(t, w, 1, 0)
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	files := [][]byte{photo(t, 1, ""), photo(t, 2, ""), photo(t, 3, ""), photo(t, 4, "")}
	c := w.declare(t, 1, files...)
	for i, f := range files {
		w.mustSend(t, c, i, f)
	}
	events := w.events(t)
	w.store.Spoil(events[1].Stored, nil)
	altered := bytes.Clone(files[2])
	altered[len(altered)/2] ^= 1
	w.store.Spoil(events[2].Stored, altered)
	var read int64
	lost, whole := map[inspections.Digest]string{}, 0
	n, err := w.Check(t.Context(), photos.Checking{
		Pace:  func(_ context.Context, n int64) error { read += n; return nil },
		Away:  func(_ context.Context, err error) error { return err },
		Whole: func(photos.Kept) { whole++ },
		Lost:  func(k photos.Kept, err error) { lost[k.Stored] = err.Error() },
	})
	if n != 4 || err != nil || read == 0 || whole != 2 {
		t.Errorf("checked %d of %d bytes, %d whole, %v", n, read, whole, err)
	}
	if len(lost) != 2 || lost[events[1].Stored] == "" || !strings.Contains(lost[events[2].Stored], "content of") {
		t.Errorf("got %v, want those of photos 1 and 2", lost)
	}
	if _, _, err := w.Open(t.Context(), refOf(c, 1)); !errors.Is(err, photos.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
}

// files returns the file with the hash.
func files(t testing.TB, w *world, stored inspections.Digest) []byte {
	t.Helper()
	f, err := w.store.Open(t.Context(), stored)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	must(t, err)
	return b
}

func TestCopyPhotos(t *testing.T) {
	w, to := newWorld(t), newWorld(t)
	a, b := photo(t, 1, ""), photo(t, 2, "")
	c := w.declare(t, 1, a, b)
	w.mustSend(t, c, 0, a)
	w.mustSend(t, c, 1, b)
	again := w.declare(t, 2, a)
	must(t, w.store.Purge(t.Context(), w.events(t)[1].Kept))
	entries, err := w.Ledger.Span(t.Context(), w.Site.ID.History(), 0, 1000)
	must(t, err)
	slices.Reverse(entries) // they come in any order
	for range 2 {
		for _, e := range entries {
			must(t, photos.Copy(t.Context(), w.store, to.store, e))
		}
	}
	wantFiles(t, to, 1, 0)
	for name, ref := range map[string]inspections.CheckInRef{"first": {Site: c.Site, CheckIn: c.ID}, "second": {Site: again.Site, CheckIn: again.ID}} {
		want, err := w.store.KeptOf(t.Context(), []inspections.CheckInRef{ref})
		must(t, err)
		got, err := to.store.KeptOf(t.Context(), []inspections.CheckInRef{ref})
		must(t, err)
		if len(got) != len(want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	first, err := to.store.Claimed(t.Context(), []inspections.Digest{c.Photos[0].SHA256})
	if err != nil || first[0].CheckIn != c.ID {
		t.Errorf("got %v, %v; want the first check-in", first, err)
	}
	// A source that does not know any more what it keeps has purged nothing.
	forgetful := newWorld(t)
	forgetful.store.Spoil(w.events(t)[0].Stored, files(t, w, w.events(t)[0].Stored))
	target := newWorld(t)
	stored := entries[len(entries)-2]
	must(t, photos.Copy(t.Context(), forgetful.store, target.store, stored))
	wantFiles(t, target, 1, 0)
	// What is altered is not copied as if it were whole.
	w.store.Spoil(w.events(t)[0].Stored, []byte("altered"))
	other := newWorld(t)
	if err := photos.Copy(t.Context(), w.store, other.store, stored); !errors.Is(err, photos.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
}

// TestUploadStoreFails holds that an upload of which a part could not be stored
// stores nothing more, and that the next one goes on where the store is.
func TestUploadStoreFails(t *testing.T) {
	w := newWorld(t)
	a := photo(t, 1, "")
	c := w.declare(t, 1, a)
	u, err := w.BeginUpload(t.Context(), "officer", refOf(c, 0), 0, nil)
	must(t, err)
	must(t, u.Write(t.Context(), a[:100]))
	w.store.FailReceive = ledger.ErrUnavailable
	// Who asks meanwhile lets the part be stored, and is told what there is.
	if state, err := w.State(t.Context(), refOf(c, 0)); err != nil || state.Received != 0 {
		t.Errorf("got %+v, %v; want nothing", state, err)
	}
	w.store.FailReceive = nil
	if err := u.Write(t.Context(), a[100:]); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := u.Break(); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if _, err := u.End(t.Context()); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	u.Close()
	w.mustSend(t, c, 0, a)
}

// TestDiscardedElsewhere holds that an upload of which another server has discarded what
// had come is told to go on where the store is, and that what is there stays.
func TestDiscardedElsewhere(t *testing.T) {
	w := newWorld(t)
	a := photo(t, 1, "")
	c := w.declare(t, 1, a)
	ref := refOf(c, 0)
	for _, left := range [][]byte{nil, a[:100]} {
		u, err := w.BeginUpload(t.Context(), "officer", ref, 0, nil)
		must(t, err)
		must(t, u.Write(t.Context(), a))
		must(t, u.Break())
		must(t, w.store.Discard(t.Context(), ref))
		if left != nil {
			must(t, w.store.Receive(t.Context(), ref, 0, left))
		}
		if _, err := u.End(t.Context()); !errors.Is(err, photos.ErrOffset) {
			t.Errorf("got %v, want ErrOffset", err)
		}
		u.Close()
		if state, err := w.State(t.Context(), ref); err != nil || state.Stored || state.Received != int64(len(left)) {
			t.Errorf("got %+v, %v; want %d bytes received", state, err, len(left))
		}
	}
	if state, err := w.send(t, ref, 100, a[100:]); err != nil || !state.Stored {
		t.Errorf("got %+v, %v; want it stored", state, err)
	}
}

// TestTendGoesOn holds that a photo that cannot be finished keeps no other from
// being finished or purged.
func TestTendGoesOn(t *testing.T) {
	w := newWorld(t)
	files := [][]byte{photo(t, 1, ""), photo(t, 2, ""), photo(t, 3, "")}
	c := w.declare(t, 1, files...)
	for i, f := range files {
		u, err := w.BeginUpload(t.Context(), "officer", refOf(c, i), 0, nil)
		must(t, err)
		must(t, u.Write(t.Context(), f))
		must(t, u.Break())
		u.Close()
	}
	broken := errors.New("broken")
	w.Ledger.OnWrite(func(d ledger.Draft) (f ledgertest.Fault) {
		if strings.Contains(d.ID, c.Photos[1].SHA256.String()) {
			f.Err = broken
		}
		return f
	})
	got, err := w.Tend(t.Context())
	if got.Finished != 2 || !errors.Is(err, broken) || !strings.Contains(err.Error(), c.Photos[1].SHA256.String()) {
		t.Errorf("got %+v, %v; want two finished and the third named", got, err)
	}
	w.Now = w.Order.End.Add(180 * day)
	got, err = w.Tend(t.Context())
	if got.Purged != 2 || !errors.Is(err, broken) {
		t.Errorf("got %+v, %v; want two purged", got, err)
	}
}

// TestManyFailuresAreShort holds that where a site's photos cannot be purged, as while its
// history does not verify, the error names some and counts the others.
func TestManyFailuresAreShort(t *testing.T) {
	w := newWorld(t)
	w.photosOf(t, 30)
	w.Now = w.Order.End.Add(180 * day)
	w.Ledger.OnWrite(func(ledger.Draft) ledgertest.Fault { return ledgertest.Fault{Err: ledger.ErrAltered} })
	n, err := w.Purge(t.Context(), "operator", false, nil)
	if n != 0 || !errors.Is(err, ledger.ErrAltered) || strings.Count(err.Error(), "photo ") != 10 || !strings.Contains(err.Error(), "and 20 more") {
		t.Errorf("purged %d, %v", n, err)
	}
}

func FuzzParsePhotoEvent(f *testing.F) {
	const sum = `"0000000000000000000000000000000000000000000000000000000000000001"`
	f.Add(true, `{"check_in_id":"a","sha256":`+sum+`,"stored_sha256":`+sum+`,"stored_size_bytes":1,"content_type":"image/png","closure_order_id":"o","first":{"site_id":"s","check_in_id":"b"}}`)
	f.Add(false, `{"check_in_id":"a","sha256":`+sum+`,"stored_sha256":`+sum+`,"closure_order_id":"o","closure_order_end_time":"2020-02-01T00:00:00Z","retention_days":180}`)
	f.Fuzz(func(t *testing.T, stored bool, content string) {
		kind := photos.KindPurged
		if stored {
			kind = photos.KindStored
		}
		e := ledger.Head{}.Seal(ledger.Draft{History: "site/s", ID: "x", Kind: kind, Content: []byte(content)})
		event, err := photos.ParseEvent(e)
		if err != nil && !errors.Is(err, ledger.ErrBadRecord) {
			t.Fatal(err)
		}
		if err == nil && event.Purged == stored {
			t.Errorf("%s is read as %+v", content, event)
		}
	})
}
