package serve

import (
	"context"
	"fmt"
	"sync"
	"time"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/rpc"
)

// farAhead is how far ahead of the last heartbeat a clock may be at a start to be taken for
// right without a word. Deployments are off for a night or a holiday.
const farAhead = 7 * 24 * time.Hour

// doubtProblem is the name of the problem that the clock waits to be confirmed.
const doubtProblem = "clock in doubt"

// A doubt is that the clock was far ahead at the start. Nobody can tell whether the server
// was off for so long or somebody has set the clock. Until somebody confirms it, nobody is
// refused for good because of the time, and no heartbeat says that it was right. Its zero
// value is none.
type doubt struct {
	mu    sync.Mutex
	beat  time.Time     // the last heartbeat
	ended chan struct{} // nil while there is no doubt
}

// begin says that the clock, which shows now, is in doubt.
func (d *doubt) begin(k *timekeeper, now, beat time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.beat, d.ended = beat, make(chan struct{})
	k.log.Error("the clock is far ahead of the last heartbeat, and waits to be confirmed", "clock", now, "heartbeat", beat)
	k.problems.Set(doubtProblem, rpc.Problem{
		Kind: xunchav1.ProblemKind_PROBLEM_KIND_CLOCK_JUMPED, Since: now,
		Message: fmt.Sprintf("The clock shows %s, and the last heartbeat was at %s. If no server was at work for so long, confirm the clock with xuncha confirm-clock; otherwise set it. Until then, check-ins that it would refuse wait on the phones.", stamp(now), stamp(beat)),
	})
}

// holds reports whether the clock is in doubt.
func (d *doubt) holds() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended != nil
}

// settle ends the doubt where the clock, which is taken for right again after a jump, is
// not far ahead any more.
func (d *doubt) settle(k *timekeeper, now time.Time) {
	d.mu.Lock()
	near := d.ended != nil && now.Sub(d.beat) <= farAhead
	d.mu.Unlock()
	if near {
		d.end(k)
	}
}

// end ends the doubt.
func (d *doubt) end(k *timekeeper) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended == nil {
		return
	}
	close(d.ended)
	d.ended = nil
	k.problems.Clear(doubtProblem)
	k.log.Info("the clock is not in doubt any more")
}

// over waits until there is no doubt, and reports whether ctx goes on.
func (d *doubt) over(ctx context.Context) bool {
	d.mu.Lock()
	ended := d.ended
	d.mu.Unlock()
	if ended != nil {
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// Confirm takes the clock for right as it is, and returns what it shows.
func (k *timekeeper) Confirm() time.Time {
	now := k.Clock.Confirm()
	k.doubt.end(k)
	return now
}
