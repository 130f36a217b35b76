package sqlitestore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"xuncha/inspections"
	"xuncha/inspections/photos"
)

// keep stores a photo with the content and returns it.
func keep(tb testing.TB, s *Store, content []byte) photos.Kept {
	tb.Helper()
	k, err := s.Photos().Keep(tb.Context(), photos.Kept{
		Ref:         photos.Ref{CheckInRef: inspections.CheckInRef{Site: "site", CheckIn: "a"}, SHA256: sha256.Sum256(content)},
		ContentType: "image/png", Order: "order",
	}, bytes.NewReader(content))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func write(tb testing.TB, path, content string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func isThere(tb testing.TB, path string) bool {
	tb.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		tb.Fatal(err)
	}
	return err == nil
}

// TestLeftByACrash puts files where a crash leaves them, and some that are none
// of ours.
func TestLeftByACrash(t *testing.T) {
	s := open(t)
	kept := keep(t, s, []byte("a picture"))
	dir := s.photos.dir
	unfinished := filepath.Join(dir, newFolder, "123")
	stray := s.photos.path(sha256.Sum256([]byte("a stray")))
	foreign := []string{
		filepath.Join(dir, "README"), filepath.Join(dir, "ab", "cd", "notes.txt"), filepath.Join(dir, incomingFolder, ".DS_Store"),
		filepath.Join(dir, "00", "00", kept.Stored.String()), // not where it belongs
		filepath.Join(dir, unknownFolder, "2020-01-01", "notes.txt"), filepath.Join(dir, unknownFolder, "old", kept.Stored.String()),
	}
	for _, path := range append(foreign, unfinished, stray) {
		write(t, path, "x")
	}
	s = reopen(t, s)
	if isThere(t, unfinished) {
		t.Error("what was being written is still there")
	}
	if n, err := s.Photos().Tidy(t.Context()); n != 0 || err != nil {
		t.Errorf("tidied %d, %v", n, err)
	}
	a, err := s.Photos().SetAside(t.Context(), "2026-11-26", dropNone)
	want := filepath.Join(dir, unknownFolder, "2026-11-26")
	if a != (photos.Aside{Unknown: 1, Where: want}) || err != nil || isThere(t, stray) {
		t.Errorf("got %+v, %v; the stray is there: %v", a, err, isThere(t, stray))
	}
	if b, err := os.ReadFile(filepath.Join(want, filepath.Base(stray))); string(b) != "x" || err != nil {
		t.Errorf("set aside is %q, %v", b, err)
	}
	for _, path := range append(foreign, s.photos.path(kept.Stored)) {
		if !isThere(t, path) {
			t.Errorf("%s is gone", path)
		}
	}
}

// TestAlteredFile holds that a photo does not rely on a file of its hash that
// somebody has altered.
func TestAlteredFile(t *testing.T) {
	s := open(t)
	content := []byte("a picture")
	kept := keep(t, s, content)
	write(t, s.photos.path(kept.Stored), "a pictura")
	again := kept
	again.CheckIn = "b"
	if _, err := s.Photos().Keep(t.Context(), again, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(s.photos.path(kept.Stored)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %q, %v; want what was stored", got, err)
	}
}

// TestRemovedFile holds that a file that somebody took away is missed.
func TestRemovedFile(t *testing.T) {
	s := open(t)
	kept := keep(t, s, []byte("a picture"))
	if err := os.Remove(s.photos.path(kept.Stored)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Photos().Open(t.Context(), kept.Stored); !errors.Is(err, photos.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
	// And purging it is no error.
	if err := s.Photos().Purge(t.Context(), kept); err != nil {
		t.Error(err)
	}
}

// failing is content of which only a part can be written.
type failing struct{ err error }

func (f failing) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write([]byte("a part"))
	return int64(n), errors.Join(&fs.PathError{Op: "write", Path: "x", Err: f.err}, err)
}

// TestKeepFails holds that nothing half written is left.
func TestKeepFails(t *testing.T) {
	s := open(t)
	broken := errors.New("broken")
	if _, err := s.Photos().Keep(t.Context(), photos.Kept{}, failing{broken}); !errors.Is(err, broken) {
		t.Errorf("got %v, want the content's error", err)
	}
	left, err := os.ReadDir(filepath.Join(s.photos.dir, newFolder))
	if err != nil || len(left) > 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}

// cancelling is content whose reader leaves when all of it is written.
type cancelling struct {
	content []byte
	cancel  context.CancelFunc
}

func (c cancelling) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(c.content)
	c.cancel()
	return int64(n), err
}

// TestKeepLeft holds that a caller who leaves while a file is written leaves nothing
// of it, before the server is started anew.
func TestKeepLeft(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Photos().Keep(ctx, photos.Kept{}, cancelling{[]byte("a picture"), cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the caller has gone", err)
	}
	if left, err := os.ReadDir(filepath.Join(s.photos.dir, newFolder)); err != nil || len(left) > 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}

// TestPurgeCut holds that a purge that a crash interrupted leaves no file.
func TestPurgeCut(t *testing.T) {
	s := open(t)
	kept, twin := keep(t, s, []byte("a picture")), keep(t, s, []byte("another"))
	other := twin
	other.CheckIn = "b"
	s.RecallPhoto(t, other)
	for _, k := range []photos.Kept{kept, twin} {
		if err := s.write(t.Context(), func(w *writer) error { return w.note(photoPurge, k) }); err != nil {
			t.Fatal(err)
		}
	}
	aside := s.photos.aside("2026-11-26", kept.Stored)
	write(t, aside, "a picture")
	s = reopen(t, s)
	if n, err := s.Photos().Tidy(t.Context()); n != 2 || err != nil || isThere(t, s.photos.path(kept.Stored)) || isThere(t, aside) {
		t.Errorf("tidied %d, %v", n, err)
	}
	if !isThere(t, s.photos.path(twin.Stored)) {
		t.Error("the file is gone that another photo has")
	}
}

// TestSetAsideCut puts files where a power cut leaves them that are set aside or put back:
// at both places. None is lost, and each is at one place then.
func TestSetAsideCut(t *testing.T) {
	for _, c := range []struct {
		name string
		// known tells that a photo has the file.
		known            bool
		place, unknown   string
		want, wantAsides string
	}{
		{"SetAside", false, "a picture", "a picture", "", "a picture"},
		{"PutBack", true, "a picture", "a picture", "a picture", ""},
		{"AlteredAside", true, "a picture", "a pictura", "a picture", ""},
		{"AlteredAtItsPlace", true, "a pictura", "a picture", "a picture", ""},
		{"AlteredAtItsPlaceAndUnknown", false, "a pictura", "a picture", "", "a picture"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			kept := keep(t, s, []byte("a picture"))
			place, aside := s.photos.path(kept.Stored), s.photos.aside("2026-11-26", kept.Stored)
			if !c.known {
				s.ForgetPhoto(t, kept)
			}
			write(t, place, c.place)
			write(t, aside, c.unknown)
			s = reopen(t, s)
			if _, err := s.Photos().SetAside(t.Context(), "2026-11-26", dropNone); err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]string{place: c.want, aside: c.wantAsides} {
				got, err := os.ReadFile(path)
				if string(got) != want || err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is %q, %v; want %q", path, got, err, want)
				}
			}
		})
	}
}

// dropNone keeps all files that were set aside.
func dropNone(inspections.Digest, photos.Day) (bool, error) { return false, nil }
