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
	"xuncha/server/internal/clock"
)

var _ clock.Notes = (*Store)(nil)

// A noteDoc is a revision of a note. As with secrets, the newest one counts, and a put is
// one insert that only one server can make. Here it is the index of _id that keeps
// servers apart: so a server that may make no index needs no step by hand.
type noteDoc struct {
	ID       string `bson:"_id"` // name and revision
	Revision int64  `bson:"revision"`
	Value    []byte `bson:"value"`
}

// noteID returns the _id of a revision, in whose order revisions lie.
func noteID(name string, revision int64) string { return fmt.Sprintf("%s/%019d", name, revision) }

// newestNote returns the newest revision of a note; one that is not there has revision 0.
func (s *Store) newestNote(ctx context.Context, name string) (doc noteDoc, err error) {
	err = s.notes.FindOne(ctx, bson.D{is("_id", between(noteID(name, 0), name+"/:"))}, // ":" comes after "9"
		options.FindOne().SetSort(bson.D{{Key: "_id", Value: -1}})).Decode(&doc)
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = nil
	}
	return doc, err
}

// Note implements clock.Notes.
func (s *Store) Note(ctx context.Context, name string) ([]byte, int64, error) {
	var doc noteDoc
	err := s.do(ctx, func(ctx context.Context) (err error) {
		doc, err = s.newestNote(ctx, name)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if doc.Revision == 0 {
		return nil, 0, fmt.Errorf("%s: %w", name, clock.ErrNoNote)
	}
	return doc.Value, doc.Revision, nil
}

// PutNote implements clock.Notes.
func (s *Store) PutNote(ctx context.Context, name string, revision int64, value []byte) error {
	return s.do(ctx, func(ctx context.Context) error {
		newest, err := s.newestNote(ctx, name)
		if err != nil {
			return err
		}
		moved := fmt.Errorf("%w: %s is not at revision %d", ledger.ErrMoved, name, revision)
		if newest.Revision != revision {
			return moved
		}
		_, err = s.notes.InsertOne(ctx, noteDoc{noteID(name, revision+1), revision + 1, value})
		if mongo.IsDuplicateKeyError(err) {
			return moved
		}
		if err != nil {
			return err
		}
		// What is left of it counts for nothing, and goes with the next put.
		_, _ = s.notes.DeleteMany(ctx, bson.D{is("_id", between(noteID(name, 0), noteID(name, revision+1)))})
		return nil
	})
}

// DatabaseTime returns the time by the clock of the database: of its primary, or of the
// router where it is sharded. It is as old as the answer was on its way.
func (s *Store) DatabaseTime(ctx context.Context) (time.Time, error) {
	var hello struct {
		LocalTime time.Time `bson:"localTime"`
	}
	err := s.do(ctx, func(ctx context.Context) error {
		return s.client.Database("admin").RunCommand(ctx, bson.D{is("hello", 1)}).Decode(&hello)
	})
	if err == nil && hello.LocalTime.IsZero() {
		err = errors.New("the database does not tell the time")
	}
	return hello.LocalTime, err
}
