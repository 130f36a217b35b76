package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"xuncha/client"
)

// longestGroupCall is after how long a call of a group has failed.
const longestGroupCall = 20 * time.Second

// A group is callers of one server, each of whom makes one call after the other.
type group struct {
	server  child
	callers int
	call    call
	// patient callers go on where the server cannot do what they ask. They wait as long as
	// it says, as a phone does.
	patient bool
}

// An outcome is what came of the calls of a group.
type outcome struct {
	// rate is how many calls a second succeeded in the window.
	rate float64
	// took is how long those took that were under way at some moment of the window.
	took latencies
	// done and failed count all calls, also those outside the window; those that failed
	// may have been stored all the same.
	done, failed int
	// err is why the first of them failed.
	err error
}

// loadGroups lets all groups call at once for the window, after a fifth of it that does not
// count. It samples at the window's start and at its end.
func loadGroups[S any](ctx context.Context, window time.Duration, groups []group, sample func() (S, error)) (out []outcome, before, after S, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var stop atomic.Bool
	var running sync.WaitGroup
	logs := make([][]callLog, len(groups))
	for i, g := range groups {
		logs[i] = make([]callLog, g.callers)
		for j := range g.callers {
			running.Go(func() {
				source := rand.New(rand.NewPCG(uint64(i)<<32|uint64(j), uint64(time.Now().UnixNano())))
				if err := logs[i][j].fill(ctx, g, g.server.conns[j%len(g.server.conns)], source, &stop); err != nil {
					cancel(err)
				}
			})
		}
	}
	pause(ctx, window/5)
	before, errBefore := sample()
	start := time.Now()
	pause(ctx, window)
	end := time.Now()
	after, errAfter := sample()
	stop.Store(true)
	running.Wait()
	for _, l := range logs {
		out = append(out, outcomeOf(l, start, end))
	}
	return out, before, after, errors.Join(context.Cause(ctx), errBefore, errAfter)
}

// pause waits for so long, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// A callLog is what one caller has done.
type callLog struct {
	calls  []madeCall // those that succeeded
	failed int
	err    error // of the first that failed
}

// A madeCall is when a call began and ended.
type madeCall struct{ begun, ended time.Time }

// fill makes calls until it is to stop. The error is that of a call that failed and that
// ends the measurement.
func (l *callLog) fill(ctx context.Context, g group, conn *client.Client, source *rand.Rand, stop *atomic.Bool) error {
	for !stop.Load() && ctx.Err() == nil {
		begun := time.Now()
		err := g.once(ctx, conn, source)
		if err == nil {
			l.calls = append(l.calls, madeCall{begun, time.Now()})
			continue
		}
		if ctx.Err() != nil {
			return nil // another caller's failure, or the end of the bench
		}
		l.failed++
		if l.err == nil {
			l.err = err
		}
		if !g.patient || !passing(err) {
			return err
		}
		wait, said := retryDelay(err)
		if !said {
			wait = 100 * time.Millisecond
		}
		pause(ctx, wait)
	}
	return nil
}

// once makes one call.
func (g group) once(ctx context.Context, conn *client.Client, source *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, longestGroupCall)
	defer cancel()
	return g.call(ctx, conn, source)
}

// passing reports whether the error says that the same call may succeed later.
func passing(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// retryDelay returns how long the server asks to wait before the next try, if it does.
func retryDelay(err error) (time.Duration, bool) {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.RetryDelay.AsDuration(), true
		}
	}
	return 0, false
}

// outcomeOf sums up what the callers of a group have done in the window.
func outcomeOf(callers []callLog, start, end time.Time) (out outcome) {
	within := 0
	for _, l := range callers {
		for _, c := range l.calls {
			if c.ended.Before(start) || c.begun.After(end) {
				continue
			}
			out.took = append(out.took, c.ended.Sub(c.begun))
			if !c.ended.After(end) {
				within++
			}
		}
		out.done += len(l.calls)
		out.failed += l.failed
		if out.err == nil {
			out.err = l.err
		}
	}
	out.rate = float64(within) / end.Sub(start).Seconds()
	slices.Sort(out.took)
	return out
}

// merge returns the outcome of several groups together.
func merge(groups []outcome) (all outcome) {
	for _, o := range groups {
		all.rate += o.rate
		all.took = append(all.took, o.took...)
		all.done += o.done
		all.failed += o.failed
		if all.err == nil {
			all.err = o.err
		}
	}
	slices.Sort(all.took)
	return all
}
