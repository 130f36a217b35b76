package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/sites"
)

// photoConfig says how long photos are kept.
type photoConfig struct {
	PhotoRetentionDays int `default:"${retention}" placeholder:"DAYS" help:"For how many days after the end of its closure order a photo is kept, 1 to 1095. Default: ${default}."`
}

// PurgeCommand is "xuncha purge".
type PurgeCommand struct {
	StoreConfig `embed:""`
	photoConfig `embed:""`
	TimeZone    string `default:"Asia/Shanghai" placeholder:"NAME" help:"Time zone of the deployment. Default: ${default}."`
	DryRun      bool   `help:"Only list what would be deleted."`
}

// Run deletes the photos whose time is over, and prints a line for each.
func (c *PurgeCommand) Run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return fmt.Errorf("--time-zone: %w", err)
	}
	store, where, err := OpenEngine(ctx, c.name(), c.options(commandLog(stderr)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := c.checkClock(ctx, store); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	roster, err := sites.Open(ctx, sites.Config{Ledger: store, Rows: store, Now: time.Now, NewID: uuid.NewString, Zone: zone})
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	keeper, err := photos.New(photos.Config{
		Ledger: store, Store: store.Photos(), Roster: roster, RetentionDays: c.PhotoRetentionDays, Now: time.Now,
		Believed: func() (time.Time, bool) { return time.Now(), true },
		CheckIns: inspections.New(inspections.Config{Ledger: store, Claims: store.Photos(), Roster: roster, Now: time.Now}),
	})
	if err != nil {
		return err
	}
	var size int64
	n, err := keeper.Purge(ctx, operator, c.DryRun, func(e photos.Event) {
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
