package serve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"xuncha/ledger"
	"xuncha/server/internal/clock"
)

// clocks are what is known of the time where something is deleted by hand.
type clocks struct {
	wall time.Time // by this machine
	known
}

// readClocks reads all clocks that there are.
func readClocks(ctx context.Context, store Engine, now time.Time) (c clocks, err error) {
	c.wall = now
	beats, err := clock.OpenHeartbeats(ctx, clock.HeartbeatsConfig{
		Notes: store, Now: func() time.Time { return now }, Read: func() (time.Time, time.Duration) { return now, 0 },
	})
	if err != nil && !errors.Is(err, clock.ErrDamaged) { // then whoever is asked knows less
		return c, err
	}
	c.beat, c.accepted = beats.Last(), beats.Accepted()
	if s, ok := store.(clocked); ok {
		if c.database, err = s.DatabaseTime(ctx); err != nil {
			return c, err
		}
	}
	for e, err := range store.Feed(ctx, "") {
		if errors.Is(err, ledger.ErrWaiting) {
			break
		}
		if err != nil {
			return c, err
		}
		if e.Time.After(c.entry) {
			c.entry = e.Time
		}
	}
	return c, nil
}

// check returns an error that wraps errClock where the clocks do not agree on what time
// it is.
func (c clocks) check() error { return c.known.check(c.wall) }

// describe says what time it is believed to be.
func (c clocks) describe() string {
	var out strings.Builder
	fmt.Fprintf(&out, "This machine's clock shows %s.", stamp(c.wall))
	for _, other := range []struct {
		at   time.Time
		what string
	}{
		{c.database, "That of the database shows"}, {c.beat, "The last heartbeat of a server was at"}, {c.entry, "The newest entry is of"},
	} {
		if !other.at.IsZero() {
			fmt.Fprintf(&out, " %s %s.", other.what, stamp(other.at))
		}
	}
	return out.String()
}
