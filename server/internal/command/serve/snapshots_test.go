package serve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/server/internal/snapshot"
	"xuncha/server/internal/sqlitestore"
	"xuncha/sites"
)

// A word is a state that is one word.
type word struct{ text string }

func (w *word) Snapshot(to io.Writer) error {
	_, err := io.WriteString(to, w.text)
	return err
}

func (w *word) Restore(from io.Reader) error {
	b, err := io.ReadAll(from)
	if err == nil {
		w.text = string(b)
	}
	return err
}

// A snapshot lies in the data folder once it is worth it, a start reads it, and one that
// does not fit is thrown away, with a word in the log.
func TestSnapshots(t *testing.T) {
	folder := t.TempDir()
	store, err := sqlitestore.Open(t.Context(), folder, sqlitestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	add := func(n int) {
		t.Helper()
		for range n {
			id := fmt.Sprint(time.Now().UnixNano())
			if _, _, err := store.Append(t.Context(), ledger.Draft{History: "site/a", ID: id, Kind: "k", Account: "a", Time: time.Now(), Content: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	log := &lines{}
	open := func(zone *time.Location) (*snapshots, *word) {
		t.Helper()
		state := &word{"nothing"}
		s, err := newSnapshots(StoreConfig{Data: folder}, "", zone, store, slog.New(slog.NewTextHandler(log, nil)),
			[]snapshot.Section{{Name: "word", Snapshotter: state}})
		if err != nil {
			t.Fatal(err)
		}
		v := newVerification(slog.New(slog.NewTextHandler(log, nil)), new(ledger.Alterations), time.Now)
		s.catchUp = (&Running{store: store, verification: v, roster: sites.New(sites.Config{Ledger: store}), checkIns: inspections.New(inspections.Config{Ledger: store})}).catchUpBehind("")
		return s, state
	}
	path := filepath.Join(folder, "snapshot")
	s, state := open(time.UTC)
	state.text = "stored"
	add(4)
	if err := s.writeAfter(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after 4 of 5 entries: got %v, want no file", err)
	}
	add(1)
	if err := s.writeAfter(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want a file that its owner alone can read", info, err)
	}
	s, state = open(time.UTC)
	if _, n, err := s.restore(t.Context(), newVerification(slog.New(slog.NewTextHandler(log, nil)), new(ledger.Alterations), time.Now)); err != nil || n != 5 || state.text != "stored" {
		t.Errorf("got %q of %d entries, %v, want what was stored", state.text, n, err)
	}
	if s.written != 5 {
		t.Errorf("the next one is due after %d entries, want 5", s.written)
	}
	// In another time zone, the same entries may say something else.
	s, state = open(time.FixedZone("other", 3600))
	if at, n, err := s.restore(t.Context(), newVerification(slog.New(slog.NewTextHandler(log, nil)), new(ledger.Alterations), time.Now)); err != nil || at != "" || n != 0 || state.text != "nothing" {
		t.Errorf("got %q at %q, %v, want nothing", state.text, at, err)
	}
	if got := log.String(); !strings.Contains(got, "cannot be used") {
		t.Errorf("the log has %s", got)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no file", err)
	}
}
