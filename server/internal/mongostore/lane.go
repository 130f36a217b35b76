package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
)

const (
	// maxBatch is how many entries one insert takes in: so few that the driver never
	// splits it, and that a compatible server takes it as one too.
	maxBatch = 100
	// maxTries is how often an entry is tried again where other servers were
	// quicker, each time with the head read anew.
	maxTries = 100
	// tryAgainAfter is how long a history waits, once for each try so far, where an
	// entry is refused because of one that no majority has yet.
	tryAgainAfter = 2 * time.Millisecond
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

// A job is an entry, or some that follow one another, on their way.
type job struct {
	ctx context.Context
	// A draft is stored after its history's newest entry, or, where after is not
	// nil, only after the one with that sequence.
	draft ledger.Draft
	after *ledger.Sequence
	// sealed are entries to be stored as they are.
	sealed []ledger.Entry
	// settles tells that the job stores nothing, and is only there for what a lane does
	// before it stores anything.
	settles bool

	entry   ledger.Entry
	existed bool
	tries   int
	done    chan error
}

// size is how many entries the job comes to.
func (j *job) size() int { return max(1, len(j.sealed)) }

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

// settleFirst finds out what has become of what was tried before, without a turn: it
// may take long. Where that is not known then, all that wait are given up.
func (l *lane) settleFirst() {
	ctx, done, ok := l.writer.turns.takeSlow()
	if !ok {
		l.giveUp(context.Background(), nil, fmt.Errorf("%w: too much waits for the part of it that has %s", ledger.ErrUnavailable, l.history))
		return
	}
	defer done()
	if err := l.settle(ctx); err != nil {
		l.giveUp(ctx, nil, err)
	}
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

// insert stores the jobs in one operation, ends those whose fate is known and
// returns the others.
//
// The server stops at the first document that it cannot store. So the entries, each
// of which is chained to the one before, are stored up to some point or not at all,
// and never with one missing.
func (l *lane) insert(ctx context.Context, batch []*job) (again []*job) {
	batch = slices.DeleteFunc(batch, (*job).isOver)
	if len(batch) == 0 {
		return nil
	}
	head, reread, err := l.head(ctx)
	if err != nil {
		l.giveUp(ctx, batch, err)
		return nil
	}
	var entries []ledger.Entry
	var taken []*job // those whose entries these are
	var ends []int   // where each of them has its last one
	for i, j := range batch {
		if at := j.wanted(); at != nil && *at > head.Sequence && !reread && len(entries) == 0 {
			// Others may have brought the history to where it is wanted.
			reread = true
			if head, err = l.reread(ctx); err != nil {
				l.giveUp(ctx, batch[i:], err)
				return nil
			}
		}
		sealed, err := j.seal(head)
		if err != nil {
			j.done <- err
			continue
		}
		entries = append(entries, sealed...)
		head = entries[len(entries)-1].Head()
		taken, ends = append(taken, j), append(ends, len(entries))
	}
	if len(entries) == 0 {
		return nil
	}
	numbers := l.writer.series.take(len(entries))
	docs := make([]entryDoc, len(entries))
	for i, e := range entries {
		docs[i] = document(e, markOf(l.writer.id, numbers[i]))
	}
	stored, err := l.writer.store.insert(ctx, docs)
	l.writer.stored(numbers[:stored])
	n, begin := 0, 0
	for n < len(taken) && ends[n] <= stored {
		taken[n].done <- nil
		begin = ends[n]
		n++
	}
	if err == nil {
		l.writer.heads.note(l.history, head)
		if !reread {
			l.writer.heads.turnedOut(false)
		}
		return nil
	}
	l.writer.heads.forget(l.history)
	rest := taken[n:]
	switch {
	case isTaken(err) && len(rest) > 0:
		if !reread {
			l.writer.heads.turnedOut(true)
		}
		// Of entries that are stored as they are, the first few may be there.
		rest[0].sealed = rest[0].sealed[min(stored-begin, len(rest[0].sealed)):]
		return l.resolve(ctx, docs[stored], numbers[stored:], rest)
	case isFinal(err) && len(rest) > 0:
		// It is not stored, and those behind it were not tried.
		l.writer.series.giveBack(numbers[stored:]...)
		fail(ctx, rest[:1], err)
		return rest[1:]
	}
	l.mu.Lock()
	l.unsure = append(l.unsure, docs[stored:]...)
	l.mu.Unlock()
	l.giveUp(ctx, rest, err)
	return nil
}

// isTaken reports whether an insert was refused because of a place or an id that
// another entry has.
func isTaken(err error) bool { return mongo.IsDuplicateKeyError(err) && !hasWriteConcernError(err) }

// head returns the newest entry of the history, and whether it was read just now.
func (l *lane) head(ctx context.Context) (head ledger.Head, reread bool, err error) {
	head, known, doubtful := l.writer.heads.get(l.history)
	if known && !doubtful {
		return head, false, nil
	}
	newer, err := l.writer.store.readHead(ctx, l.history, head.Sequence)
	if err != nil {
		return head, false, err
	}
	if known {
		l.writer.heads.turnedOut(newer.Sequence > 0)
	}
	if newer.Sequence > 0 {
		head = newer
	}
	l.writer.heads.note(l.history, head)
	return head, true, nil
}

// reread reads the head again, whatever is known.
func (l *lane) reread(ctx context.Context) (ledger.Head, error) {
	l.writer.heads.forget(l.history)
	head, _, err := l.head(ctx)
	return head, err
}

// wanted returns the sequence after which alone the job's entries may be stored; nil
// for any.
func (j *job) wanted() *ledger.Sequence {
	if len(j.sealed) > 0 {
		before := j.sealed[0].Sequence - 1
		return &before
	}
	return j.after
}

// seal returns the entries that the job comes to after the head.
func (j *job) seal(head ledger.Head) ([]ledger.Entry, error) {
	if at := j.wanted(); at != nil && head.Sequence != *at {
		return nil, fmt.Errorf("%w: %s is at %d, not at %d", ledger.ErrMoved, j.history(), head.Sequence, *at)
	}
	if len(j.sealed) > 0 {
		return j.sealed, nil
	}
	j.entry = head.Seal(j.draft)
	return []ledger.Entry{j.entry}, nil
}

// isOver ends the job where its caller has left, or where it stores nothing, and
// reports that.
func (j *job) isOver() bool {
	err := j.ctx.Err()
	over := err != nil || j.settles
	if over {
		j.done <- err
	}
	return over
}

// history is that of what the job stores.
func (j *job) history() ledger.History {
	if len(j.sealed) > 0 {
		return j.sealed[0].History
	}
	return j.draft.History
}

// resolve finds out why the place or the id of the first job's entry is taken, which
// may end that job. It returns the jobs that are to be stored still.
func (l *lane) resolve(ctx context.Context, doc entryDoc, numbers []int64, rest []*job) (again []*job) {
	j := rest[0]
	there, err := l.writer.store.at(ctx, doc)
	if err != nil {
		// That nothing of it is stored is known, all the same.
		l.writer.series.giveBack(numbers...)
		l.giveUp(ctx, rest, err)
		return nil
	}
	if there.place == doc.Mark {
		// A reply was lost on the way, and the driver sent it again.
		l.writer.stored(numbers[:1])
		l.writer.series.giveBack(numbers[1:]...)
		if len(j.sealed) > 1 {
			j.sealed = j.sealed[1:]
			return rest
		}
		j.done <- nil
		return rest[1:]
	}
	l.writer.series.giveBack(numbers...)
	switch {
	case j.wanted() != nil:
		j.done <- fmt.Errorf("%w: %s has another entry with that sequence or id", ledger.ErrMoved, l.history)
	case there.sameID != nil:
		j.entry, j.existed = *there.sameID, true
		j.done <- nil
	case j.tries == maxTries:
		fail(ctx, rest[:1], fmt.Errorf("%w: other servers write to %s all the time", ledger.ErrUnavailable, l.history))
	default:
		j.tries++
		if there.place == "" {
			// What it collides with is with no majority yet.
			waitFor(ctx, time.Duration(j.tries)*tryAgainAfter)
		}
		return rest
	}
	return rest[1:]
}

func waitFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// A collision is what a majority has in the way of a document.
type collision struct {
	place  string        // the mark of the entry at its place; empty for none
	sameID *ledger.Entry // the entry with its id; nil for none
}

// at finds what is in the way of a document.
func (s *Store) at(ctx context.Context, doc entryDoc) (c collision, err error) {
	cursor, err := s.entries.Find(ctx, bson.D{is("history", doc.History), is("$or", bson.A{
		bson.D{is("sequence", doc.Sequence)}, bson.D{is("id", doc.ID)},
	})}, options.Find().SetBatchSize(maxBatch))
	if err != nil {
		return c, err
	}
	var docs []entryDoc
	if err := cursor.All(ctx, &docs); err != nil {
		return c, err
	}
	for _, d := range docs {
		if d.Sequence == doc.Sequence {
			c.place = d.Mark
		}
		if d.ID == doc.ID {
			e, err := d.entry()
			if err != nil {
				return c, err
			}
			c.sameID = &e
		}
	}
	return c, nil
}

// settle finds out what has become of the documents that may or may not be stored,
// by storing them once more: then each is there, or its place is taken and it will
// never be. That is the only way to know, since what was sent may still arrive. It
// is done before anything else of the history is stored.
func (l *lane) settle(ctx context.Context) error {
	broken := false
	for len(l.unsure) > 0 {
		doc := l.unsure[0]
		_, n, err := readMark(doc.Mark)
		if err != nil {
			return err
		}
		// What follows from an entry that is not there can never be stored either.
		if !broken {
			stored, err := l.writer.store.isStored(ctx, doc)
			if err != nil {
				return err
			}
			broken = !stored
		}
		if broken {
			l.writer.series.giveBack(n)
		} else {
			l.writer.stored([]int64{n})
		}
		l.mu.Lock()
		l.unsure = l.unsure[1:]
		l.mu.Unlock()
		l.writer.heads.forget(l.history)
	}
	return nil
}

// isStored stores a document unless it is stored already, or its place or id is
// taken by another. The error is ledger.ErrUnavailable as long as a majority has
// neither.
func (s *Store) isStored(ctx context.Context, doc entryDoc) (bool, error) {
	_, err := s.entries.InsertOne(ctx, doc)
	if err == nil {
		return true, nil
	}
	if !isTaken(err) {
		return false, err
	}
	there, err := s.at(ctx, doc)
	if err == nil && there.place == "" && there.sameID == nil {
		err = fmt.Errorf("%w: no majority has entry %d of %s yet", ledger.ErrUnavailable, doc.Sequence, doc.History)
	}
	return err == nil && there.place == doc.Mark, err
}

// insert stores documents in their order and returns how many of them are known
// to be stored. Where there are others, the error says why; that of a place or
// an id that is taken is the driver's, and the document behind those stored is
// the one that it is about.
func (s *Store) insert(ctx context.Context, docs []entryDoc) (stored int, err error) {
	_, err = s.entries.InsertMany(ctx, docs, options.InsertMany().SetOrdered(true))
	if err == nil {
		return len(docs), nil
	}
	var many mongo.BulkWriteException
	if errors.As(err, &many) && many.WriteConcernError == nil && len(many.WriteErrors) > 0 {
		return many.WriteErrors[0].Index, err
	}
	return 0, err
}
