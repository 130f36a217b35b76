package mongostore

import (
	"context"
	"fmt"
	"sync"

	"xuncha/ledger"
)

// A lane stores the entries of one history, one insert at a time. What holds it up,
// such as another server that is quicker, or a shard without a primary, holds up no
// other history.
type lane struct {
	writer  *writer
	history ledger.History

	mu      sync.Mutex
	waiting []*job
	// running tells that a goroutine is at work on what waits.
	running bool
	// unsure are the documents of which it is not known whether they are stored. Only the
	// goroutine changes them.
	unsure []entryDoc
}

// put puts a job in and sets the lane to work. It needs the writer's lock.
func (l *lane) put(j *job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, j)
	if !l.running {
		l.running = true
		l.writer.running.Go(l.run)
	}
}

func (l *lane) isUnsure() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.unsure) > 0
}

// run stores what waits until nothing does.
func (l *lane) run() {
	for more := true; more; {
		if l.isUnsure() {
			if l.settleFirst(); l.isUnsure() {
				more = !l.rest()
				continue
			}
		}
		// Jobs that come while it waits for its turn are stored together.
		ctx, done := l.writer.turns.take()
		var batch []*job
		if batch, more = l.take(); more {
			l.work(ctx, batch)
		}
		done()
	}
}

// rest ends the goroutine where nothing waits, though something has to be settled still,
// and reports that.
func (l *lane) rest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = len(l.waiting) > 0
	return !l.running
}

// take takes the jobs that wait, as many as one insert can. Without any, the lane ends.
// Nothing of it is unsure then.
func (l *lane) take() (batch []*job, more bool) {
	// In the order of writer.do, which must not put a job into a lane that ends.
	l.writer.mu.Lock()
	defer l.writer.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.running = false
		delete(l.writer.lanes, l.history)
		return nil, false
	}
	n, entries := 0, 0
	for n < len(l.waiting) && (n == 0 || entries+l.waiting[n].size() <= maxBatch) {
		entries += l.waiting[n].size()
		n++
	}
	batch = l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	return batch, true
}

// giveUp ends the jobs and all that wait by now: they would only wait for the same.
func (l *lane) giveUp(ctx context.Context, jobs []*job, err error) {
	l.mu.Lock()
	jobs = append(jobs, l.waiting...)
	l.waiting = nil
	l.mu.Unlock()
	fail(ctx, jobs, err)
}

// fail ends jobs with an error that is not theirs alone.
func fail(ctx context.Context, jobs []*job, err error) {
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: the database took too long", ledger.ErrUnavailable)
	}
	err = translate(context.Background(), err)
	for _, j := range jobs {
		j.done <- err
	}
}

// work stores a batch. Those jobs that another server was quicker than are tried
// again at once.
func (l *lane) work(ctx context.Context, batch []*job) {
	if err := l.writer.ready(ctx); err != nil {
		l.giveUp(ctx, batch, err)
		return
	}
	for len(batch) > 0 {
		batch = l.insert(ctx, batch)
	}
}
