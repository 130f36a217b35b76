package sqlitestore

import (
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// applicationID marks the file as ours: "XNCH" in ASCII.
const applicationID = 0x584e4348

var (
	// ErrForeign means that the data folder's file is not Xuncha's.
	ErrForeign = errors.New("not a data file of xuncha")
	// ErrNewer means that a newer version of Xuncha wrote the data folder.
	ErrNewer = errors.New("written by a newer version of xuncha")
)

// migrations are the steps from each schema version to the next. A step is
// never changed once released; user_version counts those that a file has had.
//
// Entries lie in the order in which they came, so a commit writes a few pages
// at the end of their table, whatever sites they are of. The indexes, places
// and slots, lag behind: they are brought up to date for many entries at once,
// because an index is written in pages and each entry lies in another one.
// Which entries they lack is known from indexed, also after a crash.
//
// Beside a record stands what would have to be parsed out of it otherwise; the
// record remains what counts.
var migrations = []string{
	`CREATE TABLE histories (
		id INTEGER PRIMARY KEY,
		name TEXT NOT NULL UNIQUE
	) STRICT;
	CREATE TABLE entries (
		entry INTEGER PRIMARY KEY, -- 1, 2, 3 … as they came
		history INTEGER NOT NULL,  -- histories.id
		sequence INTEGER NOT NULL,
		id TEXT NOT NULL,
		kind TEXT NOT NULL,
		time INTEGER NOT NULL,     -- nanoseconds since 1970-01-01 UTC
		account TEXT NOT NULL,
		hash BLOB NOT NULL,
		record BLOB NOT NULL
	) STRICT;
	CREATE TABLE places (
		place INTEGER PRIMARY KEY, -- history << 32 | sequence
		entry INTEGER NOT NULL
	) STRICT;
	CREATE TABLE ids (
		history INTEGER NOT NULL,
		id TEXT NOT NULL,
		entry INTEGER NOT NULL,
		PRIMARY KEY (history, id)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE indexed (
		entry INTEGER NOT NULL     -- the last that places and ids have
	) STRICT;
	INSERT INTO indexed VALUES (0);
	CREATE TABLE rows (
		sum TEXT NOT NULL,         -- SHA-256 of all parts together, in hexadecimal
		part INTEGER NOT NULL,     -- 0, 1, 2 …
		bytes BLOB NOT NULL,
		PRIMARY KEY (sum, part)
	) STRICT;`,
	`CREATE TABLE secrets (
		name TEXT PRIMARY KEY,
		revision INTEGER NOT NULL, -- 1, 2, 3 …
		value BLOB NOT NULL
	) STRICT, WITHOUT ROWID;`,
	`CREATE TABLE pictures (
		sum BLOB PRIMARY KEY,      -- SHA-256 of a file that was declared or stored
		site TEXT NOT NULL,        -- the check-in that it was first used for
		check_in TEXT NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE TABLE photos (
		site TEXT NOT NULL,
		check_in TEXT NOT NULL,
		sum BLOB NOT NULL,         -- SHA-256 as declared
		stored BLOB NOT NULL,      -- SHA-256 of the file that is stored
		size INTEGER NOT NULL,     -- of that file, in bytes
		content_type TEXT NOT NULL,
		closure_order TEXT NOT NULL,
		purged INTEGER NOT NULL,   -- 1 where the file is not there any more
		PRIMARY KEY (site, check_in, sum)
	) STRICT, WITHOUT ROWID;
	CREATE INDEX photos_order ON photos (closure_order, purged, site, check_in, sum);
	CREATE INDEX photos_stored ON photos (stored, purged);`,
	// Ids that were indexed before stay where they are, so that nobody waits while
	// those of millions of entries are written anew.
	`CREATE TABLE slots (
		slot INTEGER PRIMARY KEY,  -- of the history and the id, or the next one free behind it
		entry INTEGER NOT NULL
	) STRICT;`,
	`CREATE TABLE notes (
		name TEXT PRIMARY KEY,
		revision INTEGER NOT NULL, -- 1, 2, 3 …
		value BLOB NOT NULL
	) STRICT, WITHOUT ROWID;`,
}

// schemaVersion returns the schema version of the file, 0 for an empty one,
// without changing anything. The error is ErrForeign or ErrNewer where the file
// is not for this version of Xuncha, which knows the versions up to newest.
func schemaVersion(conn *sqlite.Conn, newest int) (int, error) {
	app, err := number(conn, `PRAGMA application_id`)
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultNotADB {
		return 0, fmt.Errorf("%w: %s is no SQLite file", ErrForeign, File)
	}
	if err != nil {
		return 0, err
	}
	version, err := number(conn, `PRAGMA user_version`)
	if err != nil {
		return 0, err
	}
	tables, err := number(conn, `SELECT count(*) FROM sqlite_schema`)
	if err != nil {
		return 0, err
	}
	if app != applicationID && (app != 0 || version != 0 || tables != 0) {
		return 0, fmt.Errorf("%w: %s is another program's SQLite file", ErrForeign, File)
	}
	if version > newest {
		return 0, fmt.Errorf("%w: %s has schema version %d, and this version knows those up to %d", ErrNewer, File, version, newest)
	}
	return version, nil
}

// migrate brings the file to the newest schema, each step in a transaction of
// its own, which is what ExecuteScript makes.
func migrate(conn *sqlite.Conn, steps []string) error {
	from, err := schemaVersion(conn, len(steps))
	if err != nil {
		return err
	}
	for v := from; v < len(steps); v++ {
		mark := fmt.Sprintf("\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;", applicationID, v+1)
		if err := sqlitex.ExecuteScript(conn, steps[v]+mark, nil); err != nil {
			return fmt.Errorf("migrating %s to schema version %d: %w", File, v+1, err)
		}
	}
	return nil
}

// number returns the one number that a query gives.
func number(conn *sqlite.Conn, sql string) (int, error) {
	stmt, _, err := conn.PrepareTransient(sql)
	if err != nil {
		return 0, err
	}
	defer stmt.Finalize()
	return sqlitex.ResultInt(stmt)
}
