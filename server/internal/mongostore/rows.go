package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/sites"
)

// partSize is how long, in bytes, a part of the rows of an import is: far below
// the 16 MiB that a document can have.
const partSize = 4 << 20

// rowsTimeout is how long the rows of an import may take on their way.
const rowsTimeout = 2 * time.Minute

// PutRows implements sites.Rows. Rows that are there in part are completed.
func (s *Store) PutRows(ctx context.Context, sum string, rows []byte) error {
	leave, err := s.gate.Enter(ctx)
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
		err := s.timed(ctx, func(ctx context.Context) error {
			_, err := s.rows.InsertOne(ctx, doc)
			return err
		})
		if err != nil && !mongo.IsDuplicateKeyError(err) {
			return translate(ctx, err)
		}
	}
	return nil
}

// Rows implements sites.Rows.
func (s *Store) Rows(ctx context.Context, sum string) ([]byte, error) {
	leave, err := s.gate.Enter(ctx)
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
