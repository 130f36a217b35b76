package serve

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"xuncha/inspections"
	"xuncha/inspections/photos"
)

const (
	// tendEvery is how often a server looks for photos to purge and uploads to
	// give up.
	tendEvery = time.Hour
	// checkRate is how many bytes of stored photos are read in a second, to see
	// whether they are unchanged.
	checkRate = 20 << 20
)

// tendPhotos starts what is done for photos beside the calls. Every hour it finishes
// what a crash left undone and deletes the photos whose time is over. Once, it reads
// every stored photo and logs those that are lost or altered.
func (r *Running) tendPhotos(keeper *photos.Service) {
	ctx := r.beside
	tend := func() {
		t, err := keeper.Tend(ctx)
		if t != (photos.Tending{}) {
			r.log.Info("photos tended", "finished", t.Finished, "refused", t.Refused, "expired", t.Expired, "strays", t.Strays, "purged", t.Purged)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Error("tending photos failed; it is tried again within the hour", "error", err.Error())
		}
	}
	r.running.Go(func() {
		ticker := time.NewTicker(tendEvery)
		defer ticker.Stop()
		for {
			tend()
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	r.running.Go(func() {
		limit := rate.NewLimiter(checkRate, inspections.MaxPhotoSize)
		n, err := keeper.Check(ctx, func(ctx context.Context, size int64) error {
			return limit.WaitN(ctx, int(min(size, inspections.MaxPhotoSize)))
		}, func(k photos.Kept, err error) {
			r.log.Error("photo lost or altered", "site", string(k.Site), "check_in", string(k.CheckIn), "sha256", k.SHA256.String(), "error", err.Error())
		})
		switch {
		case ctx.Err() != nil:
		case err != nil:
			r.log.Error("checking photos failed", "checked", n, "error", err.Error())
		case n > 0:
			r.log.Info("photos checked", "checked", n)
		}
	})
}
