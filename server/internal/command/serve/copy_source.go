package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/mongostore"
)

// A sourceWatch looks whether servers are at work on the source of a copy. A data folder
// needs no looking: the copy holds its lock.
type sourceWatch struct {
	servers interface {
		Servers(context.Context) (map[string]int64, error)
	} // nil for a data folder
	before map[string]int64
	begun  time.Time
}

// watchSource begins to look.
func watchSource(ctx context.Context, from Engine) (w sourceWatch, err error) {
	if s, ok := from.(*mongostore.Store); ok {
		w.servers, w.begun = s, time.Now()
		w.before, err = s.Servers(ctx)
	}
	return w, err
}

// atWork returns how many servers have said since the beginning that they are there. It
// waits until each that there may be must have said so, or until one has.
func (w sourceWatch) atWork(ctx context.Context, stderr io.Writer) (n int, err error) {
	if w.servers == nil {
		return 0, nil
	}
	const patience = mongostore.SeenEvery + 2*time.Second
	said := false
	for {
		now, err := w.servers.Servers(ctx)
		if err != nil {
			return 0, err
		}
		for id, seen := range now {
			if before, known := w.before[id]; !known || before != seen {
				n++
			}
		}
		left := patience - time.Since(w.begun)
		if n > 0 || len(now) == 0 || left <= 0 {
			return n, nil
		}
		if !said {
			fmt.Fprintf(stderr, "Looking whether a server is at work on the source; this takes %v.\n", left.Round(time.Second))
			said = true
		}
		timer := time.NewTimer(min(left, time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, ctx.Err()
		}
	}
}

// checkSource returns an error that wraps ledger.ErrSourceChanged where somebody has
// written to the source of the copy since it began.
func checkSource(ctx context.Context, job ledger.CopyJob, plan *ledger.CopyPlan, from, to Engine, source string) error {
	err := job.CheckSource(ctx, plan)
	if err == nil {
		// Signing in makes no entry. A photo has one, and so have the rows of an import.
		var n int
		if n, err = accounts.DifferentSecrets(ctx, from, to); n > 0 {
			err = fmt.Errorf("%w: parts that changed of what accounts sign in with: %d", ledger.ErrSourceChanged, n)
		}
	}
	if errors.Is(err, ledger.ErrSourceChanged) {
		return fmt.Errorf("%w\nThe copy holds what was there when it began. Stop the server that writes to %s, and run the same command again: it brings over what is missing",
			err, source)
	}
	return err
}
