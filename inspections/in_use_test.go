package inspections_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xuncha/inspections"
	"xuncha/ledger"
)

// slowLedger takes a second for each entry.
type slowLedger struct{ ledger.Store }

func (s slowLedger) Append(ctx context.Context, d ledger.Draft) (ledger.Entry, bool, error) {
	time.Sleep(time.Second)
	return s.Store.Append(ctx, d)
}

// TestPhotoReusedAtOnce holds that of visits that come at the same moment with the same photo
// all but one are flagged, that others wait for none of them, and that whoever gives up
// waiting keeps nobody.
func TestPhotoReusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := inspections.New(inspections.Config{Ledger: slowLedger{w.Ledger}, Claims: w.claims, Roster: w.Roster, Now: w.Clock})
		var all sync.WaitGroup
		var mu sync.Mutex
		flagged, began := 0, time.Now()
		submit := func(ctx context.Context, c inspections.CheckIn) error {
			stored, _, err := s.Submit(ctx, inspections.By{Account: "test"}, c, time.Time{})
			if err == nil && stored.Has(inspections.PhotoReused) {
				mu.Lock()
				flagged++
				mu.Unlock()
			}
			return err
		}
		for n := range 4 {
			all.Go(func() {
				if err := submit(t.Context(), w.withPhoto(n, inspections.Digest{byte(10 + n)}, inspections.Digest{1})); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		all.Go(func() {
			hurried, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if err := submit(hurried, w.withPhoto(5, inspections.Digest{1}, inspections.Digest{2})); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want no time left", err)
			}
			if err := submit(t.Context(), w.withPhoto(6, inspections.Digest{2})); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("a visit with another photo took %s", took)
			}
		})
		all.Wait()
		if flagged != 3 {
			t.Errorf("%d of 4 are flagged, want all but one", flagged)
		}
	})
}
