package photos_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/inspections/photos/photostest"
	"xuncha/ledger"
	"xuncha/sites"
)

// tendAll does all that a server does for photos from time to time.
func tendAll(t testing.TB, w *world) (photos.Tending, photos.Aside) {
	t.Helper()
	tending, err := w.Tend(t.Context())
	must(t, err)
	aside, _, err := w.SetAside(t.Context())
	must(t, err)
	return tending, aside
}

// TestClockAhead holds that a clock two years ahead hides photos and deletes nothing, and
// that all is there again once the clock is right.
func TestClockAhead(t *testing.T) {
	for name, doubt := range map[string]func(w *world){
		// The first 24 hours in which the server runs.
		"NoTimeYet": func(w *world) { w.doubted = true },
		// Some reading of the last 24 hours was right.
		"RightOnce": func(w *world) { w.believed = w.Now },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b, stray := photo(t, 1, ""), photo(t, 2, ""), photo(t, 3, "")
			c := w.declare(t, 1, a, b, stray)
			w.mustSend(t, c, 0, a)
			if _, err := w.send(t, refOf(c, 1), 0, b[:100]); err != nil {
				t.Fatal(err)
			}
			w.mustSend(t, c, 2, stray)
			w.store.Forget(refOf(c, 2))
			nobodys := photos.Ref{CheckInRef: inspections.CheckInRef{Site: c.Site, CheckIn: "nobody's"}}
			must(t, w.store.Receive(t.Context(), nobodys, 0, []byte("x")))

			right := w.Now
			doubt(w)
			w.Now = right.AddDate(2, 0, 0)
			for range 3 {
				if got, aside := tendAll(t, w); got != (photos.Tending{}) || aside.Dropped != 0 {
					t.Errorf("deleted by a clock that is ahead: %+v, %+v", got, aside)
				}
			}
			if _, _, err := w.Open(t.Context(), refOf(c, 0)); !errors.Is(err, photos.ErrPurged) {
				t.Errorf("got %v, want ErrPurged", err)
			}
			states, err := w.States(t.Context(), []*inspections.Stored{c})
			must(t, err)
			if s := states[0]; !s[0].Stored || !s[0].Purged || s[1].Stored || s[1].Purged {
				t.Errorf("got %+v", s)
			}
			for i, file := range [][]byte{a, b} {
				if _, err := w.send(t, refOf(c, i), 0, file); !errors.Is(err, photos.ErrPurged) {
					t.Errorf("photo %d: got %v, want ErrPurged", i, err)
				}
			}

			w.Now, w.believed, w.doubted = right.Add(time.Hour), time.Time{}, false
			w.store.Recall(photos.Kept{Ref: refOf(c, 2), Stored: w.events(t)[1].Stored, Order: c.Order})
			if got, aside := tendAll(t, w); got != (photos.Tending{}) || aside.Back != 1 || aside.Dropped != 0 {
				t.Errorf("with the right clock: %+v, %+v", got, aside)
			}
			wantFiles(t, w, 2, 2)
			if state, err := w.State(t.Context(), refOf(c, 0)); err != nil || !state.Stored || state.Purged {
				t.Errorf("got %+v, %v", state, err)
			}
			_, f, err := w.Open(t.Context(), refOf(c, 0))
			must(t, err)
			must(t, f.Close())
			if state, err := w.send(t, refOf(c, 1), 100, b[100:]); err != nil || !state.Stored {
				t.Errorf("got %+v, %v; want it stored", state, err)
			}
		})
	}
}

// TestClockBehind holds that a photo whose time is surely over goes, whatever the server's
// clock shows by then.
func TestClockBehind(t *testing.T) {
	w := newWorld(t)
	a := photo(t, 1, "")
	w.mustSend(t, w.declare(t, 1, a), 0, a)
	w.believed = w.Order.End.Add(180*day - 1)
	if got, _ := tendAll(t, w); got.Purged != 0 {
		t.Errorf("got %+v, want nothing purged before its time", got)
	}
	w.believed = w.believed.Add(1)
	if got, _ := tendAll(t, w); got.Purged != 1 {
		t.Errorf("got %+v, want one purged", got)
	}
}

// photosOf declares and stores n photos, ten of each check-in, and returns them as they are
// kept.
func (w *world) photosOf(t testing.TB, n int) (kept []photos.Kept) {
	t.Helper()
	for i := 0; i < n; i += 10 {
		var files [][]byte
		for j := i; j < min(i+10, n); j++ {
			files = append(files, photo(t, j, ""))
		}
		c := w.declare(t, i, files...)
		for j, f := range files {
			w.mustSend(t, c, j, f)
		}
	}
	for _, e := range w.events(t) {
		kept = append(kept, photos.Kept{Ref: e.Ref, Stored: e.Stored, Size: e.Size, ContentType: e.ContentType, Order: e.Order})
	}
	return kept
}

// wantReadable holds that each photo can be read.
func (w *world) wantReadable(t testing.TB, kept []photos.Kept) {
	t.Helper()
	for _, k := range kept {
		_, f, err := w.Open(t.Context(), k.Ref)
		must(t, err)
		_, err = io.Copy(io.Discard, io.NewSectionReader(f, 0, f.Size()))
		must(t, errors.Join(err, f.Close()))
	}
}

// TestDatabaseMovedAside holds that a server that is started with another database deletes
// no file for 30 days by the time that may be counted with, and that all photos are there
// with the right database.
func TestDatabaseMovedAside(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	other.store = w.store
	other.Service = other.open(t, w.store)
	kept := w.photosOf(t, 85)
	for _, k := range kept {
		w.store.Forget(k.Ref)
	}
	found := other.Now
	if _, got := tendAll(t, other); got.Unknown != 85 {
		t.Errorf("got %+v, want 85 set aside", got)
	}
	other.believed = found.Add(30 * day)
	other.Now = found.AddDate(2, 0, 0)
	if _, got := tendAll(t, other); got != (photos.Aside{}) {
		t.Errorf("got %+v", got)
	}
	for _, k := range kept[1:] {
		w.store.Recall(k)
	}
	other.believed = found.Add(31 * day)
	if _, got := tendAll(t, other); got.Back != 84 || got.Dropped != 1 {
		t.Errorf("got %+v, want 84 put back and the one dropped that no record knows", got)
	}
	w.wantReadable(t, kept[1:])
}

// TestForgottenPhotos holds that a file that a history knows is never deleted because the
// store has lost what it knows of the photo, and that this is said.
func TestForgottenPhotos(t *testing.T) {
	w := newWorld(t)
	kept := w.photosOf(t, 20)
	must(t, w.store.Purge(t.Context(), kept[0]))
	for _, k := range kept {
		w.store.Forget(k.Ref)
	}
	stray := inspections.Digest{1}
	w.store.Spoil(stray, []byte("a stray"))
	a, onRecord, err := w.SetAside(t.Context())
	if err != nil || a.Unknown != 20 || onRecord != 19 {
		t.Errorf("got %+v, %d, %v; want that histories know 19 of 20", a, onRecord, err)
	}
	w.Now = w.Now.AddDate(0, 0, 60)
	a, onRecord, err = w.SetAside(t.Context())
	if err != nil || a.Dropped != 1 || onRecord != 19 {
		t.Errorf("got %+v, %d, %v; want the stray dropped", a, onRecord, err)
	}
	for _, k := range kept[1:] {
		w.store.Recall(k)
	}
	w.wantReadable(t, kept[1:])
}

// An awayStore does not answer now and then.
type awayStore struct {
	*photostest.Memory
	// pages and files are how often it does not answer; unreadable has a file that never is.
	pages, files int
	unreadable   inspections.Digest
}

func (s *awayStore) Kept(ctx context.Context, order sites.OrderID, after photos.Ref, n int) ([]photos.Kept, error) {
	if s.pages > 0 {
		s.pages--
		return nil, fmt.Errorf("%w: an election", ledger.ErrUnavailable)
	}
	return s.Memory.Kept(ctx, order, after, n)
}

func (s *awayStore) Open(ctx context.Context, stored inspections.Digest) (photos.File, error) {
	if s.files > 0 || stored == s.unreadable {
		s.files--
		return nil, fmt.Errorf("%w: an election", ledger.ErrUnavailable)
	}
	return s.Memory.Open(ctx, stored)
}

// TestCheckGoesOn holds that the check of photos goes on when the store was away, and names
// one that cannot be read though the store answers.
func TestCheckGoesOn(t *testing.T) {
	w := newWorld(t)
	var files [][]byte
	for i := range 5 {
		files = append(files, photo(t, i, ""))
	}
	c := w.declare(t, 1, files...)
	for i, f := range files {
		w.mustSend(t, c, i, f)
	}
	store := &awayStore{Memory: w.store, pages: 2, files: 2, unreadable: w.events(t)[3].Stored}
	waits, whole := 0, 0
	var lost []photos.Kept
	checking := photos.Checking{
		Pace: func(context.Context, int64) error { return nil },
		Away: func(_ context.Context, err error) error {
			if !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("waits for %v", err)
			}
			waits++
			return nil
		},
		Whole: func(photos.Kept) { whole++ },
		Lost:  func(k photos.Kept, _ error) { lost = append(lost, k) },
	}
	s := w.open(t, store)
	if n, err := s.Check(t.Context(), checking); n != 5 || err != nil || whole != 4 || len(lost) != 1 || lost[0].Stored != store.unreadable {
		t.Errorf("checked %d, %d whole, lost %v, %v", n, whole, lost, err)
	}
	if waits < 4 || waits > 6 {
		t.Errorf("waited %d times", waits)
	}
	// Whoever waits for it decides when it is enough.
	store.pages = 1
	enough := errors.New("enough")
	checking.Away = func(context.Context, error) error { return enough }
	if _, err := s.Check(t.Context(), checking); err != enough {
		t.Errorf("got %v", err)
	}
}
