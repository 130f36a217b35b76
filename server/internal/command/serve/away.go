package serve

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"xuncha/ledger"
	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/sqlitestore"
)

const (
	// firstWait is how long a start waits for a database that is away before it asks
	// again. Each wait is twice as long as the one before, up to longestWait.
	firstWait   = 100 * time.Millisecond
	longestWait = 4 * time.Second
)

// isAway reports whether the store does not answer just now, as in an election. Where
// the database denies something, or is damaged, somebody who starts a server wants to hear
// of it at once.
func isAway(err error) bool {
	return errors.Is(err, ledger.ErrUnavailable) && !errors.Is(err, mongostore.ErrDenied) && !errors.Is(err, sqlitestore.ErrDamaged)
}

// untilBack calls f, and calls it again for as long as it fails because the store is
// away, until ctx ends. The log has what waits for the store.
func untilBack(ctx context.Context, log *slog.Logger, what string, f func() error) error {
	for wait, away := firstWait, false; ; wait = min(2*wait, longestWait) {
		err := f()
		if !isAway(err) {
			if away && err == nil {
				log.Info("the database is back", "what", what)
			}
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		away = true
		log.Warn("the database is away; this goes on once it is back", "what", what, "error", err.Error())
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
