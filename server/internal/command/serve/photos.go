package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"xuncha/inspections"
	"xuncha/server/internal/mongostore"
	"xuncha/sites"
)

// photoConfig says for how long photos are kept.
type photoConfig struct {
	PhotoRetentionDays int `default:"${retention}" placeholder:"DAYS" help:"For how many days after the end of its closure order a photo is kept, 1 to 1095. Default: ${default}."`
}

const (
	// tendEvery is how often a server looks for photos to purge and uploads to
	// give up.
	tendEvery = time.Hour
	// checkRate is how many bytes a second of stored photos are read to see
	// whether they are as they were.
	checkRate = 20 << 20
)

// tendPhotos finishes what a crash left of photos, then looks at every photo once
// and reports those that are lost or altered, and from then on purges what is not
// to be kept any more.
func (r *Running) tendPhotos(checkIns *inspections.Service) {
	ctx := r.beside
	tend := func() {
		t, err := checkIns.TendPhotos(ctx)
		if t != (inspections.Tending{}) {
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
		n, err := checkIns.CheckPhotos(ctx, func(ctx context.Context, size int64) error {
			return limit.WaitN(ctx, int(min(size, inspections.MaxPhotoSize)))
		}, func(k inspections.KeptPhoto, err error) {
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

// PurgeCommand is "xuncha purge".
type PurgeCommand struct {
	StoreConfig `embed:""`
	photoConfig `embed:""`
	TimeZone    string `default:"Asia/Shanghai" placeholder:"NAME" help:"Time zone of the deployment. Default: ${default}."`
	DryRun      bool   `help:"Only list what would be deleted."`
}

// Run purges, and lists what was purged.
func (c *PurgeCommand) Run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return fmt.Errorf("--time-zone: %w", err)
	}
	store, where, err := OpenEngine(ctx, c.name(), mongostore.Options{KeepSchema: c.KeepSchema})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	roster, err := sites.Open(ctx, sites.Config{Ledger: store, Rows: store, Now: time.Now, NewID: uuid.NewString, Zone: zone})
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	checkIns, err := inspections.New(inspections.Config{
		Ledger: store, Photos: store.Photos(), Roster: roster, RetentionDays: c.PhotoRetentionDays, Now: time.Now,
	})
	if err != nil {
		return err
	}
	var size int64
	n, err := checkIns.Purge(ctx, operator, c.DryRun, func(e inspections.PhotoEvent) {
		size += e.Size
		fmt.Fprintf(stdout, "site %s, check-in %s, photo %s, %d bytes: its closure order ended at %s\n",
			e.Site, e.CheckIn, e.SHA256, e.Size, e.OrderEnd.In(zone).Format(time.DateTime))
	})
	if err != nil {
		return fmt.Errorf("%w\n%d photos were purged before; the same command goes on", err, n)
	}
	what := "were purged"
	if c.DryRun {
		what = "would be purged"
	}
	_, err = fmt.Fprintf(stdout, "%d photos with %d bytes %s: the orders they were taken under ended %d days ago or earlier.\n", n, size, what, c.PhotoRetentionDays)
	return err
}
