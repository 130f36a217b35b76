package serve

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/server/internal/clock/clocktest"
	"xuncha/server/internal/mongostore"
	"xuncha/server/internal/snapshot"
	"xuncha/sites/sitestest"
)

var errAway = fmt.Errorf("an election: %w", ledger.ErrUnavailable)

// A flaky is an engine that is away now and then, whatever it is asked for.
type flaky struct {
	Engine
	// away decides on each question, and on each entry of a feed, what it fails with.
	away func() error

	mu    sync.Mutex
	given map[ledger.Key]int // how often a feed gave each entry
}

func (f *flaky) Feed(ctx context.Context, from ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		if err := f.away(); err != nil {
			yield(ledger.FeedEntry{}, err)
			return
		}
		for e, err := range f.Engine.Feed(ctx, from) {
			if err == nil {
				f.mu.Lock()
				f.given[ledger.Key{History: e.History, Sequence: e.Sequence}]++
				f.mu.Unlock()
			}
			if !yield(e, err) {
				return
			}
			if err := f.away(); err != nil {
				yield(ledger.FeedEntry{}, err)
				return
			}
		}
	}
}

func (f *flaky) Heads(ctx context.Context, each func(ledger.History, ledger.Head) error) error {
	return f.Engine.Heads(ctx, func(h ledger.History, head ledger.Head) error {
		if err := f.away(); err != nil {
			return err
		}
		return each(h, head)
	})
}

func (f *flaky) Span(ctx context.Context, h ledger.History, after ledger.Sequence, n int) ([]ledger.Entry, error) {
	if err := f.away(); err != nil {
		return nil, err
	}
	return f.Engine.Span(ctx, h, after, n)
}

func (f *flaky) Entries(ctx context.Context, keys []ledger.Key) ([]ledger.Entry, error) {
	if err := f.away(); err != nil {
		return nil, err
	}
	return f.Engine.Entries(ctx, keys)
}

func (f *flaky) Rows(ctx context.Context, sum string) ([]byte, error) {
	if err := f.away(); err != nil {
		return nil, err
	}
	return f.Engine.Rows(ctx, sum)
}

func (f *flaky) CountEntries(ctx context.Context) (int64, error) {
	if err := f.away(); err != nil {
		return 0, err
	}
	return f.Engine.CountEntries(ctx)
}

// TestSameAnswersThoughAway holds that a server whose database was away again and again
// while it started gives the same answers as any other, that it was given no entry twice,
// and that it used its snapshot all the same.
func TestSameAnswersThoughAway(t *testing.T) {
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		// Of a bubble's test, rapid must not ask for the deadline.
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			ctx := context.Background()
			begun := time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC)
			if err := snapshot.Remove(filepath.Join(folder, snapshotFile)); err != nil {
				t.Fatal(err)
			}
			store := memoryEngine{ledgertest.New(t), new(sitestest.MemoryRows), new(accountstest.MemorySecrets), new(clocktest.MemoryNotes)}
			w := &restarting{store: store, folder: folder, now: begun, log: &lines{}}
			r := w.open(t)
			w.begin(t, r)
			w.goOn(t, r, rapid.IntRange(0, 20).Draw(t, "before"))
			kept := rapid.Bool().Draw(t, "snapshot")
			if kept {
				if err := r.snapshots.writeAfter(ctx, 0); err != nil {
					t.Fatal(err)
				}
				w.goOn(t, r, rapid.IntRange(0, 10).Draw(t, "after"))
			}
			questions, fails := 0, rapid.SliceOfNDistinct(rapid.IntRange(0, 40), 0, 8, rapid.ID[int]).Draw(t, "away at")
			var mu sync.Mutex
			away := &flaky{Engine: store, given: map[ledger.Key]int{}, away: func() error {
				mu.Lock()
				defer mu.Unlock()
				questions++
				for _, at := range fails {
					if at == questions {
						return errAway
					}
				}
				return nil
			}}
			w.store = away
			started := w.open(t)
			if used := started.snapshots.written > 0; used != kept {
				t.Errorf("a snapshot %v, used %v: %s", kept, used, w.log)
			}
			for k, n := range away.given {
				if n > 1 && !kept { // the snapshot is compared with the feed, too
					t.Errorf("%v was given %d times", k, n)
				}
			}
			fails = nil
			if got, want := w.answers(t, started, begun), w.answers(t, r, begun); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	})
}

// While the database is away, a server that starts waits ever longer, says so, and goes
// on once it is back. What does not pass ends the wait, and so does whoever stops it.
func TestUntilBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		try := func(ctx context.Context, errs ...error) (time.Duration, error) {
			begun := time.Now()
			err := untilBack(ctx, slog.New(slog.NewTextHandler(log, nil)), "reading", func() error {
				err := errs[0]
				errs = errs[1:]
				return err
			})
			return time.Since(begun), err
		}
		if took, err := try(t.Context(), nil); took != 0 || err != nil || log.String() != "" {
			t.Errorf("it took %v, %v, and the log has %s", took, err, log)
		}
		took, err := try(t.Context(), errAway, errAway, errAway, errAway, errAway, errAway, errAway, nil)
		if want := 100*(1+2+4+8+16+32)*time.Millisecond + 4*time.Second; took != want || err != nil {
			t.Errorf("it took %v, %v, want %v", took, err, want)
		}
		if got := log.String(); strings.Count(got, "WARN") != 7 || strings.Count(got, "the database is back") != 1 {
			t.Errorf("got %s", got)
		}
		for _, last := range []error{ledger.ErrBroken, fmt.Errorf("%w: %w", ledger.ErrUnavailable, mongostore.ErrDenied)} {
			if took, err := try(t.Context(), errAway, last); took != firstWait || err != last {
				t.Errorf("it took %v, %v, want %v", took, err, last)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		if took, err := try(ctx, errAway, errAway, nil); took != 150*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it took %v, %v, want the context's end", took, err)
		}
	})
}

// startFlaky starts a server on a store that fails with what away gives.
func startFlaky(t *testing.T, away func() error) (*Running, *lines) {
	t.Helper()
	log := &lines{}
	c := Config{
		Listen: "127.0.0.1:0", TimeZone: "UTC", LogLevel: "info", MaxMessageBytes: 1 << 20,
		photoConfig: photoConfig{PhotoRetentionDays: 30}, ShutdownTimeout: time.Minute,
	}
	r, err := start(t.Context(), StoreConfig{Data: t.TempDir()}, c, log,
		func(ctx context.Context, name string, o EngineOptions) (Engine, string, error) {
			store, where, err := OpenEngine(ctx, name, o)
			return &flaky{Engine: store, away: away, given: map[ledger.Key]int{}}, where, err
		})
	if err != nil {
		t.Fatal(err)
	}
	return r, log
}

// A server whose database is away while it starts answers that it starts, until the
// database is back. The accounts, which it reads before all else, are waited for too.
func TestStartWhileAway(t *testing.T) {
	var mu sync.Mutex
	asked, back := 0, false
	r, log := startFlaky(t, func() error {
		mu.Lock()
		defer mu.Unlock()
		if asked++; asked == 2 || back { // the second time, the accounts are read
			return nil
		}
		return errAway
	})
	conn, err := grpc.NewClient(r.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for !strings.Contains(log.String(), "counting the entries") {
		<-time.After(time.Millisecond)
	}
	_, err = xunchav1.NewRosterServiceClient(conn).ListSites(t.Context(), &xunchav1.ListSitesRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want UNAVAILABLE", err)
	}
	health, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || health.Status != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("got %v, %v, want NOT_SERVING", health, err)
	}
	mu.Lock()
	back = true
	mu.Unlock()
	select {
	case <-r.Ready:
	case err := <-r.Failed:
		t.Error(err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if got := log.String(); !strings.Contains(got, "reading the accounts") || !strings.Contains(got, "the database is back") {
		t.Errorf("the log has %s", got)
	}
}

// A server that waits for its database can be stopped; and what the database denies ends
// a start.
func TestStartEndsWhileAway(t *testing.T) {
	for name, c := range map[string]struct{ fails, want error }{
		"stopped": {errAway, nil},
		"denied":  {fmt.Errorf("%w: %w", ledger.ErrUnavailable, mongostore.ErrDenied), mongostore.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			asked := 0
			r, log := startFlaky(t, func() error {
				mu.Lock()
				defer mu.Unlock()
				if asked++; asked == 1 {
					return nil // the accounts
				}
				return c.fails
			})
			if c.want != nil {
				if err := <-r.Failed; !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			} else {
				for !strings.Contains(log.String(), "is away") {
					<-time.After(time.Millisecond)
				}
			}
			if err := r.Stop(); err != nil {
				t.Error(err)
			}
			select {
			case <-r.Ready:
				t.Error("it has served")
			case err := <-r.Failed:
				t.Errorf("got %v", err)
			default:
			}
		})
	}
}
