package photos_test

import (
	"errors"
	"testing"
	"time"

	"xuncha/inspections/photos"
	"xuncha/sites"
)

// TestPurgeRevoked ensures that the photos of an order that was taken back are kept for the
// set days from then on, wherever its end was to lie.
func TestPurgeRevoked(t *testing.T) {
	for name, after := range map[string]time.Duration{"before its end": time.Hour, "long after its end": 200 * day} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, late := photo(t, 1, ""), photo(t, 2, "")
			c := w.declare(t, 1, a, late)
			w.mustSend(t, c, 0, a)
			w.Now = w.Now.Add(after)
			_, err := w.Roster.Revoke(t.Context(), sites.By{Account: "test"}, w.Roster.Roster().OrderRevision(w.Order.ID), "by mistake")
			must(t, err)
			revoked := w.Now
			w.Now = w.Now.Add(180*day - time.Second)
			if n, err := w.Purge(t.Context(), "operator", false, nil); n != 0 || err != nil {
				t.Fatalf("purged %d, %v a second before the time is over", n, err)
			}
			if _, _, err := w.Open(t.Context(), refOf(c, 0)); err != nil {
				t.Errorf("the photo cannot be had: %v", err)
			}
			w.mustSend(t, c, 1, late)
			w.Now = w.Now.Add(time.Second)
			if _, _, err := w.Open(t.Context(), refOf(c, 0)); !errors.Is(err, photos.ErrPurged) {
				t.Errorf("got %v, want ErrPurged", err)
			}
			if n, err := w.Purge(t.Context(), "operator", false, func(e photos.Event) {
				if !e.OrderEnd.Equal(revoked) {
					t.Errorf("the days count from %s on record, want %s", e.OrderEnd, revoked)
				}
			}); n != 2 || err != nil {
				t.Errorf("purged %d, %v; want 2", n, err)
			}
		})
	}
}

// TestPhotosOfRevokedSite ensures that a photo is taken in, told of and shown of a site
// whose registration was taken back.
func TestPhotosOfRevokedSite(t *testing.T) {
	w := newWorld(t)
	a, b := photo(t, 1, ""), photo(t, 2, "")
	c := w.declare(t, 1, a, b)
	w.mustSend(t, c, 0, a)
	_, err := w.Roster.Revoke(t.Context(), sites.By{Account: "test"}, w.Site.Revision(), "by mistake")
	must(t, err)
	w.mustSend(t, c, 1, b)
	for i := range 2 {
		if state, err := w.State(t.Context(), refOf(c, i)); err != nil || !state.Stored {
			t.Errorf("photo %d: got %+v, %v", i, state, err)
		}
		if _, _, err := w.Open(t.Context(), refOf(c, i)); err != nil {
			t.Errorf("photo %d cannot be had: %v", i, err)
		}
	}
}
