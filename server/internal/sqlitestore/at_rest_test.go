package sqlitestore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xuncha/ledger"
)

// filesOf returns all files of a folder with their contents.
func filesOf(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path[len(dir):]] = string(b)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// copyFolder copies a folder as a power cut would leave it.
func copyFolder(tb testing.TB, dir string) string {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		tb.Fatal(err)
	}
	return to
}

// A folder at rest has what the log has too, and nothing in it changes. Then the folder
// can be one that nobody may write to.
func TestOpenAtRest(t *testing.T) {
	s := open(t)
	const count = 3000
	for i := range count {
		mustAppend(t, s, draft(fmt.Sprint(i)))
	}
	keep(t, s, []byte("a picture"))
	want := mustReadAll(t, s)
	dir := copyFolder(t, filepath.Dir(s.lock.Name()))
	if err := os.WriteFile(filepath.Join(dir, photosFolder, newFolder, "half"), []byte("half a picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, File+"-wal")); err != nil || info.Size() == 0 {
		t.Fatalf("got %v %v, want a log", info, err)
	}
	before := filesOf(t, dir)
	rest, err := OpenAtRest(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	got := mustReadAll(t, rest)
	if len(got) != count {
		t.Fatalf("got %d entries, want %d", len(got), count)
	}
	for id, e := range want {
		if !bytes.Equal(got[id].Record, e.Record) {
			t.Fatalf("the entry %s differs", id)
		}
	}
	heads := 0
	if err := rest.Heads(t.Context(), func(h ledger.History, head ledger.Head) error { heads++; return nil }); err != nil || heads != 1 {
		t.Errorf("got %d heads and %v", heads, err)
	}
	if _, _, err := rest.Append(t.Context(), draft("more")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want that nothing can be written", err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked while it is read", err)
	}
	if err := rest.Close(); err != nil {
		t.Fatal(err)
	}
	after := filesOf(t, dir)
	before["/LOCK"] = after["/LOCK"]
	for path, content := range after {
		if before[path] != content {
			t.Errorf("%s was changed", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("got %d files, want the %d before", len(after), len(before))
	}
	if got := mustReadAll(t, openIn(t, dir)); len(got) != count {
		t.Errorf("got %d entries afterwards, want %d", len(got), count)
	}
	if _, err := OpenAtRest(t.Context(), dir); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked while a server has it", err)
	}
	if _, err := OpenAtRest(t.Context(), t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is nothing", err)
	}
}

// Of a log, what comes before the first transaction that is not whole counts, as with
// SQLite itself.
func TestOpenAtRestWithADamagedLog(t *testing.T) {
	s := open(t)
	const count = 200
	var last mark
	for i := range count {
		e := mustAppend(t, s, draft(fmt.Sprint(i)))
		last = mark{int64(i + 1), e.Hash, last.hash}
	}
	from := filepath.Dir(s.lock.Name())
	log, err := os.ReadFile(filepath.Join(from, File+"-wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{1, 16, 40, 5000, len(log) / 2, len(log) - 1} {
		dir := copyFolder(t, from)
		flipped := bytes.Clone(log)
		flipped[at] ^= 4
		if err := os.WriteFile(filepath.Join(dir, File+"-wal"), flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, markFile), []byte(last.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		rest, err := OpenAtRest(t.Context(), dir)
		var loss *LossError
		if errors.As(err, &loss) {
			// Nothing was in the database itself yet.
			if rest = nil; loss.Missing() != count {
				t.Errorf("bit of byte %d: %d entries are missing, want %d", at, loss.Missing(), count)
			}
		} else if err != nil {
			t.Fatalf("bit of byte %d: %v", at, err)
		}
		got := 0
		if rest != nil {
			got = len(mustReadAll(t, rest))
			var found []string
			if err := rest.CheckFile(t.Context(), func(why string, reindex bool) { found = append(found, why) }); err != nil {
				t.Error(err)
			}
			if len(found) != 1 || !strings.Contains(found[0], fmt.Sprintf("the database has %d and had %d at least", got, count)) {
				t.Errorf("bit of byte %d: got %q, want that %d entries are missing", at, found, count-got)
			}
			if err := rest.Close(); err != nil {
				t.Fatal(err)
			}
		}
		again, err := Open(t.Context(), dir, Options{AcceptLoss: true})
		if err != nil {
			t.Fatalf("bit of byte %d: %v", at, err)
		}
		if want := len(mustReadAll(t, again)); got != want {
			t.Errorf("bit of byte %d: got %d entries, SQLite has %d", at, got, want)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder of an earlier version can be read without being brought up to date.
func TestOpenAtRestVersion1(t *testing.T) {
	script, err := os.ReadFile("testdata/version1.sql")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeDatabase(t, filepath.Join(dir, File), string(script))
	before := filesOf(t, dir)
	s, err := OpenAtRest(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := mustReadAll(t, s); len(got) != 4 {
		t.Errorf("got %d entries, want 4", len(got))
	}
	if err := s.Secrets(t.Context(), "", func(name string, _ []byte) error { return errors.New(name) }); err != nil {
		t.Errorf("secrets of a version that had none: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after := filesOf(t, dir); after["/"+File] != before["/"+File] || len(after) != 2 {
		t.Errorf("got the files %d, want the database as it was, and the lock", len(after))
	}
}

// A photo whose file was set aside is read where it lies.
func TestOpenAtRestWithUnknownFiles(t *testing.T) {
	s := open(t)
	mustAppend(t, s, draft("a"))
	kept := keep(t, s, []byte("a picture"))
	s.ForgetPhoto(t, kept)
	if _, err := s.Photos().SetAside(t.Context(), "2026-11-26", dropNone); err != nil {
		t.Fatal(err)
	}
	s.RecallPhoto(t, kept)
	dir := copyFolder(t, filepath.Dir(s.lock.Name()))
	before := filesOf(t, dir)
	rest, err := OpenAtRest(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := rest.Photos().Open(t.Context(), kept.Stored)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, kept.Size)
	if _, err := f.ReadAt(b, 0); string(b) != "a picture" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if err := errors.Join(f.Close(), rest.Close()); err != nil {
		t.Error(err)
	}
	if !maps.Equal(filesOf(t, dir), before) {
		t.Error("something in the folder has changed")
	}
}
