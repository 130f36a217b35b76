package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"xuncha/ledger"
)

// maxHeads bounds the memory of heads; past it they are read again.
const maxHeads = 250_000

const (
	// staleWeight is how much one head counts in the share of those that are stale, and
	// manyStale the share from which on each is read again before it is built on. To
	// build on a stale one costs a round of the majority, and to read it again a reply
	// of the primary, which is some twenty times less.
	staleWeight = 0.02
	manyStale   = 0.03
)

// The heads are the newest entries of histories, as far as this server knows: by what
// it stored or read last, and by the feed. Other servers may be ahead of that: the
// index tells, and the head is read again.
type heads struct {
	mu    sync.Mutex
	known map[ledger.History]ledger.Head
	// stale is about which share of the heads turned out to be stale lately.
	stale float64
}

func newHeads() *heads { return &heads{known: map[ledger.History]ledger.Head{}} }

// note takes down a head, unless a newer one is known.
func (h *heads) note(of ledger.History, head ledger.Head) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if head.Sequence < h.known[of].Sequence {
		return
	}
	if len(h.known) >= maxHeads {
		clear(h.known)
	}
	h.known[of] = head
}

// forget gives up what is known of a head.
func (h *heads) forget(of ledger.History) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.known, of)
}

// get returns what is known of a head, and whether it is worth reading it again before
// anything is built on it.
func (h *heads) get(of ledger.History) (head ledger.Head, known, doubtful bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	head, known = h.known[of]
	return head, known, h.stale > manyStale
}

// turnedOut says whether a head that was known turned out to be stale.
func (h *heads) turnedOut(stale bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale *= 1 - staleWeight
	if stale {
		h.stale += staleWeight
	}
}

// maxOdd is behind how many entries that somebody has changed a head is looked for.
const maxOdd = 100

// readHead reads the head of a history that is known to have an entry with the
// sequence after; it is that of nothing where none came later. The error is a
// *ledger.AlteredError where the newest entry is not what its record says, so that nobody
// can tell what would follow from it.
func (s *Store) readHead(ctx context.Context, h ledger.History, after ledger.Sequence) (ledger.Head, error) {
	filter := bson.D{is("history", string(h))}
	if after > 0 {
		filter = append(filter, is("sequence", bson.D{{Key: "$gt", Value: int64(after)}}))
	}
	var doc entryDoc
	err := s.entries.FindOne(ctx, filter, options.FindOne().SetSort(newestFirst)).Decode(&doc)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return ledger.Head{}, nil
	}
	if err != nil {
		return ledger.Head{}, err
	}
	if e := doc.entry(); e.Whole() && e.Hash != (ledger.Hash{}) {
		return e.Head(), nil
	}
	list, err := s.find(ctx, bson.D{is("history", string(h))}, newestFirst, maxOdd)
	if err != nil {
		return ledger.Head{}, err
	}
	// A repair may have come after one that somebody has moved.
	used := ledger.Sequence(0)
	for _, e := range list {
		if e.Whole() && e.Hash != (ledger.Hash{}) {
			switch {
			case e.Sequence >= used && e.Sequence > after:
				return e.Head(), nil
			case e.Sequence >= used:
				return ledger.Head{}, nil
			}
			break
		}
		if read, err := ledger.Parse(e.Record); err == nil && read.History == h {
			used = max(used, read.Sequence)
		} else {
			used = max(used, e.Sequence)
		}
	}
	return ledger.Head{}, &ledger.AlteredError{Fault: ledger.Fault{
		History: h, Sequence: max(1, used), Why: "its record is not what is stored beside it, and it is the newest",
	}}
}

// headFields are the fields of a document that a head is made of.
var headFields = bson.D{is("_id", 0), is("history", 1), is("sequence", 1), is("time", 1), is("hash", 1)}

// headSplits part the names of histories into ranges of about the same size: the ids of
// sites are random.
var headSplits = func() (at []string) {
	for c := range 16 {
		at = append(at, fmt.Sprintf("site/%x", c))
	}
	return append(at, "site/g")
}()

// headReaders is how many ranges are read at once.
const headReaders = 8

// A namedHead is a history with its newest entry.
type namedHead struct {
	history ledger.History
	head    ledger.Head
}

// Heads implements ledger.Store. In each range of names it goes from one history to the
// one before, since that is a step in the index, and grouping all entries would read all
// of them.
func (s *Store) Heads(ctx context.Context, each func(ledger.History, ledger.Head) error) error {
	ranges := make([][]namedHead, len(headSplits)+1)
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(headReaders)
	for i := range ranges {
		group.Go(func() (err error) {
			name := bson.D{}
			if i > 0 {
				name = append(name, is("$gte", headSplits[i-1]))
			}
			if i < len(headSplits) {
				name = append(name, is("$lt", headSplits[i]))
			}
			ranges[i], err = s.headsDown(inner, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return translate(ctx, err)
	}
	for _, list := range ranges {
		for _, h := range slices.Backward(list) {
			if err := each(h.history, h.head); err != nil {
				return err
			}
		}
	}
	return nil
}

// headsDown returns the heads of the histories with names in a range, the last name first.
func (s *Store) headsDown(ctx context.Context, name bson.D) (out []namedHead, err error) {
	for {
		var doc entryDoc
		err := s.do(ctx, func(ctx context.Context) error {
			return s.entries.FindOne(ctx, bson.D{is("history", name)}, options.FindOne().
				SetSort(bson.D{is("history", -1), is("sequence", -1)}).SetProjection(headFields)).Decode(&doc)
		})
		if errors.Is(err, mongo.ErrNoDocuments) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, namedHead{ledger.History(doc.History), doc.entry().Head()})
		name = slices.DeleteFunc(slices.Clone(name), func(e bson.E) bool { return e.Key == "$lt" })
		name = append(name, is("$lt", doc.History))
	}
}

// CountEntries returns about how many entries there are. The database keeps count, and
// counts none of them for that.
func (s *Store) CountEntries(ctx context.Context) (n int64, err error) {
	err = s.do(ctx, func(ctx context.Context) error {
		n, err = s.entries.EstimatedDocumentCount(ctx)
		return err
	})
	return n, err
}
