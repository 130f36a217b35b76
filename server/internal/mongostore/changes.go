package mongostore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/inspections"
	"xuncha/ledger"
)

const (
	// settled is how long after an entry was seen those that the same server
	// stored before it are waited for: longer than an operation may take.
	settled = 3 * opTimeout
	// quiet is how long a server is asked about that does not say that it is
	// there. It says so before it writes again.
	quiet = 10 * time.Minute
	// gone is how long a server that is new to us must have said nothing, by its
	// clock and ours, not to be asked about until it does. Most of those that
	// are listed ended when they were started anew.
	gone = time.Hour
	// overlap is how many of a server's newest entries are passed once more to
	// whoever begins to follow: as many as it can have on the way.
	overlap = 2 * maxBatch
)

// A feed is what a store was given since it is followed. Each server numbers
// what it stores, so what is new of one lies behind the last number that was
// seen, whatever the clocks say. A number may be missing for a while, because
// a shard is slower than another, or for ever, because it was not stored.
type feed struct {
	store   *Store
	writers map[string]*followed
}

// A followed is one server's part of the feed.
type followed struct {
	// done is the number up to which all is known.
	done int64
	// seen are the numbers after done that were passed, with the time at which
	// they were first seen.
	seen map[int64]time.Time
	// said is what the server said last, and at the time of heard it was new.
	said  int64
	heard time.Time
}

// Changes implements inspections.SharedStore.
func (s *Store) Changes(ctx context.Context) (inspections.Changes, error) {
	f := &feed{store: s, writers: map[string]*followed{}}
	err := s.do(ctx, func(ctx context.Context) error {
		now := time.Now()
		if err := f.listen(ctx, now); err != nil {
			return err
		}
		for id, w := range f.writers {
			if w.heard.IsZero() {
				continue // should it come back, all of its entries are passed
			}
			var newest struct {
				Mark string `bson:"_id"`
			}
			err := s.entries.FindOne(ctx, marksAfter(id, 0), options.FindOne().SetSort(bson.D{{Key: "_id", Value: -1}}).
				SetProjection(bson.D{{Key: "_id", Value: 1}})).Decode(&newest)
			if errors.Is(err, mongo.ErrNoDocuments) {
				continue
			}
			if err != nil {
				return err
			}
			n, err := numberOf(newest.Mark)
			if err != nil {
				return err
			}
			w.done = max(0, n-overlap)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// listen hears which servers there are.
func (f *feed) listen(ctx context.Context, now time.Time) error {
	cursor, err := f.store.writers.Find(ctx, bson.D{})
	if err != nil {
		return err
	}
	var docs []writerDoc
	if err := cursor.All(ctx, &docs); err != nil {
		return err
	}
	for _, d := range docs {
		w := f.writers[d.ID]
		if w == nil {
			w = &followed{seen: map[int64]time.Time{}}
			f.writers[d.ID] = w
			if now.Sub(time.Unix(0, d.Seen)) > gone {
				w.said = d.Seen
			}
		}
		if w.said != d.Seen {
			w.said, w.heard = d.Seen, now
		}
	}
	return nil
}

// Next implements inspections.Changes.
func (f *feed) Next(ctx context.Context, each func(ledger.Entry) error) error {
	leave, err := f.store.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	now := time.Now()
	if err := f.store.within(ctx, func(ctx context.Context) error { return f.listen(ctx, now) }); err != nil {
		return translate(ctx, err)
	}
	for id, w := range f.writers {
		if now.Sub(w.heard) > quiet {
			continue
		}
		if err := f.follow(ctx, id, w, now, each); err != nil {
			return translate(ctx, err)
		}
	}
	return nil
}

// follow passes what is new of one server.
func (f *feed) follow(ctx context.Context, id string, w *followed, now time.Time, each func(ledger.Entry) error) error {
	inner, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	passed := make([]int64, 0, len(w.seen))
	for n := range w.seen {
		passed = append(passed, n)
	}
	cursor, err := f.store.entries.Find(inner, marksAfter(id, w.done, passed...), options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetBatchSize(replayBatch))
	if err != nil {
		return err
	}
	defer func() { _ = cursor.Close(context.WithoutCancel(ctx)) }() // the server closes what is left open
	for cursor.Next(inner) {
		var doc entryDoc
		if err := cursor.Decode(&doc); err != nil {
			return err
		}
		n, err := numberOf(doc.Mark)
		if err != nil {
			return err
		}
		e, err := doc.entry()
		if err != nil {
			return err
		}
		if strings.HasPrefix(doc.History, "site/") {
			if err := each(e); err != nil {
				return err
			}
		}
		w.seen[n] = now
	}
	w.settle(now)
	return cursor.Err()
}

// settle moves done forward over the numbers that were seen, and over those
// that are missing for too long.
func (w *followed) settle(now time.Time) {
	for {
		for _, next := w.seen[w.done+1]; next; _, next = w.seen[w.done+1] {
			w.done++
			delete(w.seen, w.done)
		}
		var late []int64
		for n, at := range w.seen {
			if now.Sub(at) > settled {
				late = append(late, n)
			}
		}
		if len(late) == 0 {
			return
		}
		w.done = slices.Min(late) - 1
	}
}

// marksAfter lets the entries of a writer through whose number is greater than n
// and none of the others.
func marksAfter(writer string, n int64, but ...int64) bson.D {
	// '0' comes after '/' in ASCII.
	marks := bson.D{{Key: "$gt", Value: markOf(writer, n)}, {Key: "$lt", Value: writer + "0"}}
	if len(but) > 0 {
		none := make(bson.A, len(but))
		for i, n := range but {
			none[i] = markOf(writer, n)
		}
		marks = append(marks, bson.E{Key: "$nin", Value: none})
	}
	return bson.D{is("_id", marks)}
}
