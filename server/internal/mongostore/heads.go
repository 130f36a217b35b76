package mongostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

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

// readHead reads the head of a history that is known to have an entry with the
// sequence after; it is that of nothing where none came later.
func (s *Store) readHead(ctx context.Context, h ledger.History, after ledger.Sequence) (ledger.Head, error) {
	filter := bson.D{is("history", string(h))}
	if after > 0 {
		filter = append(filter, is("sequence", bson.D{{Key: "$gt", Value: int64(after)}}))
	}
	var doc struct {
		Sequence int64  `bson:"sequence"`
		Time     int64  `bson:"time"`
		Hash     []byte `bson:"hash"`
	}
	err := s.entries.FindOne(ctx, filter, options.FindOne().SetSort(newestFirst).SetProjection(bson.D{
		is("_id", 0), is("sequence", 1), is("time", 1), is("hash", 1),
	})).Decode(&doc)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return ledger.Head{}, nil
	}
	if err != nil {
		return ledger.Head{}, err
	}
	head := ledger.Head{Sequence: ledger.Sequence(doc.Sequence), Time: time.Unix(0, doc.Time).UTC()}
	if copy(head.Hash[:], doc.Hash) != len(head.Hash) || len(doc.Hash) != len(head.Hash) {
		return ledger.Head{}, fmt.Errorf("%w: %s at sequence %d: its hash has %d bytes", ledger.ErrBroken, h, doc.Sequence, len(doc.Hash))
	}
	return head, nil
}

// Heads implements ledger.Store. It goes from one history to the next, since
// that is a step in the index, and grouping all entries would read all of it.
func (s *Store) Heads(ctx context.Context, each func(ledger.History, ledger.Head) error) error {
	for after := ""; ; {
		var next struct {
			History string `bson:"history"`
		}
		var newest []ledger.Entry
		err := s.do(ctx, func(ctx context.Context) error {
			err := s.entries.FindOne(ctx, bson.D{is("history", bson.D{{Key: "$gt", Value: after}})},
				options.FindOne().SetSort(bson.D{{Key: "history", Value: 1}, {Key: "sequence", Value: 1}}).
					SetProjection(bson.D{{Key: "_id", Value: 0}, {Key: "history", Value: 1}})).Decode(&next)
			if err != nil {
				return err
			}
			newest, err = s.newest(ctx, ledger.History(next.History), 0, 1)
			return err
		})
		if errors.Is(err, mongo.ErrNoDocuments) {
			return nil
		}
		if err != nil {
			return err
		}
		after = next.History
		if err := each(newest[0].History, newest[0].Head()); err != nil {
			return err
		}
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
