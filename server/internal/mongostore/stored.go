package mongostore

import (
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
)

// Stored calls each with every entry as it is stored, by history and sequence. Nothing
// of it was verified. What a document lacks, its entry lacks too; damage is called with
// those that are of no history. Slices are only lent.
func (s *Store) Stored(ctx context.Context, each func(ledger.Entry) error, damage func(string)) error {
	leave, err := s.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	cursor, err := s.entries.Find(ctx, bson.D{}, options.Find().
		SetSort(bson.D{{Key: "history", Value: 1}, {Key: "sequence", Value: 1}}).SetBatchSize(feedPage))
	if err != nil {
		return translate(ctx, err)
	}
	defer func() { _ = cursor.Close(context.WithoutCancel(ctx)) }()
	for cursor.Next(ctx) {
		e, ok := asStored(cursor.Current)
		if !ok {
			damage(fmt.Sprintf("the document %s of the collection entries is of no history, or has no sequence", cursor.Current.Lookup("_id")))
			continue
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return translate(ctx, cursor.Err())
}

// asStored returns the entry that a document is of, with as much as it has.
func asStored(raw bson.Raw) (e ledger.Entry, ok bool) {
	var doc entryDoc
	err := bson.Unmarshal(raw, &doc)
	return doc.entry(), err == nil && doc.History != "" && doc.Sequence != 0
}

// PutAsIs implements ledger.AsIs. Of two entries at one place, the second one cannot be
// stored. The error is ledger.ErrMoved then.
func (s *Store) PutAsIs(ctx context.Context, entries []ledger.Entry) error {
	leave, err := s.gate.Enter(ctx)
	if err != nil || len(entries) == 0 {
		return err
	}
	defer leave()
	for part := range slices.Chunk(entries, maxBatch) {
		if err := s.writer.do(&job{ctx: ctx, sealed: part, asIs: true}); err != nil {
			return err
		}
	}
	return nil
}

// CheckFile finds nothing: MongoDB checks its own files.
func (s *Store) CheckFile(context.Context, func(string, bool)) error { return nil }

// Lacking calls lacks with the histories of which somebody has moved an entry ahead of the
// newest that is there, which newest returns. No other entry can have the sequence that it
// has now, nor can the history go on past it.
func (s *Store) Lacking(ctx context.Context, newest func(ledger.History) ledger.Sequence, lacks func(ledger.History, ledger.Sequence)) error {
	return s.Heads(ctx, func(h ledger.History, head ledger.Head) error {
		at := newest(h)
		if head.Sequence <= at {
			return nil
		}
		list, err := s.find(ctx, bson.D{is("history", string(h)), is("sequence", bson.D{
			{Key: "$gt", Value: int64(at)}, {Key: "$lte", Value: int64(at) + ledger.Farthest},
		})}, newestFirst, maxOdd)
		// What is as it was sealed, a server has stored meanwhile.
		if i := slices.IndexFunc(list, func(e ledger.Entry) bool { return !e.Whole() }); i >= 0 {
			lacks(h, list[i].Sequence)
		}
		return translate(ctx, err)
	})
}

// Reindex does nothing: MongoDB keeps its own indexes.
func (s *Store) Reindex(context.Context) error { return nil }
