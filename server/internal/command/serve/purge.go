package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/term"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/sites"
)

// photoConfig says how long photos are kept.
type photoConfig struct {
	PhotoRetentionDays int `default:"${retention}" placeholder:"DAYS" help:"For how many days a photo is kept after the end of its closure order, or after the order was taken back, 1 to 1095. Default: ${default}."`
}

// PurgeCommand is "xuncha purge".
type PurgeCommand struct {
	StoreConfig `embed:""`
	photoConfig `embed:""`
	TimeZone    string `default:"Asia/Shanghai" placeholder:"NAME" help:"Time zone of the deployment. Default: ${default}."`
	DryRun      bool   `help:"Only list what would be deleted."`
	Yes         bool   `help:"Delete without a question, as in a script."`
}

// Run deletes the photos whose time is over, and prints a line for each.
func (c *PurgeCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.run(ctx, stdout, stderr, time.Now, askTerminal)
}

// run is Run with the machine's clock and a way to ask whoever runs the command, who is
// the second reading that a deletion needs.
func (c *PurgeCommand) run(ctx context.Context, stdout, stderr io.Writer, now func() time.Time, ask func(context.Context, io.Writer) (bool, error)) (err error) {
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return fmt.Errorf("--time-zone: %w", err)
	}
	store, where, err := OpenEngine(ctx, c.name(), c.options(commandLog(stderr)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	clocks, err := readClocks(ctx, store, now())
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	fmt.Fprintln(stderr, clocks.describe())
	if err := clocks.check(); err != nil {
		if !c.DryRun && !c.AcceptClock {
			return err
		}
		fmt.Fprintln(stderr, err)
	}
	roster, err := sites.Open(ctx, sites.Config{Ledger: store, Rows: store, Now: now, NewID: uuid.NewString, Zone: zone})
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	keeper, err := photos.New(photos.Config{
		Ledger: store, Store: store.Photos(), Roster: roster, RetentionDays: c.PhotoRetentionDays, Now: now,
		CheckIns: inspections.New(inspections.Config{Ledger: store, Claims: store.Photos(), Roster: roster, Now: now}),
		// The same time for what is asked about and for what is deleted.
		Believed: func() (time.Time, bool) { return clocks.wall, true },
	})
	if err != nil {
		return err
	}
	list := &purgeList{zone: zone, days: c.PhotoRetentionDays, orders: map[sites.OrderID]bool{}}
	if !c.DryRun {
		if _, err := keeper.Purge(ctx, operator, true, list.add); err != nil {
			return err
		}
		if list.photos > 0 && !c.Yes {
			fmt.Fprintln(stderr, list.sum("would be purged"))
			yes, err := ask(ctx, stderr)
			if err != nil {
				return err
			}
			if !yes {
				return errors.New("nothing was purged")
			}
		}
	}
	list = &purgeList{zone: zone, days: c.PhotoRetentionDays, orders: map[sites.OrderID]bool{}, to: stdout}
	if n, err := keeper.Purge(ctx, operator, c.DryRun, list.add); err != nil {
		return fmt.Errorf("%w\n%d photos were purged before; the same command goes on", err, n)
	}
	what := "were purged"
	if c.DryRun {
		what = "would be purged"
	}
	_, err = fmt.Fprintln(stdout, list.sum(what))
	return err
}

// A purgeList adds up what is purged.
type purgeList struct {
	zone   *time.Location
	days   int
	orders map[sites.OrderID]bool
	photos int
	bytes  int64
	to     io.Writer // gets a line for each; nil for none
}

func (l *purgeList) add(e photos.Event) {
	l.photos++
	l.bytes += e.Size
	l.orders[e.Order] = true
	if l.to != nil {
		fmt.Fprintf(l.to, "site %s, check-in %s, photo %s, %d bytes: its closure order ended at %s\n",
			e.Site, e.CheckIn, e.SHA256, e.Size, e.OrderEnd.In(l.zone).Format(time.DateTime))
	}
}

// sum is a sentence about all of them.
func (l *purgeList) sum(what string) string {
	return fmt.Sprintf("%d photos with %d bytes of %d closure orders %s: the orders ended %d days ago or earlier.",
		l.photos, l.bytes, len(l.orders), what, l.days)
}

// askTerminal asks whoever sits at the terminal whether the photos are to be deleted. It
// is an error that there is none.
func askTerminal(ctx context.Context, to io.Writer) (bool, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, errors.New("nothing was purged: there is no terminal to ask on; --yes deletes without a question")
	}
	answer := make(chan bool, 1)
	go func() { answer <- confirmed(os.Stdin, to) }()
	select {
	case yes := <-answer:
		return yes, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// confirmed asks once. Only a whole yes is one.
func confirmed(from io.Reader, to io.Writer) bool {
	fmt.Fprint(to, "Nothing brings them back. Is the time above right, and are they to be deleted? Type yes: ")
	line, err := bufio.NewReader(from).ReadString('\n')
	return err == nil && strings.EqualFold(strings.TrimSpace(line), "yes")
}
