package mongostore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/inspections"
	"xuncha/inspections/photos"
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

// mustWriteOld writes a file whose job somebody has begun two hours ago.
func mustWriteOld(tb testing.TB, s *Store, content []byte) newFile {
	tb.Helper()
	f, err := s.photos.writeNew(tb.Context(), bytes.NewReader(content))
	if err != nil {
		tb.Fatal(err)
	}
	old := f
	old.id = mustInsertOld(tb, s, "")
	var doc bson.M
	if err := s.photos.files.FindOne(tb.Context(), bson.D{is("_id", f.id)}).Decode(&doc); err != nil {
		tb.Fatal(err)
	}
	doc["_id"] = old.id
	_, errFile := s.photos.files.InsertOne(tb.Context(), doc)
	_, errChunks := s.photos.chunks.UpdateMany(tb.Context(), bson.D{is("files_id", f.id)}, bson.D{is("$set", bson.D{is("files_id", old.id)})})
	_, errRest := s.photos.files.DeleteOne(tb.Context(), bson.D{is("_id", f.id)})
	_, errJob := s.photos.jobs.DeleteOne(tb.Context(), bson.D{is("_id", f.id)})
	if err := errors.Join(errFile, errChunks, errRest, errJob); err != nil {
		tb.Fatal(err)
	}
	return old
}

// mustInsertOld notes a job that somebody has begun two hours ago.
func mustInsertOld(tb testing.TB, s *Store, deletes string) bson.ObjectID {
	tb.Helper()
	id := bson.NewObjectIDFromTimestamp(time.Now().Add(-2 * time.Hour))
	if _, err := s.photos.jobs.InsertOne(tb.Context(), jobDoc{id, deletes}); err != nil {
		tb.Fatal(err)
	}
	return id
}

func wantTidied(tb testing.TB, s *Store, want int) {
	tb.Helper()
	if n, err := s.Photos().Tidy(tb.Context()); n != want || err != nil {
		tb.Errorf("removed %d, %v; want %d", n, err, want)
	}
	if n, err := s.photos.jobs.CountDocuments(tb.Context(), bson.D{}); n != 0 || err != nil {
		tb.Errorf("%d jobs are left, %v", n, err)
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

// TestLeftByACrash makes what a crash leaves at each step.
func TestLeftByACrash(t *testing.T) {
	content := []byte("a picture")
	t.Run("Writing", func(t *testing.T) {
		s := openAt(t, server.Database(t))
		id := mustInsertOld(t, s, "")
		if _, err := s.photos.chunks.InsertOne(t.Context(), bson.D{is("files_id", id), is("n", int32(0)), is("data", content)}); err != nil {
			t.Fatal(err)
		}
		wantTidied(t, s, 1)
		if n, err := s.photos.chunks.CountDocuments(t.Context(), bson.D{}); n != 0 || err != nil {
			t.Errorf("%d chunks are left, %v", n, err)
		}
	})
	t.Run("Placed", func(t *testing.T) {
		s := openAt(t, server.Database(t))
		k := photoOf("a", content)
		f := mustWriteOld(t, s, content)
		if _, needed, err := s.photos.hold(t.Context(), k); err != nil || !needed {
			t.Fatalf("needed %v, %v", needed, err)
		}
		if _, err := s.photos.files.UpdateOne(t.Context(), bson.D{is("_id", f.id)}, bson.D{is("$set", bson.D{is("filename", f.sum.String())})}); err != nil {
			t.Fatal(err)
		}
		wantTidied(t, s, 0) // the photo holds on to it, and is kept when it comes again
		mustKeep(t, s, k, content)
		if !isThere(t, s, k, content) {
			t.Error("the file is gone")
		}
		if n, err := s.photos.files.CountDocuments(t.Context(), bson.D{}); n != 1 || err != nil {
			t.Errorf("there are %d files, %v, want 1", n, err)
		}
	})
	t.Run("WrittenForNobody", func(t *testing.T) {
		s := openAt(t, server.Database(t))
		f := mustWriteOld(t, s, content)
		wantTidied(t, s, 1)
		if n, err := s.photos.chunks.CountDocuments(t.Context(), bson.D{is("files_id", f.id)}); n != 0 || err != nil {
			t.Errorf("%d chunks are left, %v", n, err)
		}
	})
	t.Run("Deleting", func(t *testing.T) {
		s := openAt(t, server.Database(t))
		k := photoOf("a", content)
		mustKeep(t, s, k, content)
		mustInsertOld(t, s, k.Stored.String())
		wantTidied(t, s, 0) // it was not purged yet
		if !isThere(t, s, k, content) {
			t.Error("the file is gone")
		}
		if _, err := s.photos.photos.UpdateOne(t.Context(), bson.D{}, bson.D{is("$set", bson.D{is("purged", true)})}); err != nil {
			t.Fatal(err)
		}
		mustInsertOld(t, s, k.Stored.String())
		wantTidied(t, s, 1)
		if isThere(t, s, k, content) {
			t.Error("the file is there")
		}
	})
}

// TestKeepWhileItIsDeleted holds that a photo does not rely on a file that
// another server has announced to delete.
func TestKeepWhileItIsDeleted(t *testing.T) {
	a, b := two(t)
	content := []byte("a picture")
	k := photoOf("a", content)
	mustKeep(t, a, k, content)
	if _, err := a.photos.photos.UpdateOne(t.Context(), bson.D{}, bson.D{is("$set", bson.D{is("purged", true)})}); err != nil {
		t.Fatal(err)
	}
	job := jobDoc{bson.NewObjectID(), k.Stored.String()}
	if _, err := a.photos.jobs.InsertOne(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	doomed, err := a.photos.filesNamed(t.Context(), job.Deletes)
	if err != nil || len(doomed) != 1 {
		t.Fatalf("got %d files, %v", len(doomed), err)
	}
	// Here the one who deletes has found that nobody has the file.
	again := photoOf("b", content)
	mustKeep(t, b, again, content)
	if err := a.photos.deleteFile(t.Context(), doomed[0].ID); err != nil {
		t.Fatal(err)
	}
	if !isThere(t, b, again, content) {
		t.Error("the file of the later photo is gone")
	}
}
