package sqlitestore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/clock"
	"xuncha/sites"
)

// TestVersion ensures that SQLite is not one of those that can damage a file: up to
// 3.51.2, a checkpoint that ran while another connection began the log anew could.
func TestVersion(t *testing.T) {
	s := open(t)
	var version string
	err := s.read(t.Context(), func(conn *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(conn, `SELECT sqlite_version()`, &sqlitex.ExecOptions{
			ResultFunc: func(stmt *sqlite.Stmt) error { version = stmt.ColumnText(0); return nil },
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	for _, part := range strings.SplitN(version, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil || n > 999 {
			t.Fatalf("got version %q", version)
		}
		number = 1000*number + n
	}
	if number < 3_051_003 {
		t.Errorf("got SQLite %s, want 3.51.3 or newer", version)
	}
}

// TestPlannedOnce ensures that no statement is planned again for the next values:
// that takes longer than most of them.
func TestPlannedOnce(t *testing.T) {
	s := open(t)
	var conns []*sqlite.Conn
	for range readers {
		conns = append(conns, <-s.reads)
	}
	var planned atomic.Int64
	for _, conn := range append(conns, s.writer.conn) {
		err := conn.SetAuthorizer(sqlite.AuthorizeFunc(func(a sqlite.Action) sqlite.AuthResult {
			if a.Type() == sqlite.OpSelect || a.Type() == sqlite.OpInsert || a.Type() == sqlite.OpUpdate || a.Type() == sqlite.OpDelete {
				planned.Add(1)
			}
			return sqlite.AuthResultOK
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, conn := range conns {
		s.reads <- conn
	}
	turns := 0
	// deeds calls each method once, with other values each time.
	deeds := map[string]func() error{
		"append": func() error {
			d := draft(fmt.Sprint("entry", turns))
			d.History = sites.SiteID(fmt.Sprint(turns)).History()
			_, _, err := s.Append(t.Context(), d)
			return err
		},
		"newest": func() error {
			_, err := s.Newest(t.Context(), ledger.History(fmt.Sprint("site/", turns)), math.MaxInt, 5)
			return err
		},
		"entry": func() error {
			_, err := s.Entry(t.Context(), ledger.History(fmt.Sprint("not", turns)), "a")
			if errors.Is(err, ledger.ErrNotFound) {
				err = nil
			}
			return err
		},
		"feed": func() error {
			from := ledger.Cursor("")
			for e, err := range s.Feed(t.Context(), from) {
				if err != nil {
					return err
				}
				from = e.After()
			}
			for _, err := range s.Feed(t.Context(), from) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"secrets": func() error {
			name := fmt.Sprint("secret", turns)
			err := s.PutSecret(t.Context(), name, 0, []byte("a"))
			_, _, missing := s.Secret(t.Context(), name+"x")
			if errors.Is(missing, accounts.ErrNoSecret) {
				missing = nil
			}
			return errors.Join(err, missing, s.DeleteSecret(t.Context(), name))
		},
		"notes": func() error {
			name := fmt.Sprint("note", turns)
			err := s.PutNote(t.Context(), name, 0, []byte("a"))
			_, _, missing := s.Note(t.Context(), name+"x")
			if errors.Is(missing, clock.ErrNoNote) {
				missing = nil
			}
			return errors.Join(err, missing)
		},
		"photos": func() error {
			content := []byte(fmt.Sprint("photo", turns))
			ref := photos.Ref{CheckInRef: inspections.CheckInRef{Site: "site", CheckIn: inspections.CheckInID(content)}, SHA256: sha256.Sum256(content)}
			k, err := s.Photos().Keep(t.Context(), photos.Kept{Ref: ref, Order: sites.OrderID(content)}, bytes.NewReader(content))
			claim := s.Photos().Claim(t.Context(), []inspections.Digest{k.SHA256}, k.CheckInRef)
			_, claimed := s.Photos().Claimed(t.Context(), []inspections.Digest{k.SHA256, k.Stored})
			_, under := s.Photos().Kept(t.Context(), k.Order, photos.Ref{}, 1)
			_, all := s.Photos().Kept(t.Context(), "", photos.Ref{}, 1)
			return errors.Join(err, claim, claimed, under, all, s.Photos().Purge(t.Context(), k))
		},
		"rows": func() error {
			sum := fmt.Sprint("sum", turns)
			err := s.PutRows(t.Context(), sum, []byte(sum))
			_, got := s.Rows(t.Context(), sum)
			return errors.Join(err, got)
		},
	}
	for name, deed := range deeds {
		// Every connection has a turn at each statement.
		for turns = 1; turns <= 4*readers; turns++ {
			if err := deed(); err != nil {
				t.Fatal(name, err)
			}
		}
		before := planned.Load()
		for ; turns <= 6*readers; turns++ {
			if err := deed(); err != nil {
				t.Fatal(name, err)
			}
		}
		if n := planned.Load() - before; n > 0 {
			t.Errorf("%s: statements were planned %d times more", name, n)
		}
	}
}
