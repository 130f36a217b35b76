package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
	"xuncha/sites"
)

// partSize is how long, in bytes, a part of the rows of an import is: far below
// the 16 MiB that a document can have.
const partSize = 4 << 20

// AppendAfter implements sites.Store.
func (s *Store) AppendAfter(ctx context.Context, after ledger.Sequence, d ledger.Draft) (e ledger.Entry, err error) {
	err = s.do(ctx, func(ctx context.Context) error {
		head, err := s.headAt(ctx, d.History, after)
		if err != nil {
			return err
		}
		e = head.Seal(d)
		return s.put(ctx, []ledger.Entry{e})
	})
	if err != nil {
		return ledger.Entry{}, err
	}
	return e, nil
}

// headAt returns the newest entry of a history, or ledger.ErrMoved where it has
// not the sequence.
func (s *Store) headAt(ctx context.Context, h ledger.History, at ledger.Sequence) (head ledger.Head, err error) {
	newest, err := s.newest(ctx, h, 0, 1)
	if err != nil {
		return head, err
	}
	if len(newest) > 0 {
		head = newest[0].Head()
	}
	if head.Sequence != at {
		return head, fmt.Errorf("%w: %s is at %d, not at %d", ledger.ErrMoved, h, head.Sequence, at)
	}
	return head, nil
}

// put stores entries of one history that follow its newest. The error is
// ledger.ErrMoved where another server was quicker.
func (s *Store) put(ctx context.Context, entries []ledger.Entry) error {
	// These are in no server's feed: the roster's entries are asked for by their
	// sequence, and nobody serves what is being copied.
	first := s.writer.puts.Add(int64(len(entries))) - int64(len(entries)) + 1
	docs := make([]any, len(entries))
	for i, e := range entries {
		docs[i] = document(e, markOf(s.writer.id+" put", first+int64(i)))
	}
	_, err := s.insert(ctx, docs)
	if mongo.IsDuplicateKeyError(err) {
		return fmt.Errorf("%w: %s has another entry with that sequence or id", ledger.ErrMoved, entries[0].History)
	}
	return err
}

// RosterEntries implements sites.Store.
func (s *Store) RosterEntries(ctx context.Context, after ledger.Sequence, n int) ([]ledger.Entry, error) {
	return s.Span(ctx, ledger.Roster, after, n)
}

// rowsTimeout is how long the rows of an import may take on their way.
const rowsTimeout = 2 * time.Minute

// PutRows implements sites.Store. Rows that are there in part are completed.
func (s *Store) PutRows(ctx context.Context, sum string, rows []byte) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	parts := max(1, (len(rows)+partSize-1)/partSize)
	for part := range parts {
		from := part * partSize
		doc := rowsDoc{
			ID: fmt.Sprintf("%s/%06d", sum, part), Sum: sum, Part: int32(part), Parts: int32(parts),
			Bytes: rows[from:min(len(rows), from+partSize)],
		}
		err := s.within(ctx, func(ctx context.Context) error {
			_, err := s.rows.InsertOne(ctx, doc)
			return err
		})
		if err != nil && !mongo.IsDuplicateKeyError(err) {
			return translate(ctx, err)
		}
	}
	return nil
}

// Rows implements sites.Store.
func (s *Store) Rows(ctx context.Context, sum string) ([]byte, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	inner, cancel := context.WithTimeout(ctx, rowsTimeout)
	defer cancel()
	cursor, err := s.rows.Find(inner, bson.D{is("sum", sum)}, options.Find().SetSort(bson.D{{Key: "part", Value: 1}}))
	if err != nil {
		return nil, translate(ctx, err)
	}
	var docs []rowsDoc
	if err := cursor.All(inner, &docs); err != nil {
		return nil, translate(ctx, err)
	}
	rows := []byte{}
	for i, d := range docs {
		if int(d.Part) != i {
			return nil, fmt.Errorf("%s has no part %d: %w", sum, i, sites.ErrRowsUnknown)
		}
		rows = append(rows, d.Bytes...)
	}
	if len(docs) == 0 || len(docs) != int(docs[0].Parts) {
		return nil, fmt.Errorf("%s: %w", sum, sites.ErrRowsUnknown)
	}
	return rows, nil
}
