package mongostore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
)

const (
	// maxBatch is how many waiting entries one insert takes in: so few that the
	// driver never splits it, and that a compatible server takes it as one too.
	maxBatch = 100
	// maxHeads bounds the memory of heads; past it they are read again.
	maxHeads = 250_000
	// maxTries is how often an entry is tried again where other servers were
	// quicker, each time with the head read anew.
	maxTries = 100

	// beat is how often a server says that it is there, and asleep how long it
	// may not have been until it must say so before it writes again: others
	// look for entries of those alone that said so lately.
	beat   = 15 * time.Second
	asleep = 2 * time.Minute
	// forgetAfter is when a server that is not there any more is forgotten.
	forgetAfter = 30 * 24 * time.Hour
)

// A writer gathers what is waiting and stores it in one insert at a time. It
// knows the heads of histories by what it wrote or read last. Other servers
// may be ahead of that: the index tells, and the head is read again.
type writer struct {
	store  *Store
	id     string
	jobs   chan *job
	ended  sync.WaitGroup
	cancel context.CancelFunc

	// Of the loop alone: the heads, and how many entries were stored, or perhaps
	// were.
	heads map[ledger.History]ledger.Head
	mark  int64

	puts atomic.Int64 // how many entries were stored by others than the loop
	seen atomic.Int64 // when other servers were last told that we are there
}

// A job is one entry on its way.
type job struct {
	ctx     context.Context
	draft   ledger.Draft
	entry   ledger.Entry
	existed bool
	tries   int
	done    chan error
}

// newWriter returns a writer of which the others are told and that does nothing
// by itself yet.
func newWriter(ctx context.Context, s *Store, id string) (*writer, error) {
	w := &writer{store: s, id: id, jobs: make(chan *job, maxBatch), heads: map[ledger.History]ledger.Head{}}
	return w, w.tell(ctx)
}

func startWriter(ctx context.Context, s *Store, id string) (*writer, error) {
	w, err := newWriter(ctx, s, id)
	if err != nil {
		return nil, err
	}
	old := time.Now().Add(-forgetAfter).UnixNano()
	err = s.within(ctx, func(ctx context.Context) error {
		_, err := s.writers.DeleteMany(ctx, bson.D{{Key: "seen", Value: bson.D{{Key: "$lt", Value: old}}}})
		return err
	})
	if err != nil {
		return nil, err
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.cancel = cancel
	w.ended.Go(func() { w.loop(background) })
	w.ended.Go(func() { w.keepTelling(background) })
	return w, nil
}

// stop lets the writer end. No other call may be under way.
func (w *writer) stop() {
	close(w.jobs)
	w.cancel()
	w.ended.Wait()
}

// tell says to other servers that this one is there.
func (w *writer) tell(ctx context.Context) error {
	now := time.Now().UnixNano()
	err := w.store.within(ctx, func(ctx context.Context) error {
		_, err := w.store.writers.UpdateOne(ctx, bson.D{{Key: "_id", Value: w.id}},
			bson.D{{Key: "$set", Value: bson.D{{Key: "seen", Value: now}}}}, options.UpdateOne().SetUpsert(true))
		return err
	})
	if err == nil {
		w.seen.Store(now)
	}
	return err
}

func (w *writer) keepTelling(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = w.tell(ctx) // the next time, or before the next write
		case <-ctx.Done():
			return
		}
	}
}

// ready makes sure that others look for what is written next.
func (w *writer) ready(ctx context.Context) error {
	if time.Since(time.Unix(0, w.seen.Load())) < asleep {
		return nil
	}
	return w.tell(ctx)
}

// append stores the draft and returns once it is with a majority.
func (w *writer) append(ctx context.Context, d ledger.Draft) (ledger.Entry, bool, error) {
	// A caller may leave while the entry is on its way.
	d.Content = bytes.Clone(d.Content)
	j := &job{ctx: ctx, draft: d, done: make(chan error, 1)}
	select {
	case w.jobs <- j:
	case <-ctx.Done():
		return ledger.Entry{}, false, ctx.Err()
	}
	select {
	case err := <-j.done:
		if err != nil {
			return ledger.Entry{}, false, err
		}
		return j.entry, j.existed, nil
	case <-ctx.Done():
		return ledger.Entry{}, false, ctx.Err()
	}
}

func (w *writer) loop(ctx context.Context) {
	for j := range w.jobs {
		batch := []*job{j}
		for waiting := len(w.jobs); waiting > 0 && len(batch) < maxBatch; waiting-- {
			batch = append(batch, <-w.jobs)
		}
		// Those that another server was quicker than are tried again at once.
		for len(batch) > 0 {
			batch = w.insert(ctx, batch)
		}
		if len(w.heads) > maxHeads {
			clear(w.heads)
		}
	}
}

// insert stores the jobs in one operation, ends those whose fate is known and
// returns the others.
//
// The server stops at the first that it cannot store. So the entries of one
// history, each of which is chained to the one before, are stored up to some
// point or not at all, and never with one missing.
func (w *writer) insert(ctx context.Context, batch []*job) (again []*job) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if err := w.ready(ctx); err != nil {
		w.fail(ctx, batch, err)
		return nil
	}
	docs := make([]any, 0, len(batch))
	sealed := batch[:0]
	for i, j := range batch {
		if err := j.ctx.Err(); err != nil {
			j.done <- err
			continue
		}
		head, err := w.head(ctx, j.draft.History)
		if err != nil {
			// The others would wait for the same in vain.
			left := append(sealed, batch[i:]...)
			w.forget(left)
			w.fail(ctx, left, err)
			return nil
		}
		j.entry = head.Seal(j.draft)
		w.heads[j.draft.History] = j.entry.Head()
		docs = append(docs, document(j.entry, markOf(w.id, w.mark+int64(len(docs))+1)))
		sealed = append(sealed, j)
	}
	if len(docs) == 0 {
		return nil
	}
	stored, err := w.store.insert(ctx, docs)
	for _, j := range sealed[:stored] {
		j.done <- nil
	}
	w.mark += int64(stored)
	rest := sealed[stored:]
	w.forget(rest)
	switch {
	case err == nil:
		return nil
	case mongo.IsDuplicateKeyError(err) && !hasWriteConcernError(err) && len(rest) > 0:
		if rest[0].tries > 1 {
			// It may be the mark that is taken, by what was thought not to be stored.
			w.mark += int64(len(rest))
		}
		if w.resolve(ctx, rest[0]) {
			rest = rest[1:]
		}
		return rest
	}
	// Whether they are stored is not known, and their marks are not used again.
	w.mark += int64(len(rest))
	w.fail(ctx, rest, err)
	return nil
}

// forget gives up what is known of the heads of the jobs' histories: they are
// not what was sealed.
func (w *writer) forget(jobs []*job) {
	for _, j := range jobs {
		delete(w.heads, j.draft.History)
	}
}

// fail ends jobs with an error that is not theirs alone.
func (w *writer) fail(ctx context.Context, jobs []*job, err error) {
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: the database took too long", ledger.ErrUnavailable)
	}
	err = translate(context.Background(), err)
	for _, j := range jobs {
		j.done <- err
	}
}

// resolve finds out why the job's place or id is taken, and reports whether
// that ends the job.
func (w *writer) resolve(ctx context.Context, j *job) (ended bool) {
	e, found, err := w.store.findID(ctx, j.draft.History, j.draft.ID)
	switch {
	case err != nil:
		w.fail(ctx, []*job{j}, err)
	case found:
		j.entry, j.existed = e, true
		j.done <- nil
	case j.tries == maxTries:
		w.fail(ctx, []*job{j}, fmt.Errorf("%w: other servers write to %s all the time", ledger.ErrUnavailable, j.draft.History))
	default:
		j.tries++
		return false
	}
	return true
}

// head returns the newest entry of a history, as far as this server knows.
func (w *writer) head(ctx context.Context, h ledger.History) (ledger.Head, error) {
	if head, ok := w.heads[h]; ok {
		return head, nil
	}
	newest, err := w.store.newest(ctx, h, 0, 1)
	if err != nil || len(newest) == 0 {
		return ledger.Head{}, err
	}
	return newest[0].Head(), nil
}

// document returns the entry as it is stored.
func document(e ledger.Entry, mark string) entryDoc {
	return entryDoc{
		Mark: mark, History: string(e.History), Sequence: int64(e.Sequence), ID: e.ID, Kind: string(e.Kind),
		Time: e.Time.UnixNano(), Account: e.Account, Hash: e.Hash[:], Record: e.Record,
	}
}

// markOf returns the mark of the nth entry of a writer; those of one writer
// have the order of their numbers.
func markOf(writer string, n int64) string { return fmt.Sprintf("%s/%016x", writer, n) }

// numberOf returns n of the mark that markOf made.
func numberOf(mark string) (int64, error) {
	_, digits, ok := strings.Cut(mark, "/")
	n, err := strconv.ParseInt(digits, 16, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("an entry has the mark %q, which is none", mark)
	}
	return n, nil
}

// insert stores documents in their order and returns how many of them are known
// to be stored. Where there are others, the error says why; that of a place or
// an id that is taken is the driver's, and the document behind those stored is
// the one that it is about.
func (s *Store) insert(ctx context.Context, docs []any) (stored int, err error) {
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

// Append implements inspections.Store.
func (s *Store) Append(ctx context.Context, d ledger.Draft) (ledger.Entry, bool, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return ledger.Entry{}, false, err
	}
	defer leave()
	return s.writer.append(ctx, d)
}
