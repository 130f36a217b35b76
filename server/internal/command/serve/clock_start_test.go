package serve

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"xuncha/ledger"
	"xuncha/server/internal/mongostore/mongotest"
	"xuncha/sites"
)

// wantRefused holds that a server does not start, and says both times and the flag.
func wantRefused(t *testing.T, err error, says ...string) {
	t.Helper()
	if !errors.Is(err, errClock) {
		t.Fatalf("got %v, want %v", err, errClock)
	}
	for _, s := range append(says, "--accept-clock") {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("got %v, want that it says %q", err, s)
		}
	}
}

// onBothEngines runs a test on an empty store of each engine.
func onBothEngines(t *testing.T, test func(*testing.T, StoreConfig)) {
	t.Run("Embedded", func(t *testing.T) { test(t, StoreConfig{Data: t.TempDir()}) })
	t.Run("MongoDB", func(t *testing.T) {
		s, err := mongotest.StartStandIn()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
		test(t, StoreConfig{Store: s.Database(t)})
	})
}

// A server does not start with a clock that is behind its last heartbeat or its newest
// entry, and does once somebody has said that this is right. It does not ask again for the
// same entries.
func TestStartsBehind(t *testing.T) {
	onBothEngines(t, func(t *testing.T, stored StoreConfig) {
		m := newMachine()
		m.set(366 * 24 * time.Hour)
		accept := stored
		accept.AcceptClock = true // MongoDB's clock is right
		r, _ := m.serve(t, accept)
		ahead := m.truth.Add(m.off)
		fillRoster(t, r, ahead)
		mustStop(t, r)

		m.set(0)
		_, _, err := m.tryServe(t, stored)
		now := stamp(m.truth)
		wantRefused(t, err, now)
		r, log := m.serve(t, accept)
		beat(t, r)
		mustStop(t, r)
		if !strings.Contains(log.String(), "--accept-clock goes on with it") || !strings.Contains(log.String(), stamp(ahead)) {
			t.Errorf("the log has %s, want what was accepted", log)
		}
		r, _ = m.serve(t, stored)
		mustStop(t, r)

		// What comes next to lie ahead is asked for.
		m.set(400 * 24 * time.Hour)
		r, log = m.serve(t, accept)
		fillSite(t, r, m.truth.Add(m.off))
		mustStop(t, r)
		if !strings.Contains(log.String(), "the clock is ahead of the last heartbeat") {
			t.Errorf("the log has %s, want the gap", log)
		}
		forgetHeartbeats(t, stored)
		m.set(0)
		_, _, err = m.tryServe(t, stored)
		wantRefused(t, err, now, "the newest entry is of "+stamp(m.truth.Add(400*24*time.Hour)))
	})
}

// beat waits until a server has stored its first heartbeat.
func beat(t *testing.T, r *Running) {
	t.Helper()
	if err := r.time.hearts.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// fillSite gives a server one more site.
func fillSite(t *testing.T, r *Running, now time.Time) {
	t.Helper()
	if _, err := r.roster.CreateSite(t.Context(), sites.By{Account: "a"}, sites.NewSite{RegistrationNo: uuid.NewString(), Name: "n", Division: "511602001001", Registered: now}); err != nil {
		t.Fatal(err)
	}
}

// forgetHeartbeats makes the store one that has no heartbeats, such as a copy.
func forgetHeartbeats(t *testing.T, stored StoreConfig) {
	t.Helper()
	store, _, err := OpenEngine(t.Context(), stored.name(), EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, revision, err := store.Note(t.Context(), "clock")
	if err == nil {
		err = store.PutNote(t.Context(), "clock", revision, []byte("{}"))
	}
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
}

// The entry that lies ahead may be one of a site that has been quiet since, which only
// reading everything finds, and with a snapshot only its heads.
func TestStartsBehindAnOldEntry(t *testing.T) {
	for _, withSnapshot := range []bool{false, true} {
		stored := StoreConfig{Data: t.TempDir()}
		m := newMachine()
		r, _ := m.serve(t, stored)
		site := fillRoster(t, r, m.truth)
		m.set(366 * 24 * time.Hour)
		r.time.Confirm()
		ahead := ledger.Draft{History: site.History(), ID: uuid.NewString(), Kind: "unknown", Time: r.time.Now(), Account: "a", Content: []byte(`{}`)}
		_, _, err := r.store.Append(t.Context(), ahead)
		m.set(0)
		r.time.Confirm()
		// What comes after it, in other histories, has the right time.
		late := ledger.Draft{History: "site/" + ledger.History(uuid.NewString()), ID: uuid.NewString(), Kind: "unknown", Time: r.time.Now(), Account: "a", Content: []byte(`{}`)}
		if err == nil {
			_, _, err = r.store.Append(t.Context(), late)
		}
		if err == nil && withSnapshot {
			err = r.snapshots.writeAfter(t.Context(), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		mustStop(t, r)
		forgetHeartbeats(t, stored)
		_, log, err := m.tryServe(t, stored)
		wantRefused(t, err, "the newest entry is of "+stamp(ahead.Time))
		if used := strings.Contains(log.String(), "the snapshot was read"); used != withSnapshot {
			t.Errorf("the snapshot was used: %v", used)
		}
	}
}

// A clock before the day on which the program was built is wrong, also on a new store.
func TestStartsBeforeItWasBuilt(t *testing.T) {
	m := newMachine()
	m.set(-10 * 365 * 24 * time.Hour)
	_, _, err := m.tryServe(t, StoreConfig{Data: t.TempDir()})
	wantRefused(t, err, "this program was built on", stamp(m.truth.Add(m.off)))
	r, _ := m.serve(t, StoreConfig{Data: t.TempDir(), clockConfig: clockConfig{AcceptClock: true}})
	mustStop(t, r)
}

// Commands that store something refuse to with such a clock, too.
func TestCommandsCompareTheClock(t *testing.T) {
	onBothEngines(t, func(t *testing.T, stored StoreConfig) {
		m := newMachine()
		m.set(366 * 24 * time.Hour)
		accept := stored
		accept.AcceptClock = true // MongoDB's clock is right
		r, _ := m.serve(t, accept)
		fillRoster(t, r, m.truth.Add(m.off))
		beat(t, r)
		mustStop(t, r)
		password := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(password, []byte("correct horse battery\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		commands := func(stored StoreConfig) map[string]error {
			var out bytes.Buffer
			create := AccountCreateCommand{StoreConfig: stored, Role: "admin", Username: "root", Division: []string{"511600"}, PasswordFile: password}
			replace := AccountReplaceKeysCommand{StoreConfig: stored}
			purge := PurgeCommand{StoreConfig: stored, TimeZone: "UTC", photoConfig: photoConfig{PhotoRetentionDays: 30}}
			return map[string]error{
				"create": create.Run(t.Context(), &out, &out), "replace": replace.Run(t.Context(), &out, &out), "purge": purge.Run(t.Context(), &out, &out),
			}
		}
		for name, err := range commands(stored) {
			t.Run(name, func(t *testing.T) { wantRefused(t, err) })
		}
		forgetHeartbeats(t, stored)
		for name, err := range commands(stored) {
			t.Run(name, func(t *testing.T) { wantRefused(t, err, "the newest entry is of") })
		}
		stored.AcceptClock = true
		for name, err := range commands(stored) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A time that was altered on the disk, and lies ahead, keeps no server from starting: with
// or without a snapshot, in a site's history or in the roster's.
func TestStartsWithAlteredTimes(t *testing.T) {
	for _, withSnapshot := range []bool{false, true} {
		stored := StoreConfig{Data: t.TempDir()}
		m := newMachine()
		r, _ := m.serve(t, stored)
		site := fillRoster(t, r, m.truth)
		d := ledger.Draft{History: site.History(), ID: uuid.NewString(), Kind: "unknown", Time: r.time.Now(), Account: "a", Content: []byte(`{}`)}
		_, _, err := r.store.Append(t.Context(), d)
		if err == nil && withSnapshot {
			err = r.snapshots.writeAfter(t.Context(), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		mustStop(t, r)
		conn, err := sqlite.OpenConn(filepath.Join(stored.Data, "xuncha.db"), sqlite.OpenReadWrite)
		if err == nil {
			// The newest of the roster and of the site.
			err = errors.Join(sqlitex.ExecuteTransient(conn, `UPDATE entries SET time = time + (1 << 55) WHERE entry IN
				(SELECT max(entry) FROM entries GROUP BY history)`, nil), conn.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		r, _ = m.serve(t, stored)
		mustStop(t, r)
	}
}
