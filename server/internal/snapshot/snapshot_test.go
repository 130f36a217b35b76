package snapshot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/snapshot"
)

// A tally is a state that knows each entry that it was given.
type tally struct {
	mu     sync.Mutex
	hashes map[ledger.History]map[ledger.Sequence]string
	// meanwhile is called before the state is written.
	meanwhile func()
}

func newTally() *tally { return &tally{hashes: map[ledger.History]map[ledger.Sequence]string{}} }

func (a *tally) Take(e ledger.Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hashes[e.History] == nil {
		a.hashes[e.History] = map[ledger.Sequence]string{}
	}
	a.hashes[e.History][e.Sequence] = fmt.Sprintf("%x", e.Hash)
	return nil
}

func (a *tally) Snapshot(w io.Writer) error {
	if a.meanwhile != nil {
		a.meanwhile()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return json.NewEncoder(w).Encode(a.hashes)
}

func (a *tally) Restore(r io.Reader) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var read map[ledger.History]map[ledger.Sequence]string
	if err := json.NewDecoder(r).Decode(&read); err != nil {
		return err
	}
	a.hashes = read
	return nil
}

func (a *tally) String() string {
	b, err := json.Marshal(a.hashes)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

var histories = []ledger.History{ledger.Roster, "site/a", "site/b", "site/c"}

// grow appends so many entries to random histories.
func grow(t *rapid.T, store *ledgertest.Memory, n int, label string) {
	for i := range n {
		write(t, store, rapid.SampledFrom(histories).Draw(t, "history"), fmt.Sprint(label, i))
	}
}

// write appends an entry.
func write(t *rapid.T, store *ledgertest.Memory, h ledger.History, id string) {
	_, _, err := store.Append(context.Background(), ledger.Draft{
		History: h, ID: id, Kind: "k", Account: "a", Time: time.Unix(1, 0), Content: []byte(`{}`),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// entriesOf returns all entries of a store as they came.
func entriesOf(t *rapid.T, store *ledgertest.Memory) (all []ledger.Entry) {
	for e, err := range store.Feed(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		e.Record = append([]byte(nil), e.Record...)
		all = append(all, e.Entry)
	}
	return all
}

// put stores entries as they are, in the order given.
func put(t *rapid.T, store *ledgertest.Memory, entries []ledger.Entry) {
	for _, e := range entries {
		if err := store.Put(context.Background(), []ledger.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
}

// load is a start: with the snapshot where it fits, and by reading everything otherwise.
func load(t *rapid.T, path string, key snapshot.Key, store ledger.Store) (state *tally, used bool) {
	ctx := context.Background()
	state = newTally()
	at := ledger.Cursor("")
	s, err := snapshot.Open(ctx, path, key)
	if err == nil {
		defer s.Close()
		err = s.Fits(ctx, store, func(ledger.History, ledger.Head) {})
	}
	if err == nil {
		if err := s.Restore(ctx, []snapshot.Section{{Name: "tally", Snapshotter: state}}); err != nil {
			t.Fatal(err)
		}
		at = s.Cursor()
	} else if !errors.Is(err, snapshot.ErrUnfit) && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want ErrUnfit", err)
	}
	if err := ledger.NewFollower(store, at, state.Take).CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	return state, err == nil
}

// TestSameAnswers holds that a snapshot is a cache and nothing else: whatever becomes of
// its file, and whatever database it is found beside, a start comes to the same state as
// one that reads everything. And where nothing became of either, it is used.
func TestSameAnswers(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		path := filepath.Join(folder, "snapshot")
		key := snapshot.Key{1}
		store := ledgertest.New(t)
		grow(t, store, rapid.IntRange(0, 12).Draw(t, "before"), "before")
		state := newTally()
		feed := ledger.NewFollower(store, "", state.Take)
		if err := feed.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		at := feed.Cursor()
		state.meanwhile = func() { // so that the state knows more than the cursor says
			grow(t, store, rapid.IntRange(0, 5).Draw(t, "meanwhile"), "meanwhile")
			if err := feed.CatchUp(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := snapshot.Write(ctx, path, key, store, at, 0, []snapshot.Section{{Name: "tally", Snapshotter: state}}); err != nil {
			t.Fatal(err)
		}
		known := len(entriesOf(t, store))
		grow(t, store, rapid.IntRange(0, 6).Draw(t, "after"), "after")
		all := entriesOf(t, store)

		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		whole := false
		switch what := rapid.SampledFrom([]string{"whole", "flipped", "cut", "longer", "deleted", "another program"}).Draw(t, "file"); what {
		case "whole":
			whole = true
		case "flipped":
			file[rapid.IntRange(0, len(file)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case "cut":
			file = file[:rapid.IntRange(0, len(file)-1).Draw(t, "length")]
		case "longer":
			file = append(file, rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "more")...)
		case "deleted":
			file = nil
		case "another program":
			key[0]++
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if file != nil {
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		same := false
		database := ledgertest.New(t)
		switch rapid.SampledFrom([]string{"same", "backup", "backup that went on", "backup that went on alike", "copy in another order", "another"}).Draw(t, "database") {
		case "same":
			same = true
			put(t, database, all)
		case "backup":
			put(t, database, all[:rapid.IntRange(0, len(all)).Draw(t, "backed up")])
		case "backup that went on":
			put(t, database, all[:rapid.IntRange(0, known).Draw(t, "backed up")])
			grow(t, database, rapid.IntRange(1, 12).Draw(t, "went on"), "went on")
		case "backup that went on alike":
			backed := rapid.IntRange(0, known).Draw(t, "backed up")
			put(t, database, all[:backed])
			for i, e := range all[backed:] {
				write(t, database, e.History, fmt.Sprint("alike", i))
			}
		case "copy in another order":
			for _, h := range rapid.Permutation(histories).Draw(t, "order") {
				for _, e := range all {
					if e.History == h {
						put(t, database, []ledger.Entry{e})
					}
				}
			}
		case "another":
			grow(t, database, rapid.IntRange(0, 12).Draw(t, "others"), "other")
		}
		want := newTally()
		if err := ledger.NewFollower(database, "", want.Take).CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		got, used := load(t, path, key, database)
		if got.String() != want.String() {
			t.Errorf("got %s, want %s", got, want)
		}
		if whole && same && !used {
			t.Errorf("the snapshot was not used")
		}
		if !whole && used {
			t.Errorf("the snapshot was used")
		}
	})
}

// TestFailedWrite holds that a snapshot that cannot be written to its end leaves the one
// before, and nothing else.
func TestFailedWrite(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "snapshot")
	store := ledgertest.New(t)
	state := newTally()
	sections := []snapshot.Section{{Name: "tally", Snapshotter: state}}
	if err := snapshot.Write(t.Context(), path, snapshot.Key{}, store, "", 0, sections); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	state.meanwhile = cancel
	if err := snapshot.Write(ctx, path, snapshot.Key{2}, store, "", 0, sections); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	after, err := os.ReadFile(path)
	files, errDir := os.ReadDir(folder)
	if err != nil || errDir != nil || string(after) != string(before) || len(files) != 1 {
		t.Errorf("got %d files, %v, %v; want the snapshot from before alone", len(files), err, errDir)
	}
}
