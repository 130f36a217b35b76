package serve

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"xuncha/inspections/photos"
)

const (
	// tendEvery is how often a server looks for photos to purge and uploads to
	// give up.
	tendEvery = time.Hour
	// checkEvery is how often it looks for files that no record knows, and begins to
	// read every stored photo.
	checkEvery = 24 * time.Hour
	// checkRate is how many bytes of stored photos are read in a second, to see
	// whether they are unchanged.
	checkRate = 20 << 20
	// askAgain is how long the check of photos waits while the store does not answer.
	askAgain = 10 * time.Second
)

// tendPhotos starts what is done for photos beside the calls. Every hour it finishes
// what a crash left undone and deletes the photos whose time is over. Every day it sets
// aside files that no record knows, and reads every stored photo to name those that are
// lost or altered.
func (r *Running) tendPhotos(keeper *photos.Service) {
	ctx := r.beside
	r.running.Go(func() {
		var asideAt time.Time
		for {
			r.tendOnce(ctx, keeper)
			if now := time.Now(); asideAt.IsZero() || now.Sub(asideAt) >= checkEvery {
				asideAt = now
				r.setAside(ctx, keeper)
			}
			if !sleep(ctx, tendEvery) {
				return
			}
		}
	})
	r.running.Go(func() {
		lost := &photoProblems{log: r.log, problems: r.problems, now: keeper.Now}
		for {
			begun := time.Now()
			r.checkPhotos(ctx, keeper, lost)
			if !sleep(ctx, checkEvery-time.Since(begun)) {
				return
			}
		}
	})
}

// sleep waits, and reports whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// tendOnce finishes what a crash left undone and deletes the photos whose time is over.
func (r *Running) tendOnce(ctx context.Context, keeper *photos.Service) {
	t, err := keeper.Tend(ctx)
	if t != (photos.Tending{}) {
		r.log.Info("photos tended", "finished", t.Finished, "refused", t.Refused, "expired", t.Expired, "strays", t.Strays, "purged", t.Purged)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Error("tending photos failed; it is tried again within the hour", "error", err.Error())
	}
}

// setAside sets aside files that no record knows.
func (r *Running) setAside(ctx context.Context, keeper *photos.Service) {
	a, onRecord, err := keeper.SetAside(ctx)
	if a.Unknown > 0 {
		r.log.Warn("files of photos that no record knows are set aside; they are deleted 30 days later", "files", a.Unknown, "in", a.Where)
	}
	if onRecord > 0 {
		r.log.Error("histories know photos that the store has forgotten; their files stay", "files", onRecord)
	}
	if a.Back > 0 {
		r.log.Info("files of photos that were set aside are put back", "files", a.Back)
	}
	if a.Dropped > 0 {
		r.log.Warn("files of photos that no record has known for 30 days are deleted", "files", a.Dropped)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Error("looking for files of photos that no record knows failed; it is tried again within a day", "error", err.Error())
	}
}

// checkPhotos reads every stored photo once.
func (r *Running) checkPhotos(ctx context.Context, keeper *photos.Service, lost *photoProblems) {
	limit := rate.NewLimiter(checkRate, checkRate)
	n, err := keeper.Check(ctx, photos.Checking{
		Pace: func(ctx context.Context, size int64) error {
			for ; size > 0; size -= checkRate {
				if err := limit.WaitN(ctx, int(min(size, checkRate))); err != nil {
					return err
				}
			}
			return nil
		},
		Away: func(ctx context.Context, err error) error {
			if !isAway(err) || !sleep(ctx, askAgain) {
				return err
			}
			return nil
		},
		Whole: lost.whole,
		Lost:  lost.lost,
	})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		r.log.Error("checking photos failed", "checked", n, "error", err.Error())
	default:
		lost.endRound()
		if n > 0 {
			r.log.Info("photos checked", "checked", n)
		}
	}
}
