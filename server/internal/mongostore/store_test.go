package mongostore

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/goleak"

	"xuncha/inspections/photos"
	"xuncha/server/internal/engine/enginetest"
	"xuncha/server/internal/mongostore/mongotest"
)

// server is what all tests share that do not kill theirs.
var server *mongotest.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = mongotest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}), goleak.IgnoreCurrent())
}

// openAt opens the database at the address and closes it when the test ends.
func openAt(tb testing.TB, uri string) *Store {
	tb.Helper()
	return openWith(tb, uri, Options{})
}

// openWith is openAt with options.
func openWith(tb testing.TB, uri string, o Options) *Store {
	tb.Helper()
	s, err := Open(context.Background(), uri, o)
	if err != nil {
		tb.Fatal(err)
	}
	// Nobody waits as long as in earnest, but long enough for a busy machine.
	s.photos.turn, s.photos.watch = 20*time.Millisecond, 2*time.Second
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// FerretDB's conditional updates are not atomic, so it gets one command of a store at a
// time. What happens at once is tested on the stand-in.
func TestContracts(t *testing.T) {
	enginetest.Run(t, func(tb testing.TB) string { return server.Database(tb) + oneAtATime(tb) }, openAt)
}

// oneAtATime is what an address of a test's database is given to allow one connection.
func oneAtATime(tb testing.TB) string {
	if os.Getenv(mongotest.Variable) != "" {
		return "" // that of a MongoDB
	}
	return "?maxPoolSize=1"
}

// The contracts hold on the stand-in too, without which nothing that is measured or
// tested on it would count.
func TestContractsOnStandIn(t *testing.T) {
	for _, shards := range []string{"1", "2"} {
		t.Run(shards, func(t *testing.T) {
			enginetest.Run(t, standIn(t, "-commit=1ms", "-shards="+shards).Database, openAt)
		})
	}
}

// standIn starts a stand-in with the flags, which ends with the test.
func standIn(tb testing.TB, flags ...string) *mongotest.StandIn {
	tb.Helper()
	s, err := mongotest.StartStandIn(flags...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// ForgetPhoto implements photostest.Engine.
func (s *Store) ForgetPhoto(tb testing.TB, k photos.Kept) {
	tb.Helper()
	if _, err := s.photos.photos.DeleteOne(tb.Context(), bson.D{is("_id", keyOf(k.Ref))}); err != nil {
		tb.Fatal(err)
	}
}

// RecallPhoto implements photostest.Engine.
func (s *Store) RecallPhoto(tb testing.TB, k photos.Kept) {
	tb.Helper()
	if _, err := s.photos.photos.InsertOne(tb.Context(), newPhotoDoc(k)); err != nil {
		tb.Fatal(err)
	}
}
