package mongostore

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/engine"
)

var _ accounts.Secrets = (*Store)(nil)

// A secretDoc is a revision of a secret. The newest one counts; those before it
// are removed once it is stored. So a put is one insert, which the unique index
// on name and revision lets only one server make.
type secretDoc struct {
	ID       string `bson:"_id"` // name and revision
	Name     string `bson:"name"`
	Revision int64  `bson:"revision"`
	Value    []byte `bson:"value"`
}

// readSecret reads a revision of a secret as it is stored. A value that somebody has put
// another kind of in is empty, which no secret is; so one does not hide the others.
func readSecret(raw bson.Raw) (doc secretDoc, err error) {
	doc.Name, _ = raw.Lookup("name").StringValueOK()
	_, doc.Value, _ = raw.Lookup("value").BinaryOK()
	var ok bool
	if doc.Revision, ok = raw.Lookup("revision").AsInt64OK(); !ok || doc.Revision < 1 {
		return doc, fmt.Errorf("%w: %w: the revision of the secret %s was changed", ledger.ErrUnavailable, ledger.ErrDamaged, doc.Name)
	}
	return doc, nil
}

// newestSecret returns the newest revision of a secret; one that is not there
// has revision 0.
func (s *Store) newestSecret(ctx context.Context, name string) (doc secretDoc, err error) {
	raw, err := s.secrets.FindOne(ctx, bson.D{is("name", name)}, options.FindOne().SetSort(bson.D{{Key: "revision", Value: -1}})).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return doc, nil
	}
	if err != nil {
		return doc, err
	}
	return readSecret(raw)
}

// Secret implements accounts.Secrets.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, int64, error) {
	var doc secretDoc
	err := s.do(ctx, func(ctx context.Context) (err error) {
		doc, err = s.newestSecret(ctx, name)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if doc.Revision == 0 {
		return nil, 0, fmt.Errorf("%s: %w", name, accounts.ErrNoSecret)
	}
	return doc.Value, doc.Revision, nil
}

// PutSecret implements accounts.Secrets.
func (s *Store) PutSecret(ctx context.Context, name string, revision int64, value []byte) error {
	return s.do(ctx, func(ctx context.Context) error {
		newest, err := s.newestSecret(ctx, name)
		if err != nil {
			return err
		}
		moved := fmt.Errorf("%w: %s is not at revision %d", ledger.ErrMoved, name, revision)
		if newest.Revision != revision {
			return moved
		}
		_, err = s.secrets.InsertOne(ctx, secretDoc{
			ID: fmt.Sprintf("%s/%019d", name, revision+1), Name: name, Revision: revision + 1, Value: value,
		})
		if mongo.IsDuplicateKeyError(err) {
			return moved
		}
		if err != nil {
			return err
		}
		// What is left of it counts for nothing, and goes with the next put.
		_, _ = s.secrets.DeleteMany(ctx, bson.D{is("name", name), is("revision", bson.D{{Key: "$lte", Value: revision}})})
		return nil
	})
}

// DeleteSecret implements accounts.Secrets.
func (s *Store) DeleteSecret(ctx context.Context, name string) error {
	return s.do(ctx, func(ctx context.Context) error {
		_, err := s.secrets.DeleteMany(ctx, bson.D{is("name", name)})
		return err
	})
}

// Secrets implements accounts.Secrets.
func (s *Store) Secrets(ctx context.Context, prefix string, each func(name string, value []byte) error) error {
	var docs []bson.Raw
	err := s.do(ctx, func(ctx context.Context) error {
		cursor, err := s.secrets.Find(ctx, bson.D{is("name", bson.D{{Key: "$regex", Value: "^" + regexp.QuoteMeta(prefix)}})},
			options.Find().SetSort(bson.D{{Key: "name", Value: 1}, {Key: "revision", Value: 1}}))
		if err != nil {
			return err
		}
		return cursor.All(ctx, &docs)
	})
	if err != nil {
		return err
	}
	for i, raw := range docs {
		if i+1 < len(docs) && docs[i+1].Lookup("name").Equal(raw.Lookup("name")) {
			continue
		}
		d, _ := readSecret(raw) // whatever its revision
		if err := each(d.Name, d.Value); err != nil {
			return err
		}
	}
	return nil
}

// SecretsAfter implements accounts.Secrets.
func (s *Store) SecretsAfter(ctx context.Context, prefix, after string, n int) (out []accounts.Secret, err error) {
	err = s.do(ctx, func(ctx context.Context) error {
		out = nil
		for from, more := max(prefix, after), true; more && len(out) < n; {
			limit := n - len(out)
			cursor, err := s.secrets.Find(ctx, bson.D{is("name", bson.D{{Key: "$gt", Value: from}, {Key: "$lt", Value: engine.Beyond(prefix)}})},
				options.Find().SetSort(bson.D{{Key: "name", Value: 1}, {Key: "revision", Value: 1}}).SetLimit(int64(limit)))
			if err != nil {
				return err
			}
			var docs []bson.Raw
			if err := cursor.All(ctx, &docs); err != nil {
				return err
			}
			more = len(docs) == limit
			for i, raw := range docs {
				if i+1 < len(docs) && docs[i+1].Lookup("name").Equal(raw.Lookup("name")) {
					continue // a newer revision of it follows
				}
				d, _ := readSecret(raw) // whatever its revision
				from = d.Name
				if more && i+1 == len(docs) { // and may lie behind the limit
					if d, err = s.newestSecret(ctx, d.Name); err != nil {
						return err
					}
				}
				if from == d.Name { // it was not deleted meanwhile
					out = append(out, accounts.Secret{Name: d.Name, Value: d.Value})
				}
			}
		}
		return nil
	})
	return out, err
}
