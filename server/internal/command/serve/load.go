package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"xuncha/ledger"
)

// load reads what is stored: the snapshot where there is one that fits, and the entries
// behind it. It returns where in the feed it is then. While the store is away it waits,
// and goes on where it was.
func (r *Running) load(ctx context.Context) (ledger.Cursor, error) {
	said := startLoading(r.log)
	defer said.end()
	at, before, err := r.snapshots.restore(ctx, r.verification)
	if err != nil {
		return "", err
	}
	err = untilBack(ctx, r.log, "counting the entries", func() error {
		total, err := r.store.CountEntries(ctx)
		said.of.Store(total - before)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("counting the entries: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A roster is read from its own history, and may have rows that take long.
	roster := make(chan error, 1)
	go func() {
		err := untilBack(ctx, r.log, "reading the roster", func() error { return r.roster.Refresh(ctx) })
		if err != nil {
			cancel()
		}
		roster <- err
	}()
	// A time that does not verify says nothing about the clock.
	count := func(e ledger.Entry) error {
		r.newest.see(e.Time)
		return r.checkIns.Take(e)
	}
	feed := ledger.NewFollower(r.store, at, said.take, r.people.Take, r.roster.Take, r.verification.counting(count))
	err = untilBack(ctx, r.log, "reading the histories", func() error { return feed.ReadAll(ctx, runtime.GOMAXPROCS(0)) })
	if errors.Is(err, ledger.ErrWaiting) {
		err = nil
	}
	if err != nil {
		cancel()
		err = fmt.Errorf("reading the histories: %w", err)
	}
	// Where both have failed, the second one failed because the first one did.
	if failed := <-roster; failed != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = failed
	}
	if err == nil {
		r.verification.isLoaded(at == "")
		r.catchUpAfterRound(ctx)
	}
	return feed.Cursor(), err
}

// saysEvery is how often a server that starts says how far it is.
const saysEvery = 5 * time.Second

// A loading says in the log how far a start is. One that takes less than saysEvery says
// nothing.
type loading struct {
	log       *slog.Logger
	read, of  atomic.Int64 // entries
	stop, out chan struct{}
}

// startLoading begins to say how far a start is, until end is called.
func startLoading(log *slog.Logger) *loading {
	p := &loading{log: log, stop: make(chan struct{}), out: make(chan struct{})}
	go p.say()
	return p
}

// take counts an entry.
func (p *loading) take(ledger.Entry) error {
	p.read.Add(1)
	return nil
}

func (p *loading) say() {
	defer close(p.out)
	ticker := time.NewTicker(saysEvery)
	defer ticker.Stop()
	for before := int64(0); ; {
		select {
		case <-ticker.C:
		case <-p.stop:
			return
		}
		read := p.read.Load()
		p.log.Info("starting: reading what is stored", "entries", read, "of", p.of.Load(),
			"per_second", int64(float64(read-before)/saysEvery.Seconds()))
		before = read
	}
}

// end ends it.
func (p *loading) end() {
	close(p.stop)
	<-p.out
}
