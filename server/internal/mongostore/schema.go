package mongostore

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// schemaVersion is that of the documents below. A newer one is refused; a
// change that older versions cannot read raises it: 2 brought photos, whose
// entries they would take for broken check-ins.
const schemaVersion = 2

var (
	// ErrNewer means that a newer version of Xuncha wrote the database.
	ErrNewer = errors.New("written by a newer version of xuncha")
	// ErrSchema means that the database lacks an index or a shard key, or has
	// another than it should.
	ErrSchema = errors.New("is not set up as it should be")
)

// An entryDoc is an entry. Beside the record stands what would have to be
// parsed out of it otherwise; the record remains what counts.
type entryDoc struct {
	// Mark is the writer that stored it and how many it has stored with it: a feed
	// of what is new, in an index that every collection has anyway.
	Mark     string `bson:"_id"`
	History  string `bson:"history"`
	Sequence int64  `bson:"sequence"`
	ID       string `bson:"id"`
	Kind     string `bson:"kind"`
	// Time is in nanoseconds since 1970-01-01 UTC; MongoDB's own times have
	// milliseconds.
	Time    int64  `bson:"time"`
	Account string `bson:"account"`
	Hash    []byte `bson:"hash"`
	Record  []byte `bson:"record"`
}

// A rowsDoc is a part of the rows of an import.
type rowsDoc struct {
	ID    string `bson:"_id"` // sum and part
	Sum   string `bson:"sum"`
	Part  int32  `bson:"part"`  // 0, 1, 2 …
	Parts int32  `bson:"parts"` // how many there are
	Bytes []byte `bson:"bytes"`
}

// A writerDoc is a server that stores entries, or did.
type writerDoc struct {
	ID string `bson:"_id"`
	// Seen is when the server last said that it is there, by its own clock, in
	// nanoseconds since 1970-01-01 UTC. Others only look whether it changes.
	Seen int64 `bson:"seen"`
	// One tells that the server numbers all that it stores in one series. The earliest
	// versions have a second one, and do not say this.
	One bool `bson:"one"`
	// Settled are the numbers with which entries were stored by then, as position.String
	// writes them. Earlier versions do not say it.
	Settled string `bson:"settled,omitempty"`
	// Unsure tells that the server does not know what has become of entries.
	Unsure bool `bson:"unsure,omitempty"`
	// Last is the last number that it gave, once it has ended; nil before.
	Last *int64 `bson:"last,omitempty"`
	// Free are the numbers before Last with which nothing is stored. Who goes on with
	// the series gives them again.
	Free []int64 `bson:"free,omitempty"`
	// Void are numbers that an earlier version gave and with which nothing will ever be
	// stored.
	Void []int64 `bson:"void,omitempty"`
}

// An index is one that a collection must have. All are unique.
type index struct {
	name string
	keys bson.D
}

// A collection is one that the database must have.
type collection struct {
	name    string
	indexes []index
	// shardKey is by what a sharded cluster spreads it; nil leaves it whole.
	shardKey bson.D
}

var ascending = int32(1)

// collections is the schema. The entries of one history lie on one shard, since
// its place in the order and its ids are only unique together there.
var collections = []collection{
	{"entries", []index{
		{"history_sequence", bson.D{{Key: "history", Value: ascending}, {Key: "sequence", Value: ascending}}},
		{"history_id", bson.D{{Key: "history", Value: ascending}, {Key: "id", Value: ascending}}},
	}, bson.D{{Key: "history", Value: ascending}}},
	{"rows", []index{
		{"sum_part", bson.D{{Key: "sum", Value: ascending}, {Key: "part", Value: ascending}}},
	}, nil},
	{"writers", nil, nil},
	{"secrets", []index{
		{"name_revision", bson.D{{Key: "name", Value: ascending}, {Key: "revision", Value: ascending}}},
	}, nil},
	{"pictures", nil, nil},
	{"photos", []index{
		{"order_id", bson.D{{Key: "closure_order", Value: ascending}, {Key: "_id", Value: ascending}}},
		{"stored_id", bson.D{{Key: "stored", Value: ascending}, {Key: "_id", Value: ascending}}},
	}, nil},
	{"photo_parts", []index{
		{"photo_offset", bson.D{{Key: "photo", Value: ascending}, {Key: "offset", Value: ascending}, {Key: "size", Value: ascending}}},
	}, nil},
	{"photo_jobs", nil, nil},
	// As GridFS has it. Files are what grows largest.
	{"fs.chunks", []index{
		{"files_id_1_n_1", bson.D{{Key: "files_id", Value: ascending}, {Key: "n", Value: ascending}}},
	}, bson.D{{Key: "files_id", Value: ascending}, {Key: "n", Value: ascending}}},
}

// prepare checks the version and brings about what the schema says.
func (s *Store) prepare(ctx context.Context, o Options) error {
	var version struct {
		Version int32 `bson:"version"`
	}
	meta := s.db.Collection("meta")
	err := s.timed(ctx, func(ctx context.Context) error {
		return meta.FindOne(ctx, bson.D{{Key: "_id", Value: "schema"}}).Decode(&version)
	})
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return err
	}
	if version.Version > schemaVersion {
		return fmt.Errorf("%w: it has schema version %d, and this version knows those up to %d", ErrNewer, version.Version, schemaVersion)
	}
	sharded, err := s.isSharded(ctx)
	if err != nil {
		return err
	}
	for _, c := range collections {
		for _, x := range c.indexes {
			if err := s.prepareIndex(ctx, o, c.name, x); err != nil {
				return err
			}
		}
		if sharded && c.shardKey != nil {
			if err := s.prepareShards(ctx, o, c); err != nil {
				return err
			}
		}
	}
	if version.Version == schemaVersion {
		return nil
	}
	// Last, so that a database that has it has all the rest.
	return s.timed(ctx, func(ctx context.Context) error {
		_, err := meta.UpdateOne(ctx, bson.D{{Key: "_id", Value: "schema"}},
			bson.D{{Key: "$set", Value: bson.D{{Key: "version", Value: int32(schemaVersion)}}}}, options.UpdateOne().SetUpsert(true))
		if mongo.IsDuplicateKeyError(err) {
			return nil // another server was as quick
		}
		return err
	})
}

// timed runs one operation, for opTimeout at most.
func (s *Store) timed(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	return f(ctx)
}

// prepareIndex makes the index where it is missing. Building one on a large
// collection takes longer than an operation may, so it has all the time.
func (s *Store) prepareIndex(ctx context.Context, o Options, in string, x index) error {
	found, err := s.findIndex(ctx, in, x)
	if err != nil || found {
		return err
	}
	if o.KeepSchema {
		return fmt.Errorf("%w: collection %s lacks the unique index %s on %s", ErrSchema, in, x.name, keysOf(x.keys))
	}
	_, err = s.db.Collection(in).Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys: x.keys, Options: options.Index().SetName(x.name).SetUnique(true),
	})
	if err != nil {
		// Another server may have made it meanwhile.
		if found, again := s.findIndex(ctx, in, x); again == nil && found {
			return nil
		}
		return fmt.Errorf("making the unique index %s of collection %s on %s: %w", x.name, in, keysOf(x.keys), err)
	}
	return nil
}

// findIndex reports whether the collection has the index. One that has its name
// or its keys and is otherwise another is ErrSchema.
func (s *Store) findIndex(ctx context.Context, in string, want index) (found bool, err error) {
	var list []struct {
		Name   string `bson:"name"`
		Key    bson.D `bson:"key"`
		Unique bool   `bson:"unique"`
		Sparse bool   `bson:"sparse"`
		// Part is there where not all documents are in the index.
		Part bson.Raw `bson:"partialFilterExpression"`
		// Collation is there where strings are not compared by their bytes.
		Collation bson.Raw `bson:"collation"`
	}
	err = s.timed(ctx, func(ctx context.Context) error {
		cursor, err := s.db.Collection(in).Indexes().List(ctx)
		if err != nil {
			return err
		}
		return cursor.All(ctx, &list)
	})
	var server mongo.ServerError
	if errors.As(err, &server) && server.HasErrorCode(26) { // NamespaceNotFound
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, x := range list {
		sameKeys := keysOf(x.Key) == keysOf(want.keys)
		switch whole := x.Unique && !x.Sparse && x.Part == nil && x.Collation == nil; {
		case sameKeys && whole:
			return true, nil
		case sameKeys:
			return false, fmt.Errorf("%w: collection %s has the index %s on %s, which is not unique over all documents; drop it, and it is made anew",
				ErrSchema, in, x.Name, keysOf(x.Key))
		case x.Name == want.name:
			return false, fmt.Errorf("%w: collection %s has the index %s on %s, want it on %s; drop it, and it is made anew",
				ErrSchema, in, x.Name, keysOf(x.Key), keysOf(want.keys))
		}
	}
	return false, nil
}

// keysOf writes an index's keys; a server may give their direction as any kind
// of number.
func keysOf(keys bson.D) string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = fmt.Sprintf("%s:%v", k.Key, k.Value)
	}
	return fmt.Sprint(out)
}

// isSharded reports whether the other side is a router of a sharded cluster.
func (s *Store) isSharded(ctx context.Context) (bool, error) {
	var hello struct {
		Message string `bson:"msg"`
	}
	err := s.timed(ctx, func(ctx context.Context) error {
		return s.client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
	})
	return hello.Message == "isdbgrid", err
}

// prepareShards shards the collection where it is not.
func (s *Store) prepareShards(ctx context.Context, o Options, c collection) error {
	name := s.db.Name() + "." + c.name
	var state struct {
		Key     bson.D `bson:"key"`
		Dropped bool   `bson:"dropped"`
	}
	find := func() error {
		return s.timed(ctx, func(ctx context.Context) error {
			return s.client.Database("config").Collection("collections").FindOne(ctx, bson.D{{Key: "_id", Value: name}}).Decode(&state)
		})
	}
	err := find()
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return fmt.Errorf("reading the shard key of %s: %w", name, err)
	}
	if err == nil && !state.Dropped {
		if keysOf(state.Key) != keysOf(c.shardKey) {
			return fmt.Errorf("%w: collection %s is sharded by %s, want %s", ErrSchema, name, keysOf(state.Key), keysOf(c.shardKey))
		}
		return nil
	}
	if o.KeepSchema {
		return fmt.Errorf("%w: collection %s is not sharded; its shard key is %s", ErrSchema, name, keysOf(c.shardKey))
	}
	err = s.timed(ctx, func(ctx context.Context) error {
		return s.client.Database("admin").RunCommand(ctx, bson.D{
			{Key: "shardCollection", Value: name}, {Key: "key", Value: c.shardKey},
		}).Err()
	})
	if err != nil {
		if again := find(); again == nil && keysOf(state.Key) == keysOf(c.shardKey) {
			return nil
		}
		return fmt.Errorf("sharding %s by %s: %w", name, keysOf(c.shardKey), err)
	}
	return nil
}
