package engine

import (
	"context"
	"runtime"
)

// A Queue gathers jobs that many callers put in, so that one goroutine can do all
// that are waiting at once.
type Queue[J any] struct {
	jobs  chan J
	ended chan struct{}
}

// NewQueue returns a queue whose batches have at most so many jobs.
func NewQueue[J any](most int) *Queue[J] {
	return &Queue[J]{jobs: make(chan J, most), ended: make(chan struct{})}
}

// Put puts a job in, unless the context ends before there is room.
func (q *Queue[J]) Put(ctx context.Context, j J) error {
	select {
	case q.jobs <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Len returns how many jobs wait.
func (q *Queue[J]) Len() int { return len(q.jobs) }

// Run calls do with a batch of what is waiting, again and again, until the queue
// is closed and empty. The batch is only lent.
func (q *Queue[J]) Run(do func(batch []J)) {
	defer close(q.ended)
	batch := make([]J, 0, cap(q.jobs))
	for j := range q.jobs {
		batch = append(batch[:0], j)
		// Callers that are about to put something in get their turn first: a larger
		// batch costs its flush of the disk, or its way to the database, once.
		runtime.Gosched()
		for waiting := len(q.jobs); waiting > 0 && len(batch) < cap(batch); waiting-- {
			batch = append(batch, <-q.jobs)
		}
		do(batch)
		clear(batch)
	}
}

// Close lets Run end, and waits for it. Nobody may be putting anything in.
func (q *Queue[J]) Close() {
	close(q.jobs)
	<-q.ended
}
