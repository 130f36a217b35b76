package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// schemaVersion is that of the documents below. A newer one is refused; a
// change that older versions cannot read raises it. 2 brought photos, whose
// entries they would take for broken check-ins. 3 brought several histories of
// accesses and writers that no longer give their numbers in order, which they
// cannot follow. Databases of 1 and 2 are raised when they are opened.
const schemaVersion = 3

// buildingAfter is how long the making of an index may take before the log says so,
// and how often it says so again.
const buildingAfter = 30 * time.Second

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

// An index is one that a collection must have.
type index struct {
	name   string
	unique bool
	keys   bson.D
}

// A collection is one that the database must have.
type collection struct {
	name    string
	indexes []index
	// shardKey is by what a sharded cluster spreads it; nil leaves it whole.
	shardKey bson.D
}

// on gives the keys of an index, all of them ascending.
func on(fields ...string) bson.D {
	keys := make(bson.D, len(fields))
	for i, f := range fields {
		keys[i] = bson.E{Key: f, Value: int32(1)}
	}
	return keys
}

// collections is the schema. The entries of one history lie on one shard, since
// its place in the order and its ids are only unique together there.
var collections = []collection{
	{"entries", []index{
		{"history_sequence", true, on("history", "sequence")},
		{"history_id", true, on("history", "id")},
	}, on("history")},
	{"rows", []index{{"sum_part", true, on("sum", "part")}}, nil},
	{"writers", nil, nil},
	{"secrets", []index{{"name_revision", true, on("name", "revision")}}, nil},
	{"notes", nil, nil},
	{"pictures", nil, nil},
	{"photos", []index{
		{"order_id", true, on("closure_order", "_id")},
		{"stored_id", true, on("stored", "_id")},
		{"held_id", true, on("held", "_id")},
	}, nil},
	{"photo_parts", []index{{"photo_offset", true, on("photo", "offset", "size")}}, nil},
	{"photo_jobs", nil, nil},
	// As GridFS has them. Files are what grows largest.
	{"fs.files", []index{{"filename_1_uploadDate_1", false, on("filename", "uploadDate")}}, nil},
	{"fs.chunks", []index{{"files_id_1_n_1", true, on("files_id", "n")}}, on("files_id", "n")},
}

// prepare checks the version and brings about what the schema says.
func (s *Store) prepare(ctx context.Context, o Options) error {
	var version struct {
		Version int32 `bson:"version"`
	}
	meta := s.db.Collection("meta")
	err := s.timed(ctx, func(ctx context.Context) error {
		return meta.FindOne(ctx, bson.D{is("_id", "schema")}).Decode(&version)
	})
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return err
	}
	if version.Version > schemaVersion {
		return fmt.Errorf("%w: it has schema version %d, and this version knows those up to %d", ErrNewer, version.Version, schemaVersion)
	}
	if o.ReadOnly {
		if version.Version == 0 {
			return fmt.Errorf("%w: it has no schema version, so nobody has stored anything in it", ErrSchema)
		}
		return nil
	}
	// Before what is missing is named: nobody should make that by hand instead.
	if o.KeepSchema && version.Version == 0 {
		return fmt.Errorf("%w: it has no schema version, so nobody has stored anything in it; start a server once without --keep-schema", ErrSchema)
	}
	if o.KeepSchema && version.Version < schemaVersion {
		// An older server would go on beside this one, and could not follow it.
		return fmt.Errorf("%w: it has schema version %d, want %d; stop all older servers, and start this version once without --keep-schema",
			ErrSchema, version.Version, schemaVersion)
	}
	d, err := s.deployment(ctx)
	if err != nil {
		return err
	}
	s.sharded = d.sharded()
	for _, c := range collections {
		if err := s.prepareIndexes(ctx, o, d, c); err != nil {
			return err
		}
		if s.sharded && c.shardKey != nil {
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
		_, err := meta.UpdateOne(ctx, bson.D{is("_id", "schema")},
			bson.D{is("$set", bson.D{is("version", int32(schemaVersion))})}, options.UpdateOne().SetUpsert(true))
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

// prepareIndexes makes the indexes of the collection that are missing.
func (s *Store) prepareIndexes(ctx context.Context, o Options, d deployment, c collection) error {
	if len(c.indexes) == 0 {
		return nil
	}
	there, err := s.indexesOf(ctx, c.name)
	if err != nil {
		return err
	}
	for _, x := range c.indexes {
		found, err := findIndex(there, c.name, x)
		if err != nil {
			return err
		}
		if found {
			continue
		}
		if o.KeepSchema {
			return fmt.Errorf("%w: collection %s lacks %s; a server without --keep-schema makes it", ErrSchema, c.name, x)
		}
		if err := s.makeIndex(ctx, o, d, c.name, x); err != nil {
			// Another server may have made it meanwhile.
			if there, again := s.indexesOf(ctx, c.name); again == nil {
				if found, again := findIndex(there, c.name, x); again == nil && found {
					continue
				}
			}
			return fmt.Errorf("making %s of collection %s: %w", x, c.name, err)
		}
	}
	return nil
}

// makeIndex makes the index. On a large collection that takes longer than an
// operation may, so it has all the time, and the log says what it waits for.
func (s *Store) makeIndex(ctx context.Context, o Options, d deployment, in string, x index) error {
	how := options.CreateIndexes()
	if d.replicated() {
		// By default every member must have built it, so that one that is down would hold
		// up the start of every server. A standalone refuses to be told of a quorum.
		how.SetCommitQuorumMajority()
	}
	done := make(chan error, 1)
	begun := time.Now()
	go func() {
		_, err := s.db.Collection(in).Indexes().CreateOne(ctx, mongo.IndexModel{
			Keys: x.keys, Options: options.Index().SetName(x.name).SetUnique(x.unique),
		}, how)
		done <- err
	}()
	again := time.NewTicker(buildingAfter)
	defer again.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-again.C:
			if o.Log != nil {
				o.Log.Info("the database is making an index; on a replica set a majority of its members must be up",
					"collection", in, "index", x.name, "for", time.Since(begun).Round(time.Second))
			}
		}
	}
}

// An indexDoc is an index as the database describes it.
type indexDoc struct {
	Name   string `bson:"name"`
	Key    bson.D `bson:"key"`
	Unique bool   `bson:"unique"`
	Sparse bool   `bson:"sparse"`
	// Part is there where not all documents are in the index.
	Part bson.Raw `bson:"partialFilterExpression"`
	// Collation is there where strings are not compared by their bytes.
	Collation bson.Raw `bson:"collation"`
}

// indexesOf returns the indexes of the collection.
func (s *Store) indexesOf(ctx context.Context, in string) (list []indexDoc, err error) {
	err = s.timed(ctx, func(ctx context.Context) error {
		cursor, err := s.db.Collection(in).Indexes().List(ctx)
		if err != nil {
			return err
		}
		return cursor.All(ctx, &list)
	})
	var server mongo.ServerError
	if errors.As(err, &server) && server.HasErrorCode(26) { // NamespaceNotFound
		return nil, nil
	}
	return list, err
}

// findIndex reports whether the index is one of those that the collection has. One
// that has its name or its keys and is otherwise another is ErrSchema.
func findIndex(there []indexDoc, in string, want index) (found bool, err error) {
	for _, x := range there {
		sameKeys := keysOf(x.Key) == keysOf(want.keys)
		whole := !x.Sparse && x.Part == nil && x.Collation == nil
		switch {
		case sameKeys && whole && x.Unique == want.unique:
			return true, nil
		case sameKeys && want.unique:
			return false, fmt.Errorf("%w: collection %s has the index %s on %s, which is not unique over all documents; drop it, and it is made anew",
				ErrSchema, in, x.Name, keysOf(x.Key))
		case sameKeys:
			return false, fmt.Errorf("%w: collection %s has the index %s on %s, which is unique or not over all documents; drop it, and it is made anew",
				ErrSchema, in, x.Name, keysOf(x.Key))
		case x.Name == want.name:
			return false, fmt.Errorf("%w: collection %s has the index %s on %s, want it on %s; drop it, and it is made anew",
				ErrSchema, in, x.Name, keysOf(x.Key), keysOf(want.keys))
		}
	}
	return false, nil
}

// String names the index, as errors do.
func (x index) String() string {
	if x.unique {
		return fmt.Sprintf("the unique index %s on %s", x.name, keysOf(x.keys))
	}
	return fmt.Sprintf("the index %s on %s", x.name, keysOf(x.keys))
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

// A deployment is what a server says of what it is part of.
type deployment struct {
	Message string `bson:"msg"`
	SetName string `bson:"setName"`
}

// sharded reports whether the other side is a router of a sharded cluster.
func (d deployment) sharded() bool { return d.Message == "isdbgrid" }

// replicated reports whether it has replica sets.
func (d deployment) replicated() bool { return d.sharded() || d.SetName != "" }

func (s *Store) deployment(ctx context.Context) (d deployment, err error) {
	err = s.timed(ctx, func(ctx context.Context) error {
		return s.client.Database("admin").RunCommand(ctx, bson.D{is("hello", 1)}).Decode(&d)
	})
	return d, err
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
		return fmt.Errorf("%w: collection %s is not sharded, want it by %s; a server without --keep-schema does that", ErrSchema, name, keysOf(c.shardKey))
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
