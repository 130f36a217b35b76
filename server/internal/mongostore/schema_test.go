package mongostore

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// mustOpenWith opens the database with the options and closes it again.
func mustOpenWith(tb testing.TB, uri string, o Options) {
	tb.Helper()
	s, err := Open(tb.Context(), uri, o)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Close(); err != nil {
		tb.Error(err)
	}
}

// openFails holds that the database does not open with the options.
func openFails(tb testing.TB, uri string, o Options, want error, says string) {
	tb.Helper()
	s, err := Open(tb.Context(), uri, o)
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
		tb.Errorf("with %+v: got %v, want %v that says %q", o, err, want, says)
	}
}

func mustSetVersion(tb testing.TB, s *Store, version int) {
	tb.Helper()
	_, err := s.db.Collection("meta").UpdateOne(tb.Context(), bson.D{is("_id", "schema")}, bson.D{is("$set", bson.D{is("version", version)})})
	if err != nil {
		tb.Fatal(err)
	}
}

func versionOf(tb testing.TB, s *Store) (out int) {
	tb.Helper()
	var doc struct{ Version int }
	if err := s.db.Collection("meta").FindOne(tb.Context(), bson.D{is("_id", "schema")}).Decode(&doc); err != nil {
		tb.Fatal(err)
	}
	return doc.Version
}

// A database of an earlier version is raised, but for one who may not.
func TestSchemaIsRaised(t *testing.T) {
	uri := server.Database(t)
	openFails(t, uri, Options{KeepSchema: true}, ErrSchema, "start a server once without --keep-schema")
	s := openAt(t, uri)
	for _, version := range []int{1, 2} {
		mustSetVersion(t, s, version)
		// Earlier versions had no such index.
		if err := s.db.Collection("photos").Indexes().DropOne(t.Context(), "held_id"); err != nil {
			t.Fatal(err)
		}
		openFails(t, uri, Options{KeepSchema: true}, ErrSchema, "want 3; stop all older servers, and start this version once without --keep-schema")
		mustOpenWith(t, uri, Options{ReadOnly: true})
		if got := versionOf(t, s); got != version {
			t.Errorf("got the version %d, want it left at %d", got, version)
		}
		mustOpenWith(t, uri, Options{})
		if got := versionOf(t, s); got != schemaVersion {
			t.Errorf("got the version %d, want it raised from %d to %d", got, version, schemaVersion)
		}
		mustOpenWith(t, uri, Options{KeepSchema: true})
	}
}

// Who only reads needs no index, makes none, and is told of a database that is none.
func TestReadOnlyLeavesTheSchema(t *testing.T) {
	uri := server.Database(t)
	openFails(t, uri, Options{ReadOnly: true}, ErrSchema, "nobody has stored anything")
	s := openAt(t, uri)
	if err := s.entries.Indexes().DropOne(t.Context(), "history_id"); err != nil {
		t.Fatal(err)
	}
	mustOpenWith(t, uri, Options{ReadOnly: true})
	if list, err := s.indexesOf(t.Context(), "entries"); err != nil || len(list) != 2 {
		t.Errorf("got the indexes %v, %v, want that of _id and one", list, err)
	}
	mustSetVersion(t, s, schemaVersion+1)
	openFails(t, uri, Options{ReadOnly: true}, ErrNewer, "schema version 4")
}

// The indexes of the files are checked too. GridFS makes one of them itself where
// nobody has, and it must not be unique.
func TestSchemaOfPhotosIsChecked(t *testing.T) {
	for _, c := range []struct{ in, index, says string }{
		{"fs.files", "filename_1_uploadDate_1", "lacks the index filename_1_uploadDate_1 on [filename:1 uploadDate:1]"},
		{"photos", "held_id", "lacks the unique index held_id on [held:1 _id:1]"},
	} {
		uri := server.Database(t)
		s := openAt(t, uri)
		if err := s.db.Collection(c.in).Indexes().DropOne(t.Context(), c.index); err != nil {
			t.Fatal(err)
		}
		openFails(t, uri, Options{KeepSchema: true}, ErrSchema, c.says)
		mustOpenWith(t, uri, Options{})
		mustOpenWith(t, uri, Options{KeepSchema: true})
	}
	uri := server.Database(t)
	s := openAt(t, uri)
	if err := s.photos.files.Indexes().DropOne(t.Context(), "filename_1_uploadDate_1"); err != nil {
		t.Fatal(err)
	}
	unique := mongo.IndexModel{Keys: on("filename", "uploadDate"), Options: options.Index().SetName("mine").SetUnique(true)}
	if _, err := s.photos.files.Indexes().CreateOne(context.Background(), unique); err != nil {
		t.Fatal(err)
	}
	openFails(t, uri, Options{}, ErrSchema, "index mine on [filename:1 uploadDate:1], which is unique")
}
