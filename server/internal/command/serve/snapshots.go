package serve

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/snapshot"
	"xuncha/sites"
)

const (
	// snapshotFile is the name of the snapshot in its folder.
	snapshotFile = "snapshot"
	// snapshotEvery is how often a server looks whether a snapshot is due.
	snapshotEvery = 15 * time.Minute
	// snapshotAfter is after how many entries one is due: those take a second to read.
	// When the server stops, fewer are enough.
	snapshotAfter       = 100_000
	snapshotAfterAtStop = 10_000
	// snapshotTimeout is how long writing one may take, and snapshotTimeoutAtStop how
	// much longer a server may take to stop because of it.
	snapshotTimeout       = 5 * time.Minute
	snapshotTimeoutAtStop = 5 * time.Second
)

// A counted is a store that knows about how many entries it has.
type counted interface {
	ledger.Store
	CountEntries(context.Context) (int64, error)
}

// snapshots keeps the snapshot of one server. nil keeps none.
type snapshots struct {
	path     string
	key      func() (snapshot.Key, error)
	store    counted
	log      *slog.Logger
	sections []snapshot.Section
	// written is how many entries the store had at the newest snapshot. It is for one
	// goroutine at a time.
	written int64
	// seen is told of the head of every history; nil where nobody wants to know.
	seen func(ledger.History, ledger.Head)
	// catchUp brings the sections up to a place in the feed, or further, and returns it.
	catchUp func(context.Context) (ledger.Cursor, error)
	// held reports whether none is to be written.
	held func() bool
}

// newSnapshots returns the snapshots of a server: in the folder for caches, or else in the
// data folder. It is nil where there is neither.
func newSnapshots(stored StoreConfig, cache string, zone *time.Location, store counted, log *slog.Logger, sections []snapshot.Section) (*snapshots, error) {
	folder := cache
	switch {
	case folder == "" && stored.Store != "":
		return nil, nil
	case folder == "":
		folder = stored.Data
	default:
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("--cache: %w", err)
		}
	}
	return &snapshots{
		path: filepath.Join(folder, snapshotFile), store: store, log: log, sections: sections,
		held: func() bool { return false },
		key:  sync.OnceValues(func() (snapshot.Key, error) { return snapshotKey(zone) }),
	}, nil
}

// snapshotKey returns what a snapshot depends on beside the entries: the very program, and
// the time zone.
func snapshotKey(zone *time.Location) (key snapshot.Key, err error) {
	name, err := os.Executable()
	if err != nil {
		return key, err
	}
	f, err := os.Open(name)
	if err != nil {
		return key, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return key, err
	}
	fmt.Fprintf(h, "\n%s", zone)
	return snapshot.Key(h.Sum(nil)), nil
}

// restore gives the sections what the snapshot has, where it fits. It returns the place in
// the feed behind which everything is still to be read, and how many entries lie before
// it. The error is that of ctx, or of a store that denies something; whatever else is wrong
// with a snapshot, everything is read.
func (s *snapshots) restore(ctx context.Context, v *verification) (at ledger.Cursor, entries int64, err error) {
	if s == nil {
		return "", 0, nil
	}
	begun := time.Now()
	at, entries, err = s.tryRestore(ctx, v)
	switch {
	case err == nil:
		s.written = entries
		s.log.Info("the snapshot was read", "entries", entries, "took", time.Since(begun))
		return at, entries, nil
	case ctx.Err() != nil:
		return "", 0, ctx.Err()
	case errors.Is(err, mongostore.ErrDenied):
		return "", 0, err // which says nothing about the snapshot
	case !errors.Is(err, fs.ErrNotExist):
		s.log.Info("the snapshot cannot be used; everything is read", "reason", err.Error())
	}
	if err := snapshot.Remove(s.path); err != nil {
		s.log.Warn("the snapshot cannot be deleted", "error", err.Error())
	}
	return "", 0, nil
}

func (s *snapshots) tryRestore(ctx context.Context, v *verification) (ledger.Cursor, int64, error) {
	if _, err := os.Stat(s.path); err != nil {
		return "", 0, err // without having read the whole program
	}
	key, err := s.key()
	if err != nil {
		return "", 0, err
	}
	old, err := snapshot.Open(ctx, s.path, key)
	if err != nil {
		return "", 0, err
	}
	defer old.Close()
	err = untilBack(ctx, s.log, "comparing the snapshot with the database", func() error { return old.Fits(ctx, s.store, s.see) })
	if err != nil {
		return "", 0, err
	}
	if err := old.Restore(ctx, s.sections); err != nil {
		return "", 0, err
	}
	// The last that may fail: what is known then, nobody reads from the beginning.
	return old.Cursor(), old.Entries(), v.beginBehind(ctx, old.Heads, v.altered.AllSetAside())
}

// see passes on the head of a history.
func (s *snapshots) see(h ledger.History, head ledger.Head) {
	if s.seen != nil {
		s.seen(h, head)
	}
}

// writeAfter writes a snapshot where so many entries have come since the last one.
func (s *snapshots) writeAfter(ctx context.Context, least int64) error {
	if s.held() {
		return nil
	}
	begun := time.Now()
	entries, err := s.store.CountEntries(ctx)
	if err != nil || entries-s.written < least {
		return err
	}
	key, err := s.key()
	if err != nil {
		return err
	}
	at, err := s.catchUp(ctx)
	if err != nil {
		return err
	}
	if err := snapshot.Write(ctx, s.path, key, s.store, at, entries, s.sections); err != nil {
		return err
	}
	if s.held() {
		return snapshot.Remove(s.path)
	}
	s.written = entries
	s.log.Info("a snapshot was written", "entries", entries, "took", time.Since(begun))
	return nil
}

// keepSnapshots writes a snapshot every now and then, from a place in the feed on behind
// which the services have everything.
func (r *Running) keepSnapshots(at ledger.Cursor) {
	r.snapshots.catchUp = r.catchUpBehind(at)
	r.running.Go(func() {
		ticker := time.NewTicker(snapshotEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				r.writeSnapshot(r.beside, snapshotTimeout, func(ctx context.Context) error {
					return untilBack(ctx, r.log, "writing a snapshot", func() error { return r.snapshots.writeAfter(ctx, snapshotAfter) })
				})
			case <-r.beside.Done():
				return
			}
		}
	})
}

// catchUpBehind returns how the services are brought to a place in the feed. On a shared
// store they follow it anyway. On any other they know what they have stored themselves,
// but not what lies where in the feed: there they are given it once more.
func (r *Running) catchUpBehind(at ledger.Cursor) func(context.Context) (ledger.Cursor, error) {
	if r.store.Shared() {
		return func(ctx context.Context) (ledger.Cursor, error) {
			if followed := r.followed.Load(); followed != nil {
				at = *followed
			}
			return at, r.roster.CatchUp(ctx)
		}
	}
	feed := ledger.NewFollower(r.store, at, r.roster.Take, r.verification.counting(r.checkIns.Take))
	return func(ctx context.Context) (ledger.Cursor, error) {
		if err := feed.ReadAll(ctx, runtime.GOMAXPROCS(0)); err != nil {
			return "", err
		}
		r.verification.publish()
		return feed.Cursor(), r.roster.CatchUp(ctx)
	}
}

// writeSnapshot gives a snapshot so long to be written, and logs what fails.
func (r *Running) writeSnapshot(ctx context.Context, timeout time.Duration, write func(context.Context) error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := write(limited); err != nil && ctx.Err() == nil {
		r.log.Warn("no snapshot could be written; the next start reads more entries", "error", err.Error())
	}
}

// lastSnapshot writes a snapshot when the server stops, unless it never came to serve.
func (r *Running) lastSnapshot() {
	select {
	case <-r.Ready:
		if r.snapshots != nil {
			// A server that stops waits for no database.
			r.writeSnapshot(context.Background(), snapshotTimeoutAtStop, func(ctx context.Context) error {
				return r.snapshots.writeAfter(ctx, snapshotAfterAtStop)
			})
		}
	default:
	}
}

// sectionsOf returns what a server's snapshot has of its services. Accounts are few, and
// read anew at each start.
func sectionsOf(roster *sites.Service, checkIns *inspections.Service, altered *ledger.Alterations) []snapshot.Section {
	return []snapshot.Section{{Name: "roster", Snapshotter: roster}, {Name: "check-ins", Snapshotter: checkIns}, {Name: "set aside", Snapshotter: altered}}
}

// forgetSnapshot deletes the snapshot, so that the next start reads everything.
func (r *Running) forgetSnapshot() {
	if r.snapshots == nil {
		return
	}
	if err := snapshot.Remove(r.snapshots.path); err != nil {
		r.log.Warn("the snapshot cannot be deleted", "error", err.Error())
	}
}
