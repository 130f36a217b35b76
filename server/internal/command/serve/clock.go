package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/clock"
	"xuncha/server/internal/rpc"
)

// writtenOn is a day after which this program was written: a clock before it is wrong.
var writtenOn = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// clockProblem is the name of the problem that the clock has jumped, and apartProblem that
// of one that is far from the database's.
const (
	clockProblem = "clock"
	apartProblem = "clock of the database"
)

// errClock means that the clock looks wrong, so that entries could get times that they
// never had.
var errClock = errors.New("the clock looks wrong")

// clockConfig says what to do about a clock that looks wrong.
type clockConfig struct {
	AcceptClock bool `help:"Go on although the clock is behind the newest entry, behind the last heartbeat, before the day on which this program was built, or another than that of a MongoDB database. Look at the clock first."`
}

// A reader reads the wall clock and the monotonic one at one moment.
type reader = func() (time.Time, time.Duration)

// A timekeeper is a server's time: its clock, and what it knows of it from before.
type timekeeper struct {
	*clock.Clock
	hearts   *clock.Heartbeats
	read     reader
	log      *slog.Logger
	problems *rpc.Problems
	accept   bool
	doubt    doubt
}

// newTimekeeper returns the time of a server. The reader is nil but in tests.
func newTimekeeper(c clockConfig, read reader, log *slog.Logger, problems *rpc.Problems) *timekeeper {
	if read == nil {
		read = clock.Machine()
	}
	k := &timekeeper{read: read, log: log, problems: problems, accept: c.AcceptClock}
	k.Clock = clock.New(clock.Config{Read: read, Notice: k.notice})
	return k
}

// notice logs what happens to the clock, and keeps the problem that it has jumped.
func (k *timekeeper) notice(e clock.Event) {
	both := []any{"clock", e.Wall, "good", e.Good}
	switch e.What {
	case clock.Jumped:
		k.log.Error("the clock has jumped; entries get the last good time plus what has run since", both...)
		k.problems.Set(clockProblem, rpc.Problem{
			Kind: xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED, Since: e.Good,
			Message: fmt.Sprintf("The clock has jumped from %s to %s. Entries get the last good time plus what has run since, until the clock has been steady for %v, comes back, or is confirmed.",
				stamp(e.Good), stamp(e.Wall), clock.SteadyFor),
		})
		return
	case clock.Slept:
		k.log.Info("the machine was asleep; the clock has not jumped", append(both, "for", e.Asleep)...)
		return
	case clock.Returned:
		k.log.Info("the clock is back where it should be", both...)
	case clock.Steadied:
		k.log.Info("the clock has been steady since it jumped; it is taken for right", both...)
	case clock.Confirmed:
		k.log.Info("somebody has confirmed the clock; it is taken for right", both...)
	}
	k.problems.Clear(clockProblem)
	k.doubt.settle(k, e.Wall)
	if k.hearts != nil {
		if e.What != clock.Returned {
			k.hearts.Accept(e.Good) // entries of before may lie ahead
		}
		k.hearts.Soon() // a restart must not take the wrong time of the newest beat for right
	}
}

// stamp writes a time for people.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// A clocked store may have a clock of its own.
type clocked interface {
	DatabaseTime(context.Context) (time.Time, error)
}

// open reads the heartbeats of the store, and compares the clock with all that can be
// known before all entries are read.
func (k *timekeeper) open(ctx context.Context, store Engine) (err error) {
	c := clock.HeartbeatsConfig{Notes: store, Read: k.read, Now: k.Now, Apart: k.apart}
	if s, ok := store.(clocked); ok {
		c.Database = s.DatabaseTime
	}
	err = untilBack(ctx, k.log, "reading the heartbeats", func() error {
		k.hearts, err = clock.OpenHeartbeats(ctx, c)
		return err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		k.log.Error("the heartbeats cannot be read, so the clock is compared with entries alone", "error", err.Error())
	}
	known := known{beat: k.hearts.Last(), accepted: k.hearts.Accepted(), entry: newestEarly(ctx, store)}
	if c.Database != nil {
		err := untilBack(ctx, k.log, "reading the clock of the database", func() (err error) {
			known.database, err = c.Database(ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := k.check(known); err != nil {
		return err
	}
	if now := k.Now(); !known.beat.IsZero() && now.Sub(known.beat) > clock.Tolerance {
		k.log.Warn("the clock is ahead of the last heartbeat; if no server was at work, that is why", "clock", now, "heartbeat", known.beat)
		// Two clocks that agree, that of the database and this one, are believed.
		if known.database.IsZero() && !k.accept && now.Sub(known.beat) > farAhead {
			k.doubt.begin(k, now, known.beat)
		}
	}
	return nil
}

// Believed returns the time that may be counted with where a deed cannot be undone, once
// there is one.
func (k *timekeeper) Believed() (time.Time, bool) { return k.hearts.Believed() }

// apart tells whether the clock of the database is far from ours.
func (k *timekeeper) apart(apart bool, now, database time.Time) {
	if apart {
		k.log.Error("the clock of the database is another than this server's", "clock", now, "database", database)
		k.problems.Set(apartProblem, rpc.Problem{
			Kind: xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED, Since: now,
			Message: fmt.Sprintf("The clock of the database shows %s, and this server's %s. One of them is wrong.", stamp(database), stamp(now)),
		})
		return
	}
	k.problems.Clear(apartProblem)
	k.log.Info("the clocks of the database and of this server agree again", "clock", now, "database", database)
}

// check refuses to go on with a clock that cannot be right, unless the operator says so.
func (k *timekeeper) check(known known) error {
	now := k.Now()
	err := known.check(now)
	if err == nil || !k.accept {
		return err
	}
	k.log.Warn("the clock looks wrong, and --accept-clock goes on with it", "clock", now, "error", err.Error())
	k.hearts.Accept(known.entry)
	return nil
}

// A known is what is known of the time without a clock; zero for what is not known.
type known struct {
	database    time.Time // by the database's own clock
	beat, entry time.Time // of the newest heartbeat and the newest entry
	accepted    time.Time // up to when entries may lie ahead
}

// check returns an error that wraps errClock where a clock that shows now is wrong.
func (s known) check(now time.Time) error {
	other := func(t time.Time, what string) error {
		return fmt.Errorf("%w: it shows %s, and %s %s; set it right, or go on with --accept-clock", errClock, stamp(now), what, stamp(t))
	}
	switch built := builtOn(); {
	case now.Before(built):
		return other(built, "this program was built on")
	case !s.database.IsZero() && now.Sub(s.database).Abs() > clock.Tolerance:
		return other(s.database, "that of the database shows")
	case s.beat.Sub(now) > clock.Tolerance:
		return other(s.beat, "the last heartbeat was at")
	case s.entry.After(s.accepted) && s.entry.Sub(now) > clock.Tolerance:
		return other(s.entry, "the newest entry is of")
	}
	return nil
}

// builtOn returns the day on which the program was built, as far as is known.
func builtOn() time.Time {
	out := writtenOn
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	for _, s := range info.Settings {
		if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil && t.After(out) {
			out = t.UTC().Truncate(24 * time.Hour)
		}
	}
	return out
}

// newestEarly returns the time of the newest entry, as far as few reads can tell.
func newestEarly(ctx context.Context, store ledger.Store) (newest time.Time) {
	if s, ok := store.(interface {
		LastTime(context.Context) (time.Time, error)
	}); ok {
		newest, _ = s.LastTime(ctx)
	}
	for _, h := range []ledger.History{ledger.Roster, ledger.Accounts} {
		if t := headTime(ctx, store, h); t.After(newest) {
			newest = t
		}
	}
	return newest
}

// headTime returns the time of a history's newest entry; zero where that cannot be read,
// or what is stored beside the record is another: damage says nothing about the clock.
func headTime(ctx context.Context, store ledger.Store, h ledger.History) time.Time {
	list, err := store.Newest(ctx, h, 0, 1)
	if err != nil || len(list) == 0 {
		return time.Time{}
	}
	read, err := ledger.Parse(list[0].Record)
	if err != nil || !read.Time.Equal(list[0].Time) {
		return time.Time{}
	}
	return read.Time
}

// checkClock refuses to store anything with a clock that cannot be right, for commands
// that are no server. What cannot be read says nothing about the clock, and whoever needs
// it finds that out.
func (c clockConfig) checkClock(ctx context.Context, store Engine) error {
	if c.AcceptClock {
		return nil
	}
	hearts, _ := clock.OpenHeartbeats(ctx, clock.HeartbeatsConfig{Notes: store, Read: clock.Machine(), Now: time.Now})
	known := known{beat: hearts.Last(), entry: newestEarly(ctx, store), accepted: hearts.Accepted()}
	if s, ok := store.(clocked); ok {
		known.database, _ = s.DatabaseTime(ctx)
	}
	return known.check(time.Now())
}

// A newestTime is the time of the newest entry that was seen. It is safe for concurrent
// use.
type newestTime struct {
	nanoseconds atomic.Int64
	// ahead are histories whose newest entries seem to lie ahead of the clock.
	ahead []ledger.History
}

// see takes note of an entry's time.
func (n *newestTime) see(t time.Time) {
	for {
		old := n.nanoseconds.Load()
		if t.UnixNano() <= old || n.nanoseconds.CompareAndSwap(old, t.UnixNano()) {
			return
		}
	}
}

// maxAhead is how many histories that seem to lie ahead are looked at.
const maxAhead = 1000

// seeHead takes note of a head, of which nobody has verified the time yet.
func (r *Running) seeHead(h ledger.History, head ledger.Head) {
	if head.Time.Sub(r.time.Now()) > clock.Tolerance && len(r.newest.ahead) < maxAhead {
		r.newest.ahead = append(r.newest.ahead, h)
	}
}

// checkEntries compares the clock with the newest of all entries, once they are read, and
// begins to beat.
func (r *Running) checkEntries() error {
	k := r.time
	for _, h := range r.newest.ahead {
		r.newest.see(headTime(r.beside, r.store, h))
	}
	err := k.check(known{entry: time.Unix(0, r.newest.nanoseconds.Load()), accepted: k.hearts.Accepted()})
	if err == nil {
		r.running.Go(func() {
			if k.doubt.over(r.beside) {
				k.hearts.Run(r.beside)
			}
		})
	}
	return err
}
