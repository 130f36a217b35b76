package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

// markFolder names the environment variable by which the test binary is told to write
// many entries to a folder, and to wait for its end once the mark says so.
const markFolder = "XUNCHA_TEST_MARK_FOLDER"

// manyEntries is how many those are.
const manyEntries = 4000

func init() {
	if dir := os.Getenv(markFolder); dir != "" {
		fmt.Fprintln(os.Stderr, writeAndWait(dir))
		os.Exit(1)
	}
}

// writeAndWait writes from 16 goroutines, says how many entries there are once the mark
// says the same, and waits until its input ends.
func writeAndWait(dir string) error {
	s, err := Open(context.Background(), dir, Options{})
	if err != nil {
		return err
	}
	var writers sync.WaitGroup
	errs := make(chan error, 16)
	for w := range 16 {
		writers.Go(func() {
			for i := range manyEntries / 16 {
				d := draft(fmt.Sprintf("killed-%d-%d", w, i))
				d.History = sites.SiteID(fmt.Sprint(i % 5)).History()
				if _, _, err := s.Append(context.Background(), d); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	writers.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	n, err := s.CountEntries(context.Background())
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if m, err := readMark(dir); err == nil && m.entry == n {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("the mark does not follow")
		}
	}
	fmt.Println(n)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// killedFolder returns a folder whose server was killed: some entries are in its
// database, and the others, manyEntries, in its log.
func killedFolder(t *testing.T) (dir string, acknowledged int64) {
	t.Helper()
	dir = t.TempDir()
	s, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		mustAppend(t, s, draft(fmt.Sprint("before-", i)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), markFolder+"="+dir)
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscan(out, &acknowledged); err != nil {
		t.Errorf("the writing process does not say how far it came: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the writing process ended by itself: %v: %s", err, stderr.String())
	}
	return dir, acknowledged
}

// TestLostEntriesAreNoticed damages what a killed server has left, and holds that the
// next start says how many entries are missing, changes nothing, and goes on where it is
// told to.
func TestLostEntriesAreNoticed(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(wal string) error
	}{
		{"one bit of the log", func(wal string) error {
			b, err := os.ReadFile(wal)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 0x10
			return os.WriteFile(wal, b, 0o600)
		}},
		{"the log removed", os.Remove},
		{"the log cut", func(wal string) error { return os.Truncate(wal, 100_000) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, acknowledged := killedFolder(t)
			if err := c.damage(filepath.Join(dir, File+"-wal")); err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir)
			_, err := Open(t.Context(), dir, Options{})
			var loss *LossError
			if !errors.As(err, &loss) || !errors.Is(err, ErrLost) {
				t.Fatalf("got %v, want a LossError", err)
			}
			if after := contents(t, dir); !equalButLock(before, after) {
				t.Errorf("the folder has changed from %s to %s", names(before), names(after))
			}
			for _, want := range []string{fmt.Sprintf("%d are missing", loss.Missing()), "xuncha.db-wal", "--accept-loss", markFile, dir} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %q", err, want)
				}
			}

			var log bytes.Buffer
			s, err := Open(t.Context(), dir, Options{AcceptLoss: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			left := int64(len(mustReadAll(t, s)))
			if loss.Missing() != acknowledged-left || left < 500 || loss.Missing() < 1 {
				t.Errorf("%d entries were acknowledged and %d are left, and %d are said to be missing", acknowledged, left, loss.Missing())
			}
			if want := fmt.Sprintf("level=ERROR msg=\"entries that were acknowledged are missing; they are given up, because --accept-loss is given\" folder=%s missing=%d", dir, loss.Missing()); !strings.Contains(log.String(), want) {
				t.Errorf("got the log %s, want %s", log.String(), want)
			}
			reopen(t, s) // without being told to: it is accepted once
			t.Logf("%d of %d entries were lost", loss.Missing(), acknowledged)
		})
	}
}

// What a killed server has acknowledged is there, and no mark says otherwise.
func TestKilledAndNothingLost(t *testing.T) {
	dir, acknowledged := killedFolder(t)
	if got := int64(len(mustReadAll(t, openIn(t, dir)))); got != acknowledged {
		t.Errorf("got %d entries, want %d", got, acknowledged)
	}
}

// contents returns what lies in a folder, by path.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			out[path] = ""
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// equalButLock reports whether two contents are the same but for the process that had the
// lock, and the shared index, which follows from the log.
func equalButLock(a, b map[string]string) bool {
	for path := range a {
		if name := filepath.Base(path); name != "LOCK" && name != File+"-shm" && a[path] != b[path] {
			return false
		}
	}
	return names(a) == names(b)
}

func names(m map[string]string) string {
	var out []string
	for path := range m {
		out = append(out, filepath.Base(path))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// folderOf fills a folder with some entries and a photo and returns it closed.
func folderOf(t *testing.T, ids ...string) string {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		mustAppend(t, s, draft(id))
	}
	keep(t, s, []byte("a picture"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestMarkAndBackups holds which databases may lie beside which marks.
func TestMarkAndBackups(t *testing.T) {
	older, newer := folderOf(t, "a", "b"), folderOf(t, "a", "b", "c", "d")
	foreign := folderOf(t, "e", "f", "g", "h")
	file := func(dir, name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		name    string
		arrange func(t *testing.T, dir string) // a copy of newer
		missing int64
		says    string // of the error; empty for none
	}{
		{"nothing changed", func(*testing.T, string) {}, 0, ""},
		{"an older mark", func(t *testing.T, dir string) { copyFile(t, file(older, markFile), file(dir, markFile)) }, 0, ""},
		{"no mark", func(t *testing.T, dir string) { os.Remove(file(dir, markFile)) }, 0, ""},
		{"an empty mark", func(t *testing.T, dir string) { os.Truncate(file(dir, markFile), 0) }, 0, ""},
		{"a torn mark", func(t *testing.T, dir string) {
			// As after a power cut that has let half of a newer one through.
			m := []byte(mark{entry: 1 << 40}.String())
			b, _ := os.ReadFile(file(dir, markFile))
			copy(b, m[:40])
			os.WriteFile(file(dir, markFile), b, 0o600)
		}, 0, ""},
		{"an older database", func(t *testing.T, dir string) { copyFile(t, file(older, File), file(dir, File)) }, 2, "so 2 are missing"},
		{"an older database without the mark", func(t *testing.T, dir string) {
			copyFile(t, file(older, File), file(dir, File))
			os.Remove(file(dir, markFile))
		}, 0, ""},
		{"another database", func(t *testing.T, dir string) { copyFile(t, file(foreign, File), file(dir, File)) }, 0, "another database lies in the folder"},
		{"the newest entry altered", func(t *testing.T, dir string) {
			writeDatabase(t, file(dir, File), `UPDATE entries SET hash = zeroblob(32) WHERE entry = 4`)
		}, 0, ""}, // which is for the one who checks the histories
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{File, markFile} {
				copyFile(t, file(newer, name), file(dir, name))
			}
			c.arrange(t, dir)
			s, err := Open(t.Context(), dir, Options{})
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if now, err := readMark(dir); err != nil || now.entry < 2 {
					t.Errorf("got the mark %+v, %v, want one again", now, err)
				}
				return
			}
			var loss *LossError
			if !errors.As(err, &loss) || loss.Missing() != c.missing || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want one that says %q, and %d missing", err, c.says, c.missing)
			}
			s, err = Open(t.Context(), dir, Options{AcceptLoss: true})
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, s, draft("next"))
			reopen(t, s)
		})
	}
}

// TestDatabaseMissing holds that a folder which has lost its database is not opened, and
// that nothing is made or deleted in it.
func TestDatabaseMissing(t *testing.T) {
	empty := t.TempDir()
	s, err := Open(t.Context(), empty, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	remove := func(names ...string) func(string) error {
		return func(dir string) error {
			var errs []error
			for _, name := range names {
				errs = append(errs, os.Remove(filepath.Join(dir, name)))
			}
			return errors.Join(errs...)
		}
	}
	for _, c := range []struct {
		name  string
		lose  func(dir string) error
		says  string
		first bool // whether a copy may go on there
	}{
		{"moved aside", remove(File, markFile), "xuncha.db is not there, and the folder has photos", true},
		{"moved aside, beside its mark", remove(File), "xuncha.db is not there, and the folder has a mark of 2 entries", false},
		{"no bytes", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, markFile)), os.Truncate(filepath.Join(dir, File), 0))
		}, "xuncha.db is empty, and the folder has photos", true},
		{"a new one in its place", func(dir string) error {
			copyFile(t, filepath.Join(empty, File), filepath.Join(dir, File))
			return os.Remove(filepath.Join(dir, markFile))
		}, "xuncha.db has no entries, and the folder has photos", true},
		{"its log alone", func(dir string) error {
			return errors.Join(remove(File, markFile)(dir), os.RemoveAll(filepath.Join(dir, photosFolder)),
				os.WriteFile(filepath.Join(dir, File+"-wal"), []byte("a log"), 0o600))
		}, "xuncha.db is not there, and the folder has the log of one", false},
		{"a part of a photo alone", func(dir string) error {
			return errors.Join(remove(File, markFile)(dir), os.RemoveAll(filepath.Join(dir, photosFolder)),
				os.MkdirAll(filepath.Join(dir, photosFolder, incomingFolder), 0o700),
				os.WriteFile(filepath.Join(dir, photosFolder, incomingFolder, "s_c_h"), []byte("a part"), 0o600))
		}, "xuncha.db is not there, and the folder has photos", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folderOf(t, "a", "b")
			if err := c.lose(dir); err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir)
			_, err := Open(t.Context(), dir, Options{})
			if !errors.Is(err, ErrLost) {
				t.Fatalf("got %v, want ErrLost", err)
			}
			for _, want := range []string{"the database is missing", c.says, "back", "--accept-loss", dir} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %q", err, want)
				}
			}
			if after := contents(t, dir); !equalButLock(before, after) {
				t.Errorf("the folder has changed from %s to %s", names(before), names(after))
			}
			o := Options{AcceptLoss: true}
			if c.first {
				o = Options{PhotosFirst: true}
			}
			s, err := Open(t.Context(), dir, o)
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, s, draft("next"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			openIn(t, dir)
		})
	}
}

// A folder that was made and never used opens, also where a crash came early.
func TestOpenEarlyCrash(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, File), nil, 0o600), os.MkdirAll(filepath.Join(dir, photosFolder, incomingFolder), 0o700)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := Open(t.Context(), dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A database that was cut short is refused with words that say so.
func TestOpenCutShort(t *testing.T) {
	dir := folderOf(t, "a", "b")
	path := filepath.Join(dir, File)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{info.Size() / 2, 4096, 50} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), dir, Options{})
		if err == nil {
			s.Close()
			t.Fatalf("cut to %d bytes, it opens", size)
		}
		t.Logf("%d bytes: %v", size, err)
		if !strings.Contains(err.Error(), "cut short") && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrLost) {
			t.Errorf("cut to %d bytes: got %q, want it to say so", size, err)
		}
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add(mark{entry: 9940, hash: ledger.Hash{1}, before: ledger.Hash{2}}.String())
	f.Add("xuncha-mark-1 00000000000000000001")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMark(text)
		if err == nil && m.String() != text {
			t.Errorf("%q is read as %q", text, m)
		}
	})
}

// The bytes of a mark are a promise: older versions leave them to newer ones.
func TestMark(t *testing.T) {
	m := mark{entry: 9940, hash: ledger.Hash{0xab}, before: ledger.Hash{31: 0xcd}}
	const want = "xuncha-mark-1 00000000000000009940 ab00000000000000000000000000000000000000000000000000000000000000 00000000000000000000000000000000000000000000000000000000000000cd 85d628c9\n"
	if m.String() != want {
		t.Errorf("got %q, want %q", m, want)
	}
	if got, err := parseMark(want); err != nil || got != m {
		t.Errorf("got %+v, %v", got, err)
	}
	for i := range want {
		b := []byte(want)
		b[i] ^= 1
		if got, err := parseMark(string(b)); err == nil {
			t.Errorf("with byte %d altered it is read as %+v", i, got)
		}
	}
}
