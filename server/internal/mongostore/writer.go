package mongostore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
	"xuncha/server/internal/engine"
)

const (
	// maxBatch is how many entries one insert takes in: so few that the driver never
	// splits it, and that a compatible server takes it as one too.
	maxBatch = 100
	// maxHeads bounds the memory of heads; past it they are read again.
	maxHeads = 250_000
	// maxTries is how often an entry is tried again where other servers were
	// quicker, each time with the head read anew.
	maxTries = 100

	// beat is how often a server that writes says that it is there, and asleep how
	// long it may not have said so until it must before it writes again: servers of
	// earlier versions look for entries of those alone that said so lately.
	beat   = 15 * time.Second
	asleep = 2 * time.Minute
	// forgetAfter is when a server of an earlier version that is not there any more
	// is forgotten. Its entries are found all the same by who reads everything.
	forgetAfter = 30 * 24 * time.Hour
)

// A writer gathers what is waiting and stores it in one insert at a time, each
// entry with a number of its own. It knows the heads of histories by what it wrote
// or read last. Other servers may be ahead of that: the index tells, and the head
// is read again.
type writer struct {
	store *Store
	id    string
	queue *engine.Queue[*job]
	// stopTelling ends keepTelling, which telling waits for.
	stopTelling context.CancelFunc
	telling     sync.WaitGroup

	// seen is when other servers were last told that this one is there.
	seen atomic.Int64

	// Of the queue's goroutine alone: the heads, the last number that was given, and
	// the documents of which it is not known whether they are stored.
	heads  map[ledger.History]ledger.Head
	mark   int64
	unsure []any
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

	entry   ledger.Entry
	existed bool
	tries   int
	done    chan error
}

// history is that of what the job stores.
func (j *job) history() ledger.History {
	if len(j.sealed) > 0 {
		return j.sealed[0].History
	}
	return j.draft.History
}

// newWriter returns a writer that does nothing by itself yet. Other servers know it
// once it is about to store something.
func newWriter(s *Store, id string) *writer {
	return &writer{store: s, id: id, queue: engine.NewQueue[*job](maxBatch), heads: map[ledger.History]ledger.Head{}}
}

func startWriter(ctx context.Context, s *Store, id string) (*writer, error) {
	w := newWriter(s, id)
	old := time.Now().Add(-forgetAfter).UnixNano()
	err := s.timed(ctx, func(ctx context.Context) error {
		_, err := s.writers.DeleteMany(ctx, bson.D{is("one", bson.D{{Key: "$ne", Value: true}}), is("seen", below(old))})
		return err
	})
	if err != nil {
		return nil, err
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.stopTelling = cancel
	w.telling.Go(func() { w.keepTelling(background) })
	go w.queue.Run(func(batch []*job) { w.work(context.WithoutCancel(ctx), batch) })
	return w, nil
}

// stop lets the writer end. No other call may be under way.
func (w *writer) stop() {
	w.stopTelling()
	w.telling.Wait()
	w.queue.Close()
	if w.seen.Load() == 0 {
		return
	}
	// Where this fails, others only go on asking for what never comes.
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	if w.settle(ctx) == nil {
		_ = w.tell(ctx, is("last", w.mark))
	}
}

// tell says to other servers that this one is there, and what else it is given.
func (w *writer) tell(ctx context.Context, more ...bson.E) error {
	now := time.Now().UnixNano()
	set := append(bson.D{is("seen", now), is("one", true)}, more...)
	err := w.update(ctx, bson.D{is("$set", set)})
	if err == nil {
		w.seen.Store(now)
	}
	return err
}

// update changes what other servers are told.
func (w *writer) update(ctx context.Context, change bson.D) error {
	return w.store.timed(ctx, func(ctx context.Context) error {
		_, err := w.store.writers.UpdateOne(ctx, bson.D{is("_id", w.id)}, change, options.UpdateOne().SetUpsert(true))
		return err
	})
}

// keepTelling tells again and again, once this server has written anything, and has
// it find out what has become of what it tried to store.
func (w *writer) keepTelling(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if w.seen.Load() == 0 {
			continue
		}
		// Where either fails, it is done the next time, or before the next write. The job
		// stores nothing; before it, as before any, the writer settles.
		_ = w.tell(ctx)
		_ = w.queue.Put(ctx, &job{ctx: ctx, done: make(chan error, 1)})
	}
}

// ready makes sure that others look for what is written next.
func (w *writer) ready(ctx context.Context) error {
	if time.Since(time.Unix(0, w.seen.Load())) < asleep {
		return nil
	}
	return w.tell(ctx)
}

// do puts a job in and waits for it, or until the caller leaves, which may be while
// the entry is on its way.
func (w *writer) do(j *job) error {
	j.done = make(chan error, 1)
	if err := w.queue.Put(j.ctx, j); err != nil {
		return err
	}
	select {
	case err := <-j.done:
		return err
	case <-j.ctx.Done():
		return j.ctx.Err()
	}
}

// work stores a batch. Those jobs that another server was quicker than are tried
// again at once.
func (w *writer) work(ctx context.Context, batch []*job) {
	for left := slices.Clone(batch); len(left) > 0; {
		left = w.insert(ctx, left)
	}
	if len(w.heads) > maxHeads {
		clear(w.heads)
	}
}

// insert stores the jobs in one operation, ends those whose fate is known and
// returns the others.
//
// The server stops at the first document that it cannot store. So the entries of
// one history, each of which is chained to the one before, are stored up to some
// point or not at all, and never with one missing.
func (w *writer) insert(ctx context.Context, batch []*job) (again []*job) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	err := w.settle(ctx)
	if err == nil {
		err = w.ready(ctx)
	}
	if err != nil {
		w.fail(ctx, batch, err)
		return nil
	}
	var docs []any
	before := map[ledger.History]ledger.Head{} // as they are stored
	var taken []*job                           // those whose documents are among docs
	var ends []int                             // where each of them has its last one
	for i, j := range batch {
		if len(docs) > 0 && len(docs)+max(1, len(j.sealed)) > maxBatch {
			again = append(again, batch[i:]...)
			break
		}
		entries, err := w.seal(ctx, j)
		if err != nil {
			if !errors.Is(err, ledger.ErrMoved) && j.ctx.Err() == nil {
				// The others would wait for the same in vain. Nothing was sent, so what was
				// read of the heads holds, and the next batch need not read it again.
				maps.Copy(w.heads, before)
				w.fail(ctx, append(taken, batch[i:]...), err)
				return nil
			}
			j.done <- err
			continue
		}
		if len(entries) == 0 {
			j.done <- nil
			continue
		}
		if _, again := before[j.history()]; !again {
			before[j.history()] = w.heads[j.history()]
		}
		for _, e := range entries {
			docs = append(docs, document(e, markOf(w.id, w.mark+int64(len(docs))+1)))
			w.heads[e.History] = e.Head()
		}
		taken, ends = append(taken, j), append(ends, len(docs))
	}
	if len(docs) == 0 {
		return again
	}
	stored, err := w.store.insert(ctx, docs)
	n := 0
	for n < len(taken) && ends[n] <= stored {
		taken[n].done <- nil
		n++
	}
	w.mark += int64(stored)
	rest := taken[n:]
	w.forget(rest)
	switch {
	case err == nil:
		return again
	case mongo.IsDuplicateKeyError(err) && !hasWriteConcernError(err) && len(rest) > 0:
		if w.resolve(ctx, rest[0]) {
			rest = rest[1:]
		}
		return append(rest, again...)
	}
	if isFinal(err) && len(rest) > 0 {
		// It is not stored, and those behind it were not tried.
		w.fail(ctx, rest[:1], err)
		return append(rest[1:], again...)
	}
	// Whether they are stored is not known, and their numbers are not given again.
	w.mark += int64(len(docs) - stored)
	w.unsure = append(w.unsure, docs[stored:]...)
	w.fail(ctx, append(rest, again...), err)
	return nil
}

// seal returns the entries that a job comes to, after the head that is known.
func (w *writer) seal(ctx context.Context, j *job) ([]ledger.Entry, error) {
	if err := j.ctx.Err(); err != nil {
		return nil, err
	}
	h := j.history()
	if h == "" {
		return nil, nil // it is only there so that something is settled
	}
	head, err := w.head(ctx, h)
	if err != nil {
		return nil, err
	}
	at := j.after
	if len(j.sealed) > 0 {
		before := j.sealed[0].Sequence - 1
		at = &before
	}
	if at != nil && head.Sequence < *at {
		// Others may have brought the history to where it is wanted.
		delete(w.heads, h)
		if head, err = w.head(ctx, h); err != nil {
			return nil, err
		}
	}
	if at != nil && head.Sequence != *at {
		return nil, fmt.Errorf("%w: %s is at %d, not at %d", ledger.ErrMoved, h, head.Sequence, *at)
	}
	if len(j.sealed) > 0 {
		return j.sealed, nil
	}
	j.entry = head.Seal(j.draft)
	return []ledger.Entry{j.entry}, nil
}

// settle finds out what has become of the documents that may or may not be stored,
// by storing them once more: then each is there, or its place is taken and it will
// never be. That is the only way to know, since what was sent may still arrive. It
// is done before anything else is stored, so that no number is missing for long.
func (w *writer) settle(ctx context.Context) error {
	if len(w.unsure) == 0 {
		return nil
	}
	broken := map[string]bool{}
	for len(w.unsure) > 0 {
		doc := w.unsure[0].(entryDoc)
		_, n, err := readMark(doc.Mark)
		if err != nil {
			return err
		}
		if !broken[doc.History] {
			stored, err := w.isStored(ctx, doc)
			if err != nil {
				return err
			}
			// What follows from an entry that is not there can never be stored either.
			broken[doc.History] = !stored
		}
		if broken[doc.History] {
			if err := w.update(ctx, bson.D{is("$addToSet", bson.D{is("void", n)})}); err != nil {
				return err
			}
		}
		w.unsure = w.unsure[1:]
		delete(w.heads, ledger.History(doc.History))
	}
	w.unsure = nil
	return nil
}

// isStored stores a document unless it is stored already, or its place or id is
// taken by another. The error is ledger.ErrUnavailable as long as a majority has
// neither.
func (w *writer) isStored(ctx context.Context, doc entryDoc) (bool, error) {
	_, err := w.store.entries.InsertOne(ctx, doc)
	if err == nil {
		return true, nil
	}
	if !mongo.IsDuplicateKeyError(err) || hasWriteConcernError(err) {
		return false, err
	}
	var there struct {
		Mark string `bson:"_id"`
	}
	err = w.store.entries.FindOne(ctx, bson.D{is("history", doc.History), is("$or", bson.A{
		bson.D{is("sequence", doc.Sequence)}, bson.D{is("id", doc.ID)},
	})}, options.FindOne().SetProjection(bson.D{is("_id", 1)})).Decode(&there)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, fmt.Errorf("%w: no majority has entry %d of %s yet", ledger.ErrUnavailable, doc.Sequence, doc.History)
	}
	return there.Mark == doc.Mark, err
}

// forget gives up what is known of the heads of the jobs' histories: they are
// not what was sealed.
func (w *writer) forget(jobs []*job) {
	for _, j := range jobs {
		delete(w.heads, j.history())
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
	if j.after != nil || len(j.sealed) > 0 {
		j.done <- fmt.Errorf("%w: %s has another entry with that sequence or id", ledger.ErrMoved, j.history())
		return true
	}
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
	if err != nil {
		return ledger.Head{}, err
	}
	var head ledger.Head
	if len(newest) > 0 {
		head = newest[0].Head()
	}
	w.heads[h] = head
	return head, nil
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

// readMark reads what markOf has written.
func readMark(mark string) (writer string, n int64, err error) {
	writer, digits, ok := strings.Cut(mark, "/")
	n, err = strconv.ParseInt(digits, 16, 64)
	if !ok || err != nil {
		return "", 0, fmt.Errorf("%w: an entry has the mark %q, which is none", ledger.ErrBroken, mark)
	}
	return writer, n, nil
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

// Append implements ledger.Store.
func (s *Store) Append(ctx context.Context, d ledger.Draft) (ledger.Entry, bool, error) {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return ledger.Entry{}, false, err
	}
	defer leave()
	d.Content = bytes.Clone(d.Content) // the caller may leave, and use it again
	j := &job{ctx: ctx, draft: d}
	if err := s.writer.do(j); err != nil {
		return ledger.Entry{}, false, err
	}
	return j.entry, j.existed, nil
}

// AppendAfter implements ledger.Store.
func (s *Store) AppendAfter(ctx context.Context, after ledger.Sequence, d ledger.Draft) (ledger.Entry, error) {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return ledger.Entry{}, err
	}
	defer leave()
	d.Content = bytes.Clone(d.Content)
	j := &job{ctx: ctx, draft: d, after: &after}
	if err := s.writer.do(j); err != nil {
		return ledger.Entry{}, err
	}
	return j.entry, nil
}

// Put implements ledger.Store.
func (s *Store) Put(ctx context.Context, entries []ledger.Entry) error {
	leave, err := s.gate.Enter(ctx)
	if err != nil || len(entries) == 0 {
		return err
	}
	defer leave()
	// All of them are checked before any is stored.
	var newest []ledger.Entry
	err = s.timed(ctx, func(ctx context.Context) (err error) {
		newest, err = s.newest(ctx, entries[0].History, 0, 1)
		return err
	})
	if err != nil {
		return translate(ctx, err)
	}
	var head ledger.Head
	if len(newest) > 0 {
		head = newest[0].Head()
	}
	if entries[0].Sequence != head.Sequence+1 {
		return fmt.Errorf("%w: %s is at %d, not at %d", ledger.ErrMoved, entries[0].History, head.Sequence, entries[0].Sequence-1)
	}
	for _, e := range entries {
		if head, err = head.Follow(e); err != nil {
			return err
		}
	}
	entries = slices.Clone(entries)
	for i := range entries {
		entries[i].Record = bytes.Clone(entries[i].Record)
	}
	for part := range slices.Chunk(entries, maxBatch) {
		if err := s.writer.do(&job{ctx: ctx, sealed: part}); err != nil {
			return err
		}
	}
	return nil
}
