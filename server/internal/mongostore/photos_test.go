package mongostore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
)

// photoOf is a photo of the check-in with the content.
func photoOf(checkIn inspections.CheckInID, content []byte) photos.Kept {
	sum := sha256.Sum256(content)
	return photos.Kept{
		Ref:    photos.Ref{CheckInRef: inspections.CheckInRef{Site: "site", CheckIn: checkIn}, SHA256: sum},
		Stored: sum, Size: int64(len(content)), ContentType: "image/png", Order: "order",
	}
}

func mustKeep(tb testing.TB, s *Store, k photos.Kept, content []byte) {
	tb.Helper()
	if got, err := s.Photos().Keep(tb.Context(), k, bytes.NewReader(content)); err != nil || got != k {
		tb.Fatalf("got %+v, %v", got, err)
	}
}

func isThere(tb testing.TB, s *Store, k photos.Kept, want []byte) bool {
	tb.Helper()
	f, err := s.Photos().Open(tb.Context(), k.Stored)
	if errors.Is(err, photos.ErrLost) {
		return false
	}
	if err != nil {
		tb.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil || !bytes.Equal(got, want) {
		tb.Errorf("got %d bytes, %v", len(got), err)
	}
	return true
}

// wantTidied holds that one Tidy leaves no photo that is held, and every photo its file,
// that SetAside marks every file that no photo has, and that the Tidy after leaves no job
// either.
func wantTidied(tb testing.TB, s *Store) {
	tb.Helper()
	for range 2 {
		_, err := s.Photos().Tidy(tb.Context())
		if err == nil {
			_, err = s.Photos().SetAside(tb.Context(), "2026-11-26", dropNone)
		}
		if err != nil {
			tb.Fatal(err)
		}
		wantInOrder(tb, s)
	}
	if n, err := s.photos.jobs.CountDocuments(tb.Context(), bson.D{}); n != 0 || err != nil {
		tb.Errorf("%d jobs are left, %v", n, err)
	}
}

func wantInOrder(tb testing.TB, s *Store) {
	tb.Helper()
	docs, err := s.photos.find(tb.Context(), bson.D{}, 0)
	if err != nil {
		tb.Fatal(err)
	}
	missing := map[string]bool{}
	for _, d := range docs {
		if d.Held {
			tb.Errorf("%+v is held", d)
		}
		if !d.Purged {
			missing[d.Stored] = true
		}
	}
	var files []fileDoc
	var chunks []struct {
		File any `bson:"files_id"`
	}
	for in, list := range map[*mongo.Collection]any{s.photos.files: &files, s.photos.chunks: &chunks} {
		cursor, err := in.Find(tb.Context(), bson.D{})
		if err == nil {
			err = cursor.All(tb.Context(), list)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	used, whole := map[string]bool{}, map[any]bool{}
	for _, f := range files {
		if !missing[f.Name] && !used[f.Name] {
			if f.Unknown == "" {
				tb.Errorf("no photo has the file %+v", f)
			}
		} else {
			used[f.Name] = true
		}
		delete(missing, f.Name)
		whole[f.ID] = false
	}
	for _, c := range chunks {
		if _, ok := whole[c.File]; !ok {
			tb.Errorf("no file has a chunk of %v", c.File)
		}
		whole[c.File] = true
	}
	for id, ok := range whole {
		if !ok {
			tb.Errorf("the file %v has no chunk", id)
		}
	}
	for name := range missing {
		tb.Errorf("a photo has lost its file %s", name)
	}
}

// A deed is one that is interrupted.
type deed struct {
	name string
	// before is what was done when it begins, by another server.
	before func(t *testing.T, s *Store, k, twin photos.Kept, content []byte)
	do     func(t *testing.T, s *Store, k photos.Kept, content []byte) error
}

func keep(t *testing.T, s *Store, k photos.Kept, content []byte) error {
	got, err := s.Photos().Keep(t.Context(), k, bytes.NewReader(content))
	if err == nil && got != k && !got.Purged {
		t.Errorf("got %+v, want %+v", got, k)
	}
	return err
}

func purge(t *testing.T, s *Store, k photos.Kept, _ []byte) error {
	return s.Photos().Purge(t.Context(), k)
}

var deeds = []deed{
	{"Keep", func(*testing.T, *Store, photos.Kept, photos.Kept, []byte) {}, keep},
	{"KeepOfFileThatIsThere", func(t *testing.T, s *Store, _, twin photos.Kept, content []byte) { mustKeep(t, s, twin, content) }, keep},
	{"Purge", func(t *testing.T, s *Store, k, _ photos.Kept, content []byte) { mustKeep(t, s, k, content) }, purge},
	{"PurgeOfFileThatOthersHave", func(t *testing.T, s *Store, k, twin photos.Kept, content []byte) {
		mustKeep(t, s, k, content)
		mustKeep(t, s, twin, content)
	}, purge},
}

// interrupt does the deed on one server, which is struck at each of its commands in turn,
// until it has no more of them. Then calls what another server does then.
func interrupt(t *testing.T, d deed, s strike, then func(t *testing.T, b *Store, k, twin photos.Kept, content []byte, err error)) {
	t.Helper()
	uri := server.Database(t)
	a, w := wired(t, uri)
	b := openAt(t, uri)
	a.photos.turn, b.photos.watch = time.Hour, time.Millisecond
	for at := 0; ; at++ {
		content := fmt.Appendf(nil, "picture %d", at)
		k, twin := photoOf(inspections.CheckInID(fmt.Sprint("a", at)), content), photoOf(inspections.CheckInID(fmt.Sprint("b", at)), content)
		d.before(t, b, k, twin, content)
		w.arm(s, at)
		err := d.do(t, a, k, content)
		sent := w.commands()
		w.arm(nothing, 0)
		if err != nil && !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("struck at %d: got %v, want ErrUnavailable", at, err)
		}
		then(t, b, k, twin, content, err)
		if t.Failed() {
			t.Fatalf("struck at %d of %q", at, sent)
		}
		if len(sent) <= at {
			if err != nil || at < 4 {
				t.Errorf("it was done with %q and %v", sent, err)
			}
			return
		}
	}
}

// What a crash of an earlier version left is found too, though its documents say less.
func TestLeftByEarlierVersions(t *testing.T) {
	content := []byte("a picture")
	k := photoOf("a", content)
	insert := func(t *testing.T, in *mongo.Collection, doc bson.D) {
		t.Helper()
		if _, err := in.InsertOne(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
	}
	write := func(t *testing.T, s *Store, id bson.ObjectID, name string) {
		t.Helper()
		insert(t, s.photos.chunks, bson.D{is("files_id", id), is("n", int32(0)), is("data", content)})
		if name != "" {
			insert(t, s.photos.files, bson.D{
				is("_id", id), is("length", int64(len(content))), is("chunkSize", int32(1000)), is("uploadDate", time.Now()), is("filename", name),
			})
		}
	}
	photo := func(t *testing.T, s *Store, held, purged bool) {
		t.Helper()
		insert(t, s.photos.photos, bson.D{
			is("_id", keyOf(k.Ref)), is("stored", k.Stored.String()), is("size", k.Size), is("content_type", k.ContentType),
			is("closure_order", string(k.Order)), is("held", held), is("purged", purged),
		})
	}
	job := func(t *testing.T, s *Store, id bson.ObjectID, deletes string) {
		t.Helper()
		insert(t, s.photos.jobs, bson.D{is("_id", id), is("deletes", deletes)})
	}
	id := bson.NewObjectID()
	for _, c := range []struct {
		name  string
		left  func(t *testing.T, s *Store)
		files int // that are there then
	}{
		// What is whole stays, and is marked.
		{"Writing", func(t *testing.T, s *Store) { job(t, s, id, ""); write(t, s, id, "") }, 0},
		{"Written", func(t *testing.T, s *Store) { job(t, s, id, ""); write(t, s, id, newPrefix+id.Hex()) }, 0},
		{"Held", func(t *testing.T, s *Store) {
			job(t, s, id, "")
			write(t, s, id, newPrefix+id.Hex())
			photo(t, s, true, false)
		}, 0},
		{"Placed", func(t *testing.T, s *Store) {
			write(t, s, id, k.Stored.String())
			photo(t, s, true, false)
		}, 1},
		{"Kept", func(t *testing.T, s *Store) {
			job(t, s, id, "")
			write(t, s, id, k.Stored.String())
			photo(t, s, false, false)
		}, 1},
		{"Deleting", func(t *testing.T, s *Store) {
			job(t, s, bson.NewObjectID(), k.Stored.String())
			write(t, s, id, k.Stored.String())
			photo(t, s, false, true)
		}, 0},
		{"NotYetDeleting", func(t *testing.T, s *Store) {
			job(t, s, bson.NewObjectID(), k.Stored.String())
			write(t, s, id, k.Stored.String())
			photo(t, s, false, false)
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openAt(t, server.Database(t))
			s.photos.watch = time.Millisecond
			c.left(t, s)
			wantTidied(t, s)
			if n, err := s.photos.files.CountDocuments(t.Context(), bson.D{}); int(n) != c.files || err != nil {
				t.Errorf("there are %d files, %v, want %d", n, err, c.files)
			}
		})
	}
}

// dropNone keeps all files that were set aside.
func dropNone(inspections.Digest, photos.Day) (bool, error) { return false, nil }
