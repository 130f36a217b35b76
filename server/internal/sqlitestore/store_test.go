package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/sites"
)

// open opens a store in a new folder.
func open(tb testing.TB) *Store {
	tb.Helper()
	return openIn(tb, filepath.Join(tb.TempDir(), "data"))
}

// openIn opens the store in a folder and closes it when the test ends.
func openIn(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), dir, Options{PhotosFirst: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func reopen(tb testing.TB, s *Store) *Store {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return openIn(tb, filepath.Dir(s.lock.Name()))
}

const site = sites.SiteID("00000000-0000-4000-8000-000000000001")

func draft(id string) ledger.Draft {
	return ledger.Draft{
		History: site.History(), ID: id, Kind: inspections.KindCheckIn, Time: time.Unix(1580515200, 0),
		Account: "local", Content: []byte(`{"finding":"closed"}`),
	}
}

func mustAppend(tb testing.TB, s *Store, d ledger.Draft) ledger.Entry {
	tb.Helper()
	e, _, err := s.Append(tb.Context(), d)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// mustReadAll returns all entries by their ids, and checks every chain.
func mustReadAll(tb testing.TB, s *Store) map[string]ledger.Entry {
	tb.Helper()
	heads := map[ledger.History]ledger.Head{}
	entries := map[string]ledger.Entry{}
	for fed, err := range s.Feed(tb.Context(), "") {
		e := fed.Entry
		if err == nil {
			heads[e.History], err = heads[e.History].Follow(e)
		}
		if err != nil {
			tb.Fatal(err)
		}
		e.Record = bytes.Clone(e.Record)
		if _, double := entries[e.ID]; double {
			tb.Errorf("two entries have the id %s", e.ID)
		}
		entries[e.ID] = e
	}
	return entries
}

// mustExec runs SQL on the writer's connection, while nobody writes.
func mustExec(tb testing.TB, conn *sqlite.Conn, sql string) {
	tb.Helper()
	if err := sqlitex.ExecuteTransient(conn, sql, nil); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

func TestOpenOnlyForOwner(t *testing.T) {
	s := open(t)
	mustAppend(t, s, draft("a"))
	keep(t, s, []byte("a picture"))
	dir := filepath.Dir(s.lock.Name())
	names := ""
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		// Windows has other rights than these, and Go shows none of them.
		if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
			t.Errorf("%s has mode %o, want nothing for group and others", d.Name(), mode)
		}
		names += " " + d.Name()
		return nil
	})
	if want := " data LOCK mark photos 92 b2 92b2fa58028958317e408bd84ecfa70f5ee35b121991dbc232c49d166353708b incoming new xuncha.db xuncha.db-shm xuncha.db-wal"; err != nil || names != want {
		t.Errorf("got files%s and error %v, want%s", names, err, want)
	}
}

func TestOpenLocked(t *testing.T) {
	s := open(t)
	dir := filepath.Dir(s.lock.Name())
	_, err := Open(t.Context(), dir, Options{})
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	for _, want := range []string{dir, fmt.Sprint("process ", os.Getpid())} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want it to name %q", err, want)
		}
	}
	mustAppend(t, s, draft("a"))
	reopen(t, s)
}

// A file that is refused is left as it is.
func TestOpenForeign(t *testing.T) {
	for _, c := range []struct {
		name  string
		write func(t *testing.T, path string)
		want  error
		says  []string
	}{
		{"text", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign, []string{"no SQLite file"}},
		{"other program", func(t *testing.T, path string) {
			writeDatabase(t, path, `CREATE TABLE notes (text)`)
		}, ErrForeign, []string{"another program"}},
		{"other program's mark", func(t *testing.T, path string) {
			writeDatabase(t, path, `PRAGMA application_id = 7`)
		}, ErrForeign, []string{"another program"}},
		{"newer version", func(t *testing.T, path string) {
			writeDatabase(t, path, fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = 97`, applicationID))
		}, ErrNewer, []string{"version 97", fmt.Sprintf("up to %d", len(migrations))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, File)
			c.write(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), dir, Options{})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			for _, want := range append(c.says, dir) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %q", err, want)
				}
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed (or %v)", err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			openIn(t, dir)
		})
	}
}

// writeDatabase makes a database file with a script.
func writeDatabase(tb testing.TB, path, script string) {
	tb.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(sqlitex.ExecuteScript(conn, script, nil), conn.Close()); err != nil {
		tb.Fatal(err)
	}
}

// TestOpenHalfMade opens a folder whose power was cut while the database was made, before
// it had a write-ahead log.
func TestOpenHalfMade(t *testing.T) {
	made, dir := t.TempDir(), t.TempDir()
	conn, err := sqlite.OpenConn(filepath.Join(made, File), sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, do := range []string{
		`PRAGMA cache_size = 1`, // so that the transaction is written before its end
		`BEGIN`,
		`CREATE TABLE x (y BLOB)`,
		`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) INSERT INTO x SELECT zeroblob(3000) FROM n`,
	} {
		if err := sqlitex.ExecuteTransient(conn, do, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{File, File + "-journal"} {
		b, err := os.ReadFile(filepath.Join(made, name))
		if err == nil && len(b) == 0 {
			err = errors.New("is empty")
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(name, err)
		}
	}
	s := openIn(t, dir)
	if _, _, err := s.Append(t.Context(), draft("a")); err != nil {
		t.Fatal(err)
	}
}

// TestOpenVersion1 opens a folder as version 1 of the schema left it.
func TestOpenVersion1(t *testing.T) {
	script, err := os.ReadFile("testdata/version1.sql")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeDatabase(t, filepath.Join(dir, File), string(script))
	s := openIn(t, dir)
	entries := mustReadAll(t, s)
	if len(entries) != 4 {
		t.Errorf("got %d entries, want 4", len(entries))
	}
	const record = `{"format":1,"history":"site/00000000-0000-4000-8000-000000000001","sequence":2,"kind":"check_in","id":"b","receive_time":"2020-02-01T00:00:00Z","account":"local","content":{"finding":"closed"}}`
	if got := string(entries["b"].Record); got != record {
		t.Errorf("got record %s, want %s", got, record)
	}
	roster, err := s.Span(t.Context(), ledger.Roster, 0, 10)
	if err != nil || len(roster) != 1 {
		t.Fatalf("got %d roster entries and error %v, want 1", len(roster), err)
	}
	rows, err := s.Rows(t.Context(), "fed4e0f1e35c40689b9eeffe523ea8501c405bed260ddd1fa8262758110410e5")
	if err != nil || string(rows) != "code,name\n511602,广安区\n" {
		t.Errorf("got rows %q and error %v", rows, err)
	}
	if e := mustAppend(t, s, draft("next")); e.Sequence != 3 {
		t.Errorf("got sequence %d, want 3", e.Sequence)
	}
	mustReadAll(t, s)
	// What version 1 had no place for.
	if err := s.PutSecret(t.Context(), "name", 0, []byte("value")); err != nil {
		t.Error(err)
	}
}

// A step of a migration is made whole or not at all.
func TestMigrate(t *testing.T) {
	s := open(t)
	want := mustAppend(t, s, draft("a"))
	broken := append(migrations[:len(migrations):len(migrations)],
		`ALTER TABLE entries ADD COLUMN extra TEXT; INSERT INTO no_such_table VALUES (1);`)
	mended := append(migrations[:len(migrations):len(migrations)],
		`ALTER TABLE entries ADD COLUMN extra TEXT; UPDATE entries SET extra = id;`)
	next := fmt.Sprint("version ", len(mended))
	if err := migrate(s.writer.conn, broken); err == nil || !strings.Contains(err.Error(), next) {
		t.Errorf("got %v, want an error that names %s", err, next)
	}
	s = reopen(t, s)
	if err := migrate(s.writer.conn, mended); err != nil {
		t.Fatal(err)
	}
	if got := mustReadAll(t, s)["a"]; !bytes.Equal(got.Record, want.Record) {
		t.Errorf("got record %s, want %s", got.Record, want.Record)
	}
	dir := filepath.Dir(s.lock.Name())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), next) {
		t.Errorf("got %v, want ErrNewer with %s", err, next)
	}
}

func TestClose(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Calls that are under way end well; those that come later are refused.
	var calls sync.WaitGroup
	var mu sync.Mutex
	stored := map[string]ledger.Entry{}
	started := make(chan bool, 16)
	for w := range 16 {
		calls.Go(func() {
			for i := 0; ; i++ {
				e, _, err := s.Append(context.Background(), draft(fmt.Sprint(w, "-", i)))
				if err != nil {
					if !errors.Is(err, ledger.ErrUnavailable) {
						t.Errorf("got %v, want ErrUnavailable", err)
					}
					return
				}
				mu.Lock()
				stored[e.ID] = e
				mu.Unlock()
				if i == 0 {
					started <- true
				}
			}
		})
	}
	for range 16 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	calls.Wait()
	if err := s.Close(); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if _, err := s.Newest(t.Context(), site.History(), 0, 1); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	s, err = Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := mustReadAll(t, s); len(got) != len(stored) {
		t.Errorf("got %d entries, want the %d acknowledged", len(got), len(stored))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// hold keeps the writer busy until release is called.
func hold(tb testing.TB, s *Store) (release func()) {
	tb.Helper()
	held, free := make(chan bool), make(chan bool)
	var call sync.WaitGroup
	call.Go(func() {
		err := s.write(tb.Context(), func(*writer) error {
			close(held)
			<-free
			return nil
		})
		if err != nil {
			tb.Error(err)
		}
	})
	<-held
	return func() {
		close(free)
		call.Wait()
	}
}

// waitFor returns once n writes wait for their turn.
func waitFor(s *Store, n int) {
	for s.writer.queue.Len() < n {
		runtime.Gosched()
	}
}

// A caller that leaves before its turn need not wait, and stores nothing.
func TestAppendCancelledInQueue(t *testing.T) {
	s := open(t)
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, _, err := s.Append(ctx, draft("a"))
		left <- err
	}()
	waitFor(s, 1)
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	release()
	// Nor does one whose context ends in the very moment of its turn.
	ctx, cancel = context.WithCancel(t.Context())
	errs := queue(t, s,
		func() error { return s.write(t.Context(), func(*writer) error { cancel(); return nil }) },
		func() error { _, _, err := s.Append(ctx, draft("a")); return err })
	if errs[0] != nil || !errors.Is(errs[1], context.Canceled) {
		t.Errorf("got %v, want only the second to be context.Canceled", errs)
	}
	if _, err := s.Entry(t.Context(), site.History(), "a"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if e := mustAppend(t, s, draft("b")); e.Sequence != 1 {
		t.Errorf("got sequence %d, want 1", e.Sequence)
	}
}

// queue makes the calls wait for the writer together, in their order, and
// returns their errors.
func queue(tb testing.TB, s *Store, calls ...func() error) []error {
	tb.Helper()
	release := hold(tb, s)
	errs := make([]error, len(calls))
	var all sync.WaitGroup
	for i, call := range calls {
		all.Go(func() { errs[i] = call() })
		waitFor(s, i+1)
	}
	release()
	all.Wait()
	return errs
}

// appendCall returns a call that stores a draft with the id.
func appendCall(tb testing.TB, s *Store, id string) func() error {
	return func() error {
		_, _, err := s.Append(tb.Context(), draft(id))
		return err
	}
}

func TestRefusalHoldsNobodyUp(t *testing.T) {
	s := open(t)
	errs := queue(t, s,
		appendCall(t, s, "a"),
		func() error {
			_, err := s.AppendAfter(t.Context(), 7, ledger.Draft{History: ledger.Roster, ID: "moved", Content: []byte(`{}`)})
			return err
		},
		appendCall(t, s, "b"))
	if errs[0] != nil || !errors.Is(errs[1], ledger.ErrMoved) || errs[2] != nil {
		t.Errorf("got %v, want only the second refused, with ErrMoved", errs)
	}
	if got := mustReadAll(t, s); len(got) != 2 {
		t.Errorf("got %d entries, want 2", len(got))
	}
}

// Where a transaction fails, nobody in it is told that anything is stored.
func TestFailedCommit(t *testing.T) {
	s := open(t)
	mustAppend(t, s, draft("before"))
	mustExec(t, s.writer.conn, `CREATE TEMP TRIGGER disk_error BEFORE INSERT ON main.entries WHEN new.id = 'c'
		BEGIN SELECT RAISE(ROLLBACK, 'as a disk error would'); END`)
	for _, err := range queue(t, s, appendCall(t, s, "a"), appendCall(t, s, "b"), appendCall(t, s, "c"), appendCall(t, s, "d")) {
		if err == nil {
			t.Error("got no error, want the transaction's")
		}
	}
	if got := mustReadAll(t, s); len(got) != 1 {
		t.Errorf("got %d entries, want 1", len(got))
	}
	mustExec(t, s.writer.conn, `DROP TRIGGER disk_error`)
	for i, err := range queue(t, s, appendCall(t, s, "d"), appendCall(t, s, "c"), appendCall(t, s, "a")) {
		if err != nil {
			t.Errorf("call %d again: %v", i, err)
		}
	}
	if got := mustReadAll(t, s); len(got) != 4 {
		t.Errorf("got %d entries, want 4", len(got))
	}
}

// What is a fault of the disk may be tried again; what is wrong with a statement may not.
func TestTranslate(t *testing.T) {
	for code, want := range map[sqlite.ResultCode]error{
		sqlite.ResultFull: ledger.ErrFull, sqlite.ResultIOErrSHMSize: ledger.ErrFull,

		sqlite.ResultBusy: ledger.ErrUnavailable, sqlite.ResultBusySnapshot: ledger.ErrUnavailable,
		sqlite.ResultLocked: ledger.ErrUnavailable, sqlite.ResultProtocol: ledger.ErrUnavailable,
		sqlite.ResultNoMem: ledger.ErrUnavailable, sqlite.ResultIOErrFsync: ledger.ErrUnavailable,
		sqlite.ResultIOErrNoMem: ledger.ErrUnavailable, sqlite.ResultReadOnlyCantLock: ledger.ErrUnavailable,
		sqlite.ResultCantOpen: ledger.ErrUnavailable, sqlite.ResultPerm: ledger.ErrUnavailable,
		sqlite.ResultSchema: ledger.ErrUnavailable, sqlite.ResultAbortRollback: ledger.ErrUnavailable,
		sqlite.ResultCode(99): ledger.ErrUnavailable, // which SQLite does not have yet

		sqlite.ResultReadOnly: ledger.ErrUnavailable, sqlite.ResultIOErr: ledger.ErrUnavailable,
		sqlite.ResultIOErrRead: ledger.ErrUnavailable, sqlite.ResultIOErrWrite: ledger.ErrUnavailable,
		sqlite.ResultCorrupt: ErrDamaged, sqlite.ResultCorruptVTab: ErrDamaged, sqlite.ResultNotADB: ErrDamaged,

		sqlite.ResultError: nil, sqlite.ResultConstraintUnique: nil, sqlite.ResultTooBig: ErrDamaged, sqlite.ResultMisuse: nil,
	} {
		err := fmt.Errorf("a step: %w", code.ToError())
		got := translate(err)
		if want == nil && got != err || want != nil && !errors.Is(got, want) {
			t.Errorf("%v: got %v, want %v", code, got, want)
		}
		if want == ErrDamaged && !errors.Is(got, ledger.ErrUnavailable) {
			t.Errorf("%v: got %v, want ErrUnavailable too", code, got)
		}
	}
	if got := translate(ledger.ErrNotFound); got != ledger.ErrNotFound {
		t.Errorf("got %v, want it as it is", got)
	}
	if translate(nil) != nil {
		t.Error("nothing became an error")
	}
}

func TestReadOnly(t *testing.T) {
	s := open(t)
	mustAppend(t, s, draft("a"))
	mustExec(t, s.writer.conn, `PRAGMA query_only = 1`)
	if err := appendCall(t, s, "b")(); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	mustExec(t, s.writer.conn, `PRAGMA query_only = 0`)
	mustAppend(t, s, draft("b"))
	if got := mustReadAll(t, s); len(got) != 2 {
		t.Errorf("got %d entries, want 2", len(got))
	}
}

func TestDiskFull(t *testing.T) {
	s := open(t)
	pages, err := number(s.writer.conn, `PRAGMA page_count`)
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, s.writer.conn, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+40))
	const writers = 32
	var mu sync.Mutex
	stored := map[string]bool{}
	var refused []string
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprint(w, "-", i)
				err := appendCall(t, s, id)()
				mu.Lock()
				if err == nil {
					stored[id] = true
				} else {
					refused = append(refused, id)
				}
				mu.Unlock()
				if err != nil {
					if !errors.Is(err, ledger.ErrFull) {
						t.Errorf("got %v, want ErrFull", err)
					}
					return
				}
			}
		})
	}
	all.Wait()
	check := func() {
		t.Helper()
		got := mustReadAll(t, s)
		if len(got) != len(stored) {
			t.Errorf("got %d entries, want the %d acknowledged", len(got), len(stored))
		}
		for id := range stored {
			if _, ok := got[id]; !ok {
				t.Errorf("the entry %s was acknowledged and is not there", id)
			}
		}
	}
	check()
	rows := make([]byte, 3*partSize)
	if err := s.PutRows(t.Context(), "sum", rows); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if _, err := s.Rows(t.Context(), "sum"); !errors.Is(err, sites.ErrRowsUnknown) {
		t.Errorf("got %v, want ErrRowsUnknown", err)
	}
	mustExec(t, s.writer.conn, `PRAGMA max_page_count = 1000000`)
	for _, id := range refused {
		mustAppend(t, s, draft(id))
		stored[id] = true
	}
	if err := s.PutRows(t.Context(), "sum", rows); err != nil {
		t.Error(err)
	}
	s = reopen(t, s)
	check()
}

// The log starts anew now and then, also while somebody reads everything, and
// who reads everything may use the store meanwhile.
func TestLogStaysBounded(t *testing.T) {
	t.Parallel()
	s := open(t)
	mustAppend(t, s, draft("first"))
	mustAppend(t, s, draft("second"))
	for range 2 * readers {
		// A page that ends before the history does must let go of the log too.
		if _, err := s.Newest(t.Context(), site.History(), 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	const count = 1500
	content := []byte(`{"note":"` + strings.Repeat("x", ledger.MaxContent-11) + `"}`)
	var largest int64
	for _, err := range s.Feed(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		for i := range count {
			d := draft(fmt.Sprint(i))
			d.Content = content
			if _, _, err := s.Append(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			log, err := os.Stat(filepath.Join(filepath.Dir(s.lock.Name()), File+"-wal"))
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, log.Size())
		}
		break
	}
	if most := int64(32 << 20); largest > most {
		t.Errorf("the log grew to %d bytes while %d were written, want at most %d", largest, count*ledger.MaxContent, most)
	}
}
