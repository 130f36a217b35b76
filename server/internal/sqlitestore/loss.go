package sqlitestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/server/internal/engine"
)

// ErrLost means that a data folder lacks entries that were acknowledged, or its whole
// database. The error is a *LossError.
var ErrLost = errors.New("what was acknowledged is missing")

// A LossError says what a data folder lacks.
type LossError struct {
	// Had is how many entries the database had at least, as its mark says, and Has how
	// many it has. Had is 0 where there is no mark.
	Had, Has int64
	// Other tells that the database has as many, but others.
	Other bool
	// Why says what was found.
	Why string
}

// Missing returns how many entries are missing at least. Where the database is another
// one nobody can tell; then it is 0.
func (e *LossError) Missing() int64 { return max(0, e.Had-e.Has) }

// The ways out, which end each refusal.
const (
	wayBack = "Put the newest copies of xuncha.db and, where there is one, xuncha.db-wal back"
	wayOn   = "To go on without what is missing, copy the folder first, and then give --accept-loss"
)

func (e *LossError) Error() string {
	return fmt.Sprintf("%s. Nothing was changed. %s. %s", e.Why, wayBack, wayOn)
}

// Is lets errors.Is find it as ErrLost.
func (e *LossError) Is(target error) bool { return target == ErrLost }

// missingEntries is the loss of the entries behind those that a database has.
func missingEntries(had, has int64) *LossError {
	return &LossError{Had: had, Has: has, Why: fmt.Sprintf(
		"entries that were acknowledged are missing: the database has %d and had %d at least, so %d are missing. The log xuncha.db-wal may have been removed or damaged, or an older copy of xuncha.db put in its place. If an older backup was put there on purpose, delete the file %s", has, had, had-has, markFile)}
}

// otherEntries is that of a database which is not the one of the mark.
func otherEntries(had, has int64) *LossError {
	return &LossError{Had: had, Has: has, Other: true, Why: fmt.Sprintf(
		"another database lies in the folder: its entry %d is not the one that was acknowledged. Another deployment's xuncha.db, or an older copy that was used elsewhere since, may have been put in its place. If it was put there on purpose, delete the file %s", had, markFile)}
}

// missingDatabase is the loss of the whole database.
func missingDatabase(had int64, state, trace string) *LossError {
	return &LossError{Had: had, Why: fmt.Sprintf(
		"the database is missing: %s %s, and the folder has %s", File, state, trace)}
}

// checkFolder looks, before anything is made in a folder, whether it had a database that
// is missing now or has no bytes.
func checkFolder(dir string, o Options) error {
	info, err := os.Stat(filepath.Join(dir, File))
	state := "is empty"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		state = "is not there"
	case err != nil:
		return err
	case info.Size() > 0:
		return nil
	}
	if m, err := readMark(dir); err == nil {
		return missingDatabase(m.entry, state, fmt.Sprintf("a mark of %d entries that were acknowledged", m.entry))
	}
	if info, err := os.Stat(filepath.Join(dir, File+"-wal")); err == nil && info.Size() > 0 {
		return missingDatabase(0, state, "the log of one, "+File+"-wal")
	}
	return checkPhotos(dir, state, o)
}

// checkPhotos looks whether a folder whose database has no entries has photos.
func checkPhotos(dir, state string, o Options) error {
	if o.PhotosFirst {
		return nil
	}
	found, err := anyPhoto(filepath.Join(dir, photosFolder))
	if err != nil || !found {
		return err
	}
	return missingDatabase(0, state, "photos")
}

// anyPhoto reports whether there is a photo in the folder of photos, or a part of one.
func anyPhoto(dir string) (found bool, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == newFolder:
			return fs.SkipDir // what lies there belongs to nobody yet
		case d.IsDir():
			return nil
		}
		_, err = inspections.ParseDigest(d.Name())
		if err == nil || filepath.Base(filepath.Dir(path)) == incomingFolder {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found, err
}

// topEntries has the newest entry and the one before.
const topEntries = `SELECT entry, hash FROM entries ORDER BY entry DESC`

// top returns the mark of a database as it is. One without a schema has none.
func top(conn *sqlite.Conn) (m mark, err error) {
	tables, err := number(conn, `SELECT count(*) FROM sqlite_schema WHERE name = 'entries'`)
	if err != nil || tables == 0 {
		return mark{}, err
	}
	hashes := [2]*ledger.Hash{&m.hash, &m.before}
	n := 0
	err = query(conn, topEntries, len(hashes), func(*sqlite.Stmt) {}, func(stmt *sqlite.Stmt) {
		if n == 0 {
			m.entry = stmt.ColumnInt64(0)
		}
		if stmt.ColumnInt64(0) == m.entry-int64(n) {
			stmt.ColumnBytes(1, hashes[n][:])
		}
		n++
	})
	return m, err
}

const entryHash = `SELECT hash FROM entries WHERE entry = +?`

// hasEntry reports whether the database has the entry of a row with the hash. A hash that is
// not known is that of any.
func hasEntry(conn *sqlite.Conn, row int64, want ledger.Hash) (has bool, err error) {
	if row < 1 || want == (ledger.Hash{}) {
		return true, nil
	}
	var got ledger.Hash
	err = query(conn, entryHash, 1, func(stmt *sqlite.Stmt) { stmt.BindInt64(1, row) },
		func(stmt *sqlite.Stmt) { stmt.ColumnBytes(0, got[:]) })
	return got == want, err
}

// checkEntries compares the database with the mark beside it. It returns the mark that
// the database would have now, and whether the one beside it has to be written anew. A
// database that cannot be read here is none that has less than it had.
func checkEntries(conn *sqlite.Conn, dir string, o Options) (now mark, renew bool, err error) {
	if now, err = top(conn); err != nil {
		if isDamage(err) {
			return mark{}, false, nil
		}
		return mark{}, false, err
	}
	said, err := readMark(dir)
	if err != nil {
		if now.entry == 0 {
			return now, false, checkPhotos(dir, "has no entries", o)
		}
		return now, true, nil
	}
	if said.entry > now.entry {
		return now, true, missingEntries(said.entry, now.entry)
	}
	// One entry that differs was altered, which its history says. Where the one before
	// differs too, it is another database.
	newest, err := hasEntry(conn, said.entry, said.hash)
	if err == nil && !newest {
		var older bool
		if older, err = hasEntry(conn, said.entry-1, said.before); err == nil && (!older || said.entry == 1) {
			return now, true, otherEntries(said.entry, now.entry)
		}
	}
	if isDamage(err) {
		err = nil
	}
	return now, false, err
}

// accept goes on with a loss where the options say so.
func (o Options) accept(dir string, err error) error {
	var loss *LossError
	if !errors.As(err, &loss) || !o.AcceptLoss {
		return err
	}
	o.Log.Error("entries that were acknowledged are missing; they are given up, because --accept-loss is given",
		"folder", dir, "missing", loss.Missing(), "had", loss.Had, "has", loss.Has, "reason", loss.Why)
	return nil
}

// renewMark writes the mark of what the database has, once that would survive a power
// cut: the last commit before a crash may not have been flushed.
func (s *Store) renewMark(conn *sqlite.Conn, now mark) error {
	if now.entry == 0 {
		return engine.Remove(s.marker.path)
	}
	// A commit flushes the whole log. Opening the files here and closing them would take
	// SQLite's locks away.
	err := query(conn, `UPDATE indexed SET entry = entry`, 1, func(*sqlite.Stmt) {}, func(*sqlite.Stmt) {})
	if err != nil && !isDamage(err) && sqlite.ErrCode(err).ToPrimary() != sqlite.ResultConstraint {
		return err
	}
	s.marker.mu.Lock()
	defer s.marker.mu.Unlock()
	s.marker.write()
	return nil
}

// untouched returns what undoes that the database was looked at: SQLite makes its log and
// its index where they are not there, and leaves them. Call it once no connection is open.
func untouched(dir string) (restore func()) {
	var made []string
	for _, name := range []string{File + "-wal", File + "-shm"} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			made = append(made, filepath.Join(dir, name))
		}
	}
	return func() {
		for _, path := range made {
			// A log with anything in it would not be of this look.
			if info, err := os.Stat(path); err == nil && (info.Size() == 0 || filepath.Base(path) == File+"-shm") {
				_ = os.Remove(path) // it is empty, and in nobody's way
			}
		}
	}
}
