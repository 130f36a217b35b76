package command_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/sqlitestore"
)

// files returns the paths of what lies in a folder, but for what tells of the process that
// has it.
func files(t testing.TB, folder string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() != "LOCK" {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDatabaseIsMissing moves the database of a folder with a photo aside: no command opens
// the folder, nothing is made or deleted there, and all is there once it is put back.
func TestDatabaseIsMissing(t *testing.T) {
	t.Parallel()
	folder, aside := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "xuncha.db")
	address, stop := serveFolder(t, folder)
	ids := fill(t, address)
	conn := connect(t, address)
	photo := cameraPhoto(t, 1)
	c := newCheckIn(ids[0])
	c.Photos = []*xunchav1.Photo{client.Declare(photo)}
	submit(t, conn, c)
	if err := newClient(t, address).UploadPhoto(t.Context(), photoOf(c, photo)); err != nil {
		t.Fatal(err)
	}
	stop()
	database := filepath.Join(folder, sqlitestore.File)
	if err := os.Rename(database, aside); err != nil {
		t.Fatal(err)
	}
	for _, mark := range []bool{true, false} {
		if !mark {
			if err := os.Remove(filepath.Join(folder, "mark")); err != nil {
				t.Fatal(err)
			}
		}
		before := files(t, folder)
		password := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(password, []byte("correct horse battery\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"serve", "--data", folder, "--listen", "127.0.0.1:0"},
			{"account", "create", "--data", folder, "--role", "admin", "--username", "root", "--division", "511600", "--password-file", password},
			{"account", "replace-keys", "--data", folder},
			{"purge", "--data", folder},
		} {
			_, _, err := xuncha(t, args...)
			if !errors.Is(err, sqlitestore.ErrLost) || !strings.Contains(err.Error(), "the database is missing") || !strings.Contains(err.Error(), "--accept-loss") {
				t.Errorf("%s: got %v, want that the database is missing", args[0], err)
			}
			if after := files(t, folder); !slices.Equal(before, after) {
				t.Errorf("%s: the folder had %v and has %v", args[0], before, after)
			}
		}
	}
	if err := os.Rename(aside, database); err != nil {
		t.Fatal(err)
	}
	address, _ = serveFolder(t, folder)
	wantChain(t, connect(t, address), ids[0])
	if got := photoFiles(t, folder); len(got) != 1 {
		t.Errorf("got the photos %v, want one", got)
	}
}

// A copy brings photos before the entries that name them. One that was interrupted so early
// goes on.
func TestCopyGoesOnWithPhotosAlone(t *testing.T) {
	t.Parallel()
	from, to := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "copy")
	address, stop := serveFolder(t, from)
	ids := fill(t, address)
	photo := cameraPhoto(t, 1)
	c := newCheckIn(ids[0])
	c.Photos = []*xunchav1.Photo{client.Declare(photo)}
	submit(t, connect(t, address), c)
	if err := newClient(t, address).UploadPhoto(t.Context(), photoOf(c, photo)); err != nil {
		t.Fatal(err)
	}
	stop()
	for range 2 {
		if _, stderr, err := xuncha(t, "copy", "--from", from, "--to", to); err != nil {
			t.Fatal(err, stderr)
		}
		wantSame(t, to, from)
		if got := photoFiles(t, to); len(got) != 1 {
			t.Errorf("got the photos %v, want one", got)
		}
		for _, name := range []string{sqlitestore.File, "mark"} {
			if err := os.Remove(filepath.Join(to, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestOlderDatabase puts an older copy of the database back: every command that opens the
// folder says how many entries are missing, and goes on only where it is told to.
func TestOlderDatabase(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	database, older := filepath.Join(folder, sqlitestore.File), filepath.Join(t.TempDir(), "older")
	address, stop := serveFolder(t, folder)
	ids := fill(t, address)
	stop()
	b, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(older, b, 0o600); err != nil {
		t.Fatal(err)
	}
	address, stop = serveFolder(t, folder)
	conn := connect(t, address)
	for i := range 7 {
		submit(t, conn, newCheckIn(ids[i]))
	}
	stop()
	if err := os.Rename(older, database); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	for _, args := range [][]string{
		{"serve", "--data", folder, "--listen", "127.0.0.1:0"}, {"purge", "--data", folder},
		{"copy", "--from", folder, "--to", to}, {"account", "replace-keys", "--data", folder},
	} {
		if _, _, err := xuncha(t, args...); !errors.Is(err, sqlitestore.ErrLost) || !strings.Contains(err.Error(), "so 7 are missing") {
			t.Errorf("%s: got %v, want that 7 are missing", args[0], err)
		}
	}
	address, stop = serveOn(t, "--data", folder, "--accept-loss")
	wantChain(t, connect(t, address), ids[0])
	if log := stop(); !strings.Contains(log, `"level":"ERROR","msg":"entries that were acknowledged are missing; they are given up, because --accept-loss is given"`) || !strings.Contains(log, `"missing":7`) {
		t.Errorf("got the log %s, want it to say what is given up", log)
	}
	if _, stderr, err := xuncha(t, "copy", "--from", folder, "--to", to); err != nil {
		t.Error(err, stderr)
	}
}
