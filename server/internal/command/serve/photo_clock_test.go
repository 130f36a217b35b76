package serve

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/server/internal/clock"
	"xuncha/sites"
)

// A clocked server tends photos by a clock that the test sets, and by what heartbeats make
// of it. Nothing of it waits.
type clockedPhotos struct {
	keeper *photos.Service
	store  Engine
	beats  *clock.Heartbeats
	start  time.Time
	ran    time.Duration // since the start, by the monotonic clock
	off    time.Duration // by which the wall clock is wrong
	purged int
}

func (p *clockedPhotos) read() (time.Time, time.Duration) { return p.start.Add(p.ran + p.off), p.ran }

func (p *clockedPhotos) now() time.Time {
	t, _ := p.read()
	return t
}

// newClockedPhotos opens the store, as a server does that starts.
func newClockedPhotos(t *testing.T, config StoreConfig, off time.Duration) *clockedPhotos {
	t.Helper()
	p := &clockedPhotos{start: time.Now(), off: off}
	var err error
	if p.store, _, err = OpenEngine(t.Context(), config.name(), EngineOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.store.Close(); err != nil {
			t.Error(err)
		}
	})
	p.beats, err = clock.OpenHeartbeats(t.Context(), clock.HeartbeatsConfig{Notes: p.store, Read: p.read, Now: p.now})
	if err != nil {
		t.Fatal(err)
	}
	roster, err := sites.Open(t.Context(), sites.Config{Ledger: p.store, Rows: p.store, Now: p.now, NewID: uuid.NewString, Zone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	p.keeper, err = photos.New(photos.Config{
		Ledger: p.store, Store: p.store.Photos(), Roster: roster, RetentionDays: 180, Now: p.now, Believed: p.beats.Believed,
		CheckIns: inspections.New(inspections.Config{Ledger: p.store, Claims: p.store.Photos(), Roster: roster, Now: p.now}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run lets the server run for so long, with a beat every two minutes, and tends photos every
// hour.
func (p *clockedPhotos) run(t *testing.T, d time.Duration) {
	t.Helper()
	const step = 2 * time.Minute
	for ran := time.Duration(0); ran < d; ran += step {
		if err := p.beats.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ran%time.Hour == 0 {
			got, err := p.keeper.Tend(t.Context())
			if _, _, errAside := p.keeper.SetAside(t.Context()); err != nil || errAside != nil {
				t.Fatal(err, errAside)
			}
			p.purged += got.Purged
		}
		p.ran += step
	}
}

// want holds whether the photo was deleted, and whether it is shown.
func (p *clockedPhotos) want(t *testing.T, when string, purged int, shown error) {
	t.Helper()
	if p.purged != purged {
		t.Errorf("%s: purged %d photos, want %d", when, p.purged, purged)
	}
	all, err := p.store.Photos().Kept(t.Context(), "", photos.Ref{}, 10)
	if err != nil || len(all) != 1-purged {
		t.Fatalf("%s: got %v, %v; want %d photos", when, all, err, 1-purged)
	}
	for _, k := range all {
		_, f, err := p.keeper.Open(t.Context(), k.Ref)
		if !errors.Is(err, shown) {
			t.Errorf("%s: got %v, want %v", when, err, shown)
		}
		if err == nil {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestPhotosByHeartbeats holds that a server whose clock is two years ahead hides photos
// and deletes none for a day in which it runs, over restarts; that none is ever deleted for
// it once the clock is right; and that what was over its time for more than a day goes.
func TestPhotosByHeartbeats(t *testing.T) {
	t.Parallel()
	onOwnEngines(t, testPhotosByHeartbeats)
}

func testPhotosByHeartbeats(t *testing.T, config StoreConfig) {
	const ahead = 2 * 365 * 24 * time.Hour
	storePurgeable(t, config)
	// Whatever a first start has read.
	t.Run("FirstStart", func(t *testing.T) {
		p := newClockedPhotos(t, config, ahead)
		p.run(t, 12*time.Hour)
		p.want(t, "after twelve hours ahead", 0, photos.ErrPurged)
	})
	p := newClockedPhotos(t, config, ahead)
	p.run(t, 10*time.Hour)
	p.want(t, "after ten more hours ahead", 0, photos.ErrPurged)
	p.off = 0
	p.run(t, 50*time.Hour)
	p.want(t, "with the right clock", 0, nil)
	p.off = ahead
	p.run(t, 23*time.Hour)
	p.want(t, "after 23 hours ahead", 0, photos.ErrPurged)
	p.off = 0
	p.run(t, 30*time.Hour)
	p.want(t, "with the right clock again", 0, nil)
	p.off = ahead
	p.run(t, 27*time.Hour)
	p.want(t, "after more than a day ahead", 1, nil)
}
