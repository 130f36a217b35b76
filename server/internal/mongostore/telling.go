package mongostore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	// beat is how often a server that writes says that it is there, and asleep how
	// long it may not have said so until it does when it writes again: others ask
	// seldom for the entries of one that is silent.
	beat   = 15 * time.Second
	asleep = 3 * beat
	// tellEvery is how many numbers a server gives until it says how far it is, where
	// that comes before the next beat: whoever begins to read everything has to remember
	// each number behind that.
	tellEvery = 4096
)

// telling is how other servers know of a writer: by a document of its own, which is
// there once the writer is about to store something.
type telling struct {
	// id is that of the series, and of the document. It is set before told is.
	id string
	// fresh is what id becomes where a new series begins.
	fresh string
	// told is when others were last told that this server is there; nil for never.
	told atomic.Pointer[time.Time]
	// toldOf is the greatest number that others were told of.
	toldOf atomic.Int64
	// lock has one in it while somebody tells.
	lock chan struct{}
	// hurry asks for telling before the next beat.
	hurry chan struct{}

	stopBeat context.CancelFunc
	beating  sync.WaitGroup
}

// startTelling tells again and again that this server is there, once it has written
// anything, until stopTelling.
func (w *writer) startTelling() {
	ctx, cancel := context.WithCancel(context.Background())
	w.stopBeat = cancel
	w.beating.Go(func() {
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for {
			var more []bson.E
			select {
			case <-ticker.C:
				more = []bson.E{is("unsure", w.settleAll(ctx) > 0)}
			case <-w.hurry:
			case <-ctx.Done():
				return
			}
			if w.told.Load() != nil {
				_ = w.tell(ctx, more...) // where it fails, it is done the next time
			}
		}
	})
}

func (w *writer) stopTelling() {
	w.stopBeat()
	w.beating.Wait()
}

// stored says that entries are stored under the numbers.
func (w *writer) stored(numbers []int64) {
	if w.series.stored(numbers...)-w.toldOf.Load() > tellEvery {
		w.tellSoon()
	}
}

// ready makes sure that others look for what is written next. Those who have not heard of
// this server for a while do so only now and then, until they hear of it.
func (w *writer) ready(ctx context.Context) error {
	if w.told.Load() == nil {
		if err := w.takeLock(ctx); err != nil {
			return err
		}
		defer w.giveLock()
		if w.told.Load() == nil {
			return w.begin(ctx)
		}
	}
	if !w.awake() {
		w.tellSoon()
	}
	return nil
}

// takeLock takes the lock, unless the context ends before: whoever has it may wait for a
// database that does not answer.
func (w *writer) takeLock(ctx context.Context) error {
	select {
	case w.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) giveLock() { <-w.lock }

// tellSoon has others told before the next beat.
func (w *writer) tellSoon() {
	select {
	case w.hurry <- struct{}{}:
	default:
	}
}

// awake reports whether others have heard of this server lately.
func (w *writer) awake() bool {
	told := w.told.Load()
	// The one clock stands still while the machine sleeps, and the other can be set.
	now := time.Now()
	return max(now.Sub(*told), now.Round(0).Sub(told.Round(0))) < asleep
}

// begin goes on with the series of a server that has ended, or begins a new one. So
// there are not more of them than servers have ever run at once, or were killed.
func (w *writer) begin(ctx context.Context) error {
	now := time.Now()
	var doc writerDoc
	err := w.store.timed(ctx, func(ctx context.Context) error {
		return w.store.writers.FindOneAndUpdate(ctx,
			bson.D{is("last", exists), is("settled", exists)},
			bson.D{is("$set", bson.D{is("seen", now.UnixNano())}), is("$unset", bson.D{is("last", ""), is("free", ""), is("unsure", "")})},
		).Decode(&doc)
	})
	if errors.Is(err, mongo.ErrNoDocuments) {
		doc = writerDoc{ID: w.fresh, Seen: now.UnixNano(), One: true, Settled: new(position).String()}
		err = w.store.timed(ctx, func(ctx context.Context) error {
			_, err := w.store.writers.InsertOne(ctx, doc)
			if isTaken(err) {
				return nil // by an earlier try whose reply was lost
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	if doc.Last != nil {
		settled, err := readPosition(doc.Settled)
		if err != nil {
			return err
		}
		w.series.resume(*doc.Last, settled, doc.Free)
		w.toldOf.Store(settled.greatest())
	}
	w.id = doc.ID
	w.told.Store(&now)
	return nil
}

var exists = bson.D{{Key: "$exists", Value: true}}

// tell says to other servers that this one is there, how far it is, and what else it
// is given.
func (w *writer) tell(ctx context.Context, more ...bson.E) error {
	if err := w.takeLock(ctx); err != nil {
		return err
	}
	defer w.giveLock()
	now, at := time.Now(), w.series.standing()
	set := append(bson.D{is("seen", now.UnixNano()), is("one", true), is("settled", at.settled.String())}, more...)
	err := w.store.timed(ctx, func(ctx context.Context) error {
		_, err := w.store.writers.UpdateOne(ctx, bson.D{is("_id", w.id)}, bson.D{is("$set", set)}, options.UpdateOne().SetUpsert(true))
		return err
	})
	if err == nil {
		w.told.Store(&now)
		w.toldOf.Store(at.settled.greatest())
	}
	return err
}

// end tells that this server has ended. So many lanes do not know what has become of
// what they tried to store; then nobody may go on with its series.
func (w *writer) end(ctx context.Context, unsure int) error {
	if w.told.Load() == nil {
		return nil
	}
	if unsure > 0 {
		return w.tell(ctx, is("unsure", true))
	}
	at := w.series.standing()
	return w.tell(ctx, is("unsure", false), is("last", at.given), is("free", slices.Clip(at.free)))
}
