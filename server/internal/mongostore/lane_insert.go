package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	var altered *ledger.AlteredError
	if errors.As(err, &altered) && !slices.ContainsFunc(batch, func(j *job) bool { return !j.asIs }) {
		err = nil // what is stored as it is follows from nothing
	}
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
	n := 0
	for n < len(taken) && ends[n] <= stored {
		taken[n].done <- nil
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
		return l.resolve(ctx, docs[stored:], numbers[stored:], rest)
	case isFinal(err) && len(rest) > 0:
		// It is not stored, and those behind it were not tried.
		l.writer.series.giveBack(numbers[stored:]...)
		fail(ctx, rest[:1], err)
		return rest[1:]
	}
	l.doubt(ctx, docs[stored:], rest, err)
	return nil
}

// doubt gives the jobs up whose documents may or may not be stored.
func (l *lane) doubt(ctx context.Context, docs []entryDoc, jobs []*job, err error) {
	l.mu.Lock()
	l.unsure = append(l.unsure, docs...)
	l.mu.Unlock()
	l.giveUp(ctx, jobs, err)
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

// resolve finds out why the place or the id of the first job's entry is taken, which
// may end that job. It returns the jobs that are to be stored still.
func (l *lane) resolve(ctx context.Context, docs []entryDoc, numbers []int64, rest []*job) (again []*job) {
	j := rest[0]
	there, err := l.writer.store.at(ctx, docs[0])
	if err == nil && there.place == docs[0].Mark {
		// A reply was lost on the way, and the insert was sent again.
		err = fmt.Errorf("%w: it is not known yet how much of an insert into %s is stored", ledger.ErrUnavailable, l.history)
	}
	if err != nil {
		l.doubt(ctx, docs, rest, err)
		return nil
	}
	l.writer.series.giveBack(numbers...)
	switch {
	case j.wanted() != nil || j.asIs:
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
			e := d.entry()
			c.sameID = &e
		}
	}
	return c, nil
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
