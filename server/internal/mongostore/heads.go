package mongostore

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
)

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
