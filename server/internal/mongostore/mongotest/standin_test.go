package mongotest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// start starts a stand-in, and returns it with an empty database on it.
func start(t *testing.T, flags ...string) (*StandIn, *mongo.Database) {
	t.Helper()
	s, err := StartStandIn(flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s, s.client.Database(newName())
}

// control steers the stand-in.
func control(t *testing.T, s *StandIn, key string, value any, more ...bson.E) bson.Raw {
	t.Helper()
	out, err := s.Control(t.Context(), append(bson.D{{Key: key, Value: value}}, more...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// makeEntries makes the collection entries with an index, sharded where there are
// shards.
func makeEntries(t *testing.T, db *mongo.Database, sharded bool) *mongo.Collection {
	t.Helper()
	entries := db.Collection("entries")
	_, err := entries.Indexes().CreateOne(t.Context(), mongo.IndexModel{
		Keys:    bson.D{{Key: "history", Value: int32(1)}, {Key: "sequence", Value: int32(1)}},
		Options: options.Index().SetName("history_sequence").SetUnique(true),
	})
	if err == nil && sharded {
		err = db.Client().Database("admin").RunCommand(t.Context(), bson.D{
			{Key: "shardCollection", Value: db.Name() + ".entries"}, {Key: "key", Value: bson.D{{Key: "history", Value: int32(1)}}},
		}).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// counted returns how often something has come.
func counted(t *testing.T, s *StandIn, what string) int64 {
	t.Helper()
	n, _ := control(t, s, "counts", true).Lookup("counts", what).AsInt64OK()
	return n
}

// historyOn returns the name of a history that lies on a shard.
func historyOn(t *testing.T, s *StandIn, shard int32) string {
	t.Helper()
	for i := 0; ; i++ {
		name := fmt.Sprint("history ", i)
		if control(t, s, "shardOf", name).Lookup("shard").Int32() == shard {
			return name
		}
	}
}

func entry(id, history string, sequence int) bson.D {
	return bson.D{{Key: "_id", Value: id}, {Key: "history", Value: history}, {Key: "sequence", Value: sequence}}
}

func has(t *testing.T, c *mongo.Collection, id string) bool {
	t.Helper()
	err := c.FindOne(t.Context(), bson.D{{Key: "_id", Value: id}}).Err()
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		t.Fatal(err)
	}
	return err == nil
}

// until waits for a condition.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	for begin := time.Now(); !met(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("waited in vain until ", what)
		}
	}
}

// What is written takes its keys at once, is seen once a majority has it, and only
// then is anybody answered: also who collides with it.
func TestStandInMajority(t *testing.T) {
	s, db := start(t, "-commit=300ms")
	entries := makeEntries(t, db, false)
	begin := time.Now()
	first := make(chan error, 1)
	go func() {
		_, err := entries.InsertOne(context.WithoutCancel(t.Context()), entry("a", "h", 1))
		first <- err
	}()
	until(t, "the insert has come", func() bool { return counted(t, s, "insert entries") > 0 })
	if seen := has(t, entries, "a"); seen && time.Since(begin) < 300*time.Millisecond {
		t.Error("what no majority has is seen")
	}
	_, err := entries.InsertOne(t.Context(), entry("b", "h", 1))
	if took := time.Since(begin); !mongo.IsDuplicateKeyError(err) || took < 300*time.Millisecond {
		t.Errorf("after %v: %v, want a duplicate key after 300 ms", took, err)
	}
	if !has(t, entries, "a") {
		t.Error("what a majority has is not seen")
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// An unordered insert stores what it can, and names each document that it cannot.
func TestStandInWriteErrors(t *testing.T) {
	_, db := start(t, "-commit=1ms")
	entries := makeEntries(t, db, false)
	documents := []any{entry("a", "h", 1), entry("b", "h", 1), entry("a", "h", 2), entry("c", "h", 3)}
	for _, ordered := range []bool{false, true} {
		if _, err := entries.DeleteMany(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
		_, err := entries.InsertMany(t.Context(), documents, options.InsertMany().SetOrdered(ordered))
		var many mongo.BulkWriteException
		if !errors.As(err, &many) {
			t.Fatalf("got %v", err)
		}
		var at []int
		for _, e := range many.WriteErrors {
			at = append(at, e.Index)
		}
		want := []int{1, 2}
		if ordered {
			want = want[:1]
		}
		if !slices.Equal(at, want) || has(t, entries, "c") == ordered {
			t.Errorf("ordered %v: errors at %v, want at %v", ordered, at, want)
		}
		if keys, _ := many.WriteErrors[0].Raw.Lookup("keyPattern").DocumentOK(); keys.Lookup("sequence").IsZero() {
			t.Errorf("the error does not say which index: %s", many.WriteErrors[0].Raw)
		}
	}
}

// An ordered insert waits at each change of shard, an unordered one goes to all
// shards at the same time.
func TestStandInOrder(t *testing.T) {
	s, db := start(t, "-shards=2", "-commit=100ms")
	entries := makeEntries(t, db, true)
	both := []string{historyOn(t, s, 0), historyOn(t, s, 1)}
	for _, ordered := range []bool{true, false} {
		var documents []any
		for i := range 4 {
			documents = append(documents, entry(fmt.Sprint(ordered, i), both[i%2], i+10*len(fmt.Sprint(ordered))))
		}
		begin := time.Now()
		if _, err := entries.InsertMany(t.Context(), documents, options.InsertMany().SetOrdered(ordered)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); (took >= 400*time.Millisecond) != ordered {
			t.Errorf("ordered %v: took %v", ordered, took)
		}
	}
}

// A shard writes one document after another.
func TestStandInCapacity(t *testing.T) {
	_, db := start(t, "-write=10ms", "-commit=1ms")
	var documents []any
	for i := range 20 {
		documents = append(documents, entry(fmt.Sprint(i), "h", i))
	}
	begin := time.Now()
	if _, err := db.Collection("entries").InsertMany(t.Context(), documents); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("20 documents took %v, want 200 ms at least", took)
	}
}

// What needs a shard without a primary waits for it, and nothing else does.
func TestStandInNoPrimary(t *testing.T) {
	s, db := start(t, "-shards=2", "-commit=1ms")
	entries := makeEntries(t, db, true)
	there, gone := historyOn(t, s, 0), historyOn(t, s, 1)
	control(t, s, "shard", 1, bson.E{Key: "primary", Value: false})
	done := make(chan error, 1)
	go func() {
		_, err := entries.InsertMany(context.WithoutCancel(t.Context()), []any{entry("gone", gone, 1), entry("there", there, 1)},
			options.InsertMany().SetOrdered(false))
		done <- err
	}()
	onThere := func(sequence int) bool {
		n, err := entries.CountDocuments(t.Context(), bson.D{{Key: "history", Value: there}, {Key: "sequence", Value: sequence}})
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
	until(t, "the other shard has its document", func() bool { return onThere(1) })
	if _, err := entries.InsertOne(t.Context(), entry("more", there, 2)); err != nil || !onThere(2) {
		t.Errorf("the other shard: %v", err)
	}
	err := db.RunCommand(t.Context(), bson.D{
		{Key: "find", Value: "entries"}, {Key: "filter", Value: bson.D{{Key: "history", Value: gone}}}, {Key: "maxTimeMS", Value: 20},
	}).Err()
	var command mongo.CommandError
	if !errors.As(err, &command) || command.Code != 50 {
		t.Errorf("a read with a deadline: %v, want code 50", err)
	}
	// A client that has gone leaves nothing that is stored later.
	leaving, err := mongo.Connect(options.Client().ApplyURI(s.uri))
	if err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := make(chan error, 1)
	before := counted(t, s, "insert entries")
	go func() {
		_, err := leaving.Database(db.Name()).Collection("entries").InsertOne(impatient, entry("left", gone, 2))
		left <- err
	}()
	until(t, "the insert has come", func() bool { return counted(t, s, "insert entries") > before })
	cancel()
	if err := <-left; err == nil {
		t.Error("an insert was answered without a primary")
	}
	if err := leaving.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "it is noticed that the client has gone", func() bool { return counted(t, s, "gone") == 1 })
	select {
	case err := <-done:
		t.Fatalf("answered without a primary: %v", err)
	default:
	}
	control(t, s, "shard", 1, bson.E{Key: "primary", Value: true})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !has(t, entries, "gone") {
		t.Error("what waited is not stored")
	}
	if has(t, entries, "left") {
		t.Error("what nobody waited for is stored")
	}
}

// A write whose answer is lost is stored, once.
func TestStandInLostReply(t *testing.T) {
	for _, shards := range []int{1, 2} {
		s, db := start(t, fmt.Sprint("-shards=", shards), "-commit=1ms")
		entries := makeEntries(t, db, shards > 1)
		control(t, s, "loseReply", true)
		_, err := entries.InsertOne(t.Context(), entry("a", "h", 1))
		// A driver sends it again where that is no other write, which a server by
		// itself cannot tell.
		if (err == nil) != (shards > 1) {
			t.Errorf("%d shards: %v", shards, err)
		}
		until(t, "it is stored", func() bool { return has(t, entries, "a") })
	}
}

// What is found does not depend on indexes, nor on shards.
func TestStandInQueries(t *testing.T) {
	_, db := start(t, "-shards=3", "-commit=0s", "-rtt=0s")
	plain := db.Collection("plain")
	indexed := makeEntries(t, db, true)
	random := rand.New(rand.NewPCG(1, 2))
	var documents []any
	for i := range 300 {
		documents = append(documents, bson.D{
			{Key: "_id", Value: fmt.Sprintf("%03d", i)}, {Key: "history", Value: fmt.Sprint("h", random.IntN(12))}, {Key: "sequence", Value: int64(i)},
		})
	}
	for _, c := range []*mongo.Collection{plain, indexed} {
		if _, err := c.InsertMany(t.Context(), documents, options.InsertMany().SetOrdered(false)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.UpdateMany(t.Context(), bson.D{{Key: "history", Value: "h3"}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "sequence", Value: int64(1000)}}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.DeleteMany(t.Context(), bson.D{{Key: "history", Value: "h4"}}); err != nil {
			t.Fatal(err)
		}
	}
	condition := func() bson.D {
		compare := []string{"$gt", "$gte", "$lt", "$lte", "$eq", "$ne"}[random.IntN(6)]
		history, sequence := fmt.Sprint("h", random.IntN(12)), int64(random.IntN(300))
		switch random.IntN(6) {
		case 0:
			return bson.D{{Key: "history", Value: history}}
		case 1:
			return bson.D{{Key: "history", Value: history}, {Key: "sequence", Value: bson.D{{Key: compare, Value: sequence}}}}
		case 2:
			return bson.D{{Key: "history", Value: bson.D{{Key: compare, Value: history}}}}
		case 3:
			return bson.D{{Key: "history", Value: bson.D{{Key: "$in", Value: bson.A{history, "h1", "h4"}}}}}
		case 4:
			return bson.D{{Key: "_id", Value: bson.D{{Key: compare, Value: fmt.Sprintf("%03d", sequence)}}}}
		}
		return bson.D{{Key: "sequence", Value: bson.D{{Key: compare, Value: sequence}, {Key: "$nin", Value: bson.A{sequence + 1}}}}}
	}
	orders := []bson.D{
		{{Key: "_id", Value: 1}}, {{Key: "_id", Value: -1}}, {{Key: "history", Value: 1}, {Key: "sequence", Value: 1}},
		{{Key: "history", Value: -1}, {Key: "sequence", Value: -1}}, {{Key: "history", Value: 1}, {Key: "sequence", Value: -1}},
		{{Key: "sequence", Value: -1}},
	}
	ids := func(c *mongo.Collection, filter, order bson.D, skip, limit int) (out []string) {
		cursor, err := c.Find(t.Context(), filter, options.Find().SetSort(order).SetSkip(int64(skip)).SetLimit(int64(limit)).SetBatchSize(7))
		if err != nil {
			t.Fatal(err)
		}
		defer cursor.Close(t.Context())
		for cursor.Next(t.Context()) {
			out = append(out, cursor.Current.Lookup("_id").StringValue())
		}
		if err := cursor.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	found := 0
	for range 300 {
		filter := condition()
		switch random.IntN(4) {
		case 0:
			filter = bson.D{{Key: "$or", Value: bson.A{condition(), condition(), condition()}}}
		case 1:
			filter = append(filter, bson.E{Key: "$or", Value: bson.A{condition(), condition()}})
		case 2:
			filter = bson.D{{Key: "$and", Value: bson.A{filter, condition()}}}
		}
		order, skip, limit := orders[random.IntN(len(orders))], random.IntN(3), random.IntN(20)
		got, want := ids(indexed, filter, order, skip, limit), ids(plain, filter, order, skip, limit)
		if !slices.Equal(got, want) {
			t.Fatalf("%v by %v, %d of them: got %v, want %v", filter, order, limit, got, want)
		}
		found += len(want)
	}
	if found < 1000 {
		t.Errorf("only %d documents were found in all", found)
	}
}
