package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
)

// entry returns the entry that the document is of.
func (d *entryDoc) entry() (ledger.Entry, error) {
	e := ledger.Entry{
		History: ledger.History(d.History), Sequence: ledger.Sequence(d.Sequence), ID: d.ID, Kind: ledger.Kind(d.Kind),
		Time: time.Unix(0, d.Time).UTC(), Account: d.Account, Record: d.Record,
	}
	if len(d.Hash) != len(e.Hash) {
		return e, nil // which does not verify
	}
	copy(e.Hash[:], d.Hash)
	return e, nil
}

// is and the others below write a condition on a field.
func is(field string, value any) bson.E { return bson.E{Key: field, Value: value} }

func below(value any) bson.D { return bson.D{{Key: "$lt", Value: value}} }

func between(from, before any) bson.D {
	return bson.D{{Key: "$gte", Value: from}, {Key: "$lt", Value: before}}
}

var (
	oldestFirst = bson.D{{Key: "sequence", Value: 1}}
	newestFirst = bson.D{{Key: "sequence", Value: -1}}
)

// find returns the entries that the filter lets through, up to n of them.
func (s *Store) find(ctx context.Context, filter, order bson.D, n int) ([]ledger.Entry, error) {
	if n <= 0 {
		return nil, nil // MongoDB would take 0 for no limit
	}
	// With room for one more than there can be, the first answer is the last.
	cursor, err := s.entries.Find(ctx, filter, options.Find().SetSort(order).SetLimit(int64(n)).SetBatchSize(int32(n)+1))
	if err != nil {
		return nil, err
	}
	var docs []entryDoc
	if err := cursor.All(ctx, &docs); err != nil {
		return nil, err
	}
	out := make([]ledger.Entry, len(docs))
	for i := range docs {
		if out[i], err = docs[i].entry(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// newest returns up to n entries of h with a sequence less than before, newest
// first; a before of 0 starts at the newest.
func (s *Store) newest(ctx context.Context, h ledger.History, before ledger.Sequence, n int) ([]ledger.Entry, error) {
	filter := bson.D{is("history", string(h))}
	if before > 0 {
		filter = append(filter, is("sequence", below(int64(before))))
	}
	return s.find(ctx, filter, newestFirst, n)
}

// findID returns the entry of h with the id.
func (s *Store) findID(ctx context.Context, h ledger.History, id string) (e ledger.Entry, found bool, err error) {
	var doc entryDoc
	err = s.entries.FindOne(ctx, bson.D{is("history", string(h)), is("id", id)}).Decode(&doc)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	e, err = doc.entry()
	return e, true, err
}

// Newest implements ledger.Store.
func (s *Store) Newest(ctx context.Context, h ledger.History, before ledger.Sequence, n int) (out []ledger.Entry, err error) {
	err = s.do(ctx, func(ctx context.Context) error {
		out, err = s.newest(ctx, h, before, n)
		return err
	})
	return out, err
}

// Span implements ledger.Store.
func (s *Store) Span(ctx context.Context, h ledger.History, after ledger.Sequence, n int) (out []ledger.Entry, err error) {
	err = s.do(ctx, func(ctx context.Context) error {
		out, err = s.find(ctx, bson.D{is("history", string(h)), is("sequence", bson.D{{Key: "$gt", Value: int64(after)}})}, oldestFirst, n)
		return err
	})
	return out, err
}

// Entry implements ledger.Store.
func (s *Store) Entry(ctx context.Context, h ledger.History, id string) (e ledger.Entry, err error) {
	err = s.do(ctx, func(ctx context.Context) error {
		var found bool
		e, found, err = s.findID(ctx, h, id)
		if err == nil && !found {
			err = fmt.Errorf("%s, id %s: %w", h, id, ledger.ErrNotFound)
		}
		return err
	})
	return e, err
}

// Entries implements ledger.Store.
func (s *Store) Entries(ctx context.Context, keys []ledger.Key) ([]ledger.Entry, error) {
	if len(keys) == 0 {
		return []ledger.Entry{}, nil
	}
	var any bson.A
	for _, k := range keys {
		any = append(any, bson.D{is("history", string(k.History)), is("sequence", int64(k.Sequence))})
	}
	out := make([]ledger.Entry, len(keys))
	err := s.do(ctx, func(ctx context.Context) error {
		found, err := s.find(ctx, bson.D{is("$or", any)}, oldestFirst, len(keys))
		if err != nil {
			return err
		}
		at := map[ledger.Key]ledger.Entry{}
		for _, e := range found {
			at[ledger.Key{History: e.History, Sequence: e.Sequence}] = e
		}
		for i, k := range keys {
			e, ok := at[k]
			if !ok {
				return fmt.Errorf("%s, sequence %d: %w", k.History, k.Sequence, ledger.ErrNotFound)
			}
			out[i] = e
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
