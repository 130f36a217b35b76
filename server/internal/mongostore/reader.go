package mongostore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
)

// UnmarshalBSON reads what there is of a document. Where somebody has made a field another
// kind of value or taken it away, the entry lacks it. So it does not verify, and all others
// are read.
func (d *entryDoc) UnmarshalBSON(b []byte) error {
	fields, err := bson.Raw(b).Elements()
	if err != nil {
		return err
	}
	*d = entryDoc{}
	for _, f := range fields {
		v := f.Value()
		switch f.Key() {
		case "_id":
			d.Mark, _ = v.StringValueOK()
		case "history":
			d.History, _ = v.StringValueOK()
		case "sequence":
			d.Sequence = integer(v)
		case "id":
			d.ID, _ = v.StringValueOK()
		case "kind":
			d.Kind, _ = v.StringValueOK()
		case "time":
			d.Time = integer(v)
		case "account":
			d.Account, _ = v.StringValueOK()
		case "hash":
			_, d.Hash, _ = v.BinaryOK()
			d.Hash = bytes.Clone(d.Hash) // the driver only lends its memory
		case "record":
			_, d.Record, _ = v.BinaryOK()
			d.Record = bytes.Clone(d.Record)
		}
	}
	return nil
}

// integer returns the value where it is a whole number, and otherwise 0.
func integer(v bson.RawValue) int64 {
	if v.Type != bson.TypeInt32 && v.Type != bson.TypeInt64 {
		return 0
	}
	return v.AsInt64()
}

// entry returns the entry that the document is of. A hash that is none becomes zero.
func (d *entryDoc) entry() ledger.Entry {
	e := ledger.Entry{
		History: ledger.History(d.History), Sequence: ledger.Sequence(d.Sequence), ID: d.ID, Kind: ledger.Kind(d.Kind),
		Time: time.Unix(0, d.Time).UTC(), Account: d.Account, Record: d.Record,
	}
	if len(d.Hash) == len(e.Hash) {
		copy(e.Hash[:], d.Hash)
	}
	return e
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
		out[i] = docs[i].entry()
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
	return doc.entry(), true, nil
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
