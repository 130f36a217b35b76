package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"xuncha/ledger"
)

const (
	flipSites   = 7
	flipEntries = 90
)

func flipHistory(site int) ledger.History {
	return ledger.History(fmt.Sprintf("site/%08d-0000-4000-8000-000000000001", site))
}

func flipDraft(site, n int) ledger.Draft {
	note := strings.Repeat(fmt.Sprint("门口 ", site, n), 20+(n*7+site)%30)
	if n%31 == 0 {
		note = strings.Repeat(note, 20) // on pages of its own
	}
	return ledger.Draft{
		History: flipHistory(site), ID: fmt.Sprintf("%08d-0000-4000-8000-%012d", site, n), Kind: "check_in", Account: "officer",
		Time: time.Unix(1580515200+int64(n), 0), Content: []byte(`{"note":"` + note + `"}`),
	}
}

// flipStore makes a folder with several sites, and returns what they have. The newest
// entries are in no index where it is not closed as it should be.
func flipStore(t *testing.T, crashed bool) (folder string, truth map[ledger.History][]ledger.Entry) {
	t.Helper()
	folder = t.TempDir()
	s, err := Open(t.Context(), folder, Options{})
	if err != nil {
		t.Fatal(err)
	}
	truth = map[ledger.History][]ledger.Entry{}
	for n := range flipEntries {
		for site := range flipSites {
			e, _, err := s.Append(t.Context(), flipDraft(site, n))
			if err != nil {
				t.Fatal(err)
			}
			truth[e.History] = append(truth[e.History], e)
		}
		if n == flipEntries*3/4 {
			if err := s.Close(); err != nil { // which indexes what there is
				t.Fatal(err)
			}
			if s, err = Open(t.Context(), folder, Options{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !crashed {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return folder, truth
	}
	if err := s.write(t.Context(), func(*writer) error { return nil }); err != nil {
		t.Fatal(err)
	}
	crash := t.TempDir()
	copyDatabase(t, folder, crash)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What is in the log moves to the file when it is opened, and nothing is indexed.
	s, err = Open(t.Context(), crash, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.writer.unindexable = errors.New("not at the end either")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return crash, truth
}

func copyDatabase(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{File, File + "-wal"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A flipReport is what a store says of itself.
type flipReport struct {
	faults map[ledger.History][]ledger.Sequence
	why    []string
	mended int
}

func (r *flipReport) add(h ledger.History, q ledger.Sequence, why string) {
	r.faults[h] = append(r.faults[h], q)
	r.why = append(r.why, fmt.Sprintf("%s %d: %s", h, q, why))
}

// verifyAll reads a store as a start does, and checks its indexes as a round does.
func verifyAll(t *testing.T, s *Store) *flipReport {
	r := &flipReport{faults: map[ledger.History][]ledger.Sequence{}}
	v := ledger.NewVerifier(time.Now)
	for e, err := range s.Feed(t.Context(), "") {
		if err != nil {
			t.Fatalf("the feed: %v", err)
		}
		v.Take(e.Entry)
	}
	for _, f := range v.Flaws() {
		r.add(f.History, f.Sequence, f.Why)
	}
	err := s.CheckIndexes(t.Context(), func(int) error { return nil }, r.add, func(what string, mended bool) {
		if mended {
			r.mended++
		}
		r.why = append(r.why, what)
	})
	if err != nil {
		t.Fatalf("the indexes: %v", err)
	}
	return r
}

// served returns what is wrong with what the store gives of a history; "" where nothing
// is.
func served(ctx context.Context, s *Store, h ledger.History, want []ledger.Entry) string {
	equal := func(how string, got, want []ledger.Entry, err error) string {
		if err != nil {
			if !errors.Is(err, ledger.ErrAltered) && !errors.Is(err, ledger.ErrUnavailable) {
				return how + ": neither altered nor unavailable: " + err.Error()
			}
			return how + ": " + err.Error()
		}
		if !slices.EqualFunc(got, want, func(a, b ledger.Entry) bool {
			return a.Sequence == b.Sequence && a.History == b.History && a.ID == b.ID && a.Kind == b.Kind && a.Time.Equal(b.Time) &&
				a.Account == b.Account && a.Hash == b.Hash && bytes.Equal(a.Record, b.Record)
		}) {
			return fmt.Sprintf("%s: got %d entries that differ from the %d that were stored", how, len(got), len(want))
		}
		return ""
	}
	got, err := s.Span(ctx, h, 0, 10*flipEntries)
	if why := equal("Span", got, want, err); why != "" {
		return why
	}
	got, err = s.Newest(ctx, h, 0, 10*flipEntries)
	slices.Reverse(got)
	if why := equal("Newest", got, want, err); why != "" {
		return why
	}
	for i := range want {
		e, err := s.Entry(ctx, h, want[i].ID)
		if errors.Is(err, ledger.ErrNotFound) {
			return fmt.Sprintf("Entry: %d has no id any more", i+1)
		}
		if why := equal(fmt.Sprint("Entry of ", i+1), []ledger.Entry{e}, want[i:i+1], err); why != "" {
			return why
		}
	}
	return ""
}

// flipSeed is the seed of the random flips.
func flipSeed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("XUNCHA_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("XUNCHA_TEST_SEED=%d", seed)
	return seed
}

// TestFlippedBits changes single bits anywhere in the file, as a disk does that goes bad.
// The folder opens, unless the bit is in the header or the schema. Whatever gives
// something else than was stored is named by its history. All other histories are served
// and go on. No sequence is used twice.
func TestFlippedBits(t *testing.T) {
	random := rand.New(rand.NewPCG(flipSeed(t), 0))
	flips := 30
	if text := os.Getenv("XUNCHA_TEST_FLIPS"); text != "" {
		var err error
		if flips, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, crashed := range []bool{false, true} {
		folder, truth := flipStore(t, crashed)
		whole, err := os.ReadFile(filepath.Join(folder, File))
		if err != nil {
			t.Fatal(err)
		}
		for range flips {
			at, bit := random.IntN(len(whole)), random.IntN(8)
			if random.IntN(2) == 0 {
				at = at&^4095 + random.IntN(48) // where the header of a page and its pointers are
			}
			t.Run(fmt.Sprintf("crashed=%v/at=%d/bit=%d", crashed, at, bit), func(t *testing.T) { flipBit(t, whole, truth, at, bit) })
		}
	}
}

func flipBit(t *testing.T, whole []byte, truth map[ledger.History][]ledger.Entry, at, bit int) {
	folder := t.TempDir()
	b := bytes.Clone(whole)
	b[at] ^= 1 << bit
	path := filepath.Join(folder, File)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), folder, Options{})
	if err != nil {
		if at >= 4096 {
			t.Fatalf("does not open: %v", err)
		}
		return
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}()
	report := verifyAll(t, s)
	for h, want := range truth {
		faults := report.faults[h]
		why := served(t.Context(), s, h, want)
		if strings.Contains(why, "neither altered nor unavailable") {
			t.Errorf("%s: %s", h, why)
		}
		if why != "" && len(faults) == 0 {
			t.Errorf("%s was altered and nothing names it: %s", h, why)
		}
		// Whatever is known of it, its next sequence is a new one.
		e, existed, err := s.Append(t.Context(), ledger.Draft{History: h, ID: "new", Kind: "k", Account: "a", Time: time.Unix(1680515200, 0), Content: []byte(`{}`)})
		switch {
		case err == nil && (existed || int(e.Sequence) <= len(want)):
			t.Errorf("%s: an append used the sequence %d once more", h, e.Sequence)
		case err != nil && !errors.Is(err, ledger.ErrAltered) && !errors.Is(err, ledger.ErrUnavailable):
			t.Errorf("%s: an append: %v", h, err)
		case errors.Is(err, ledger.ErrAltered) && len(faults) == 0:
			t.Errorf("%s: takes no append, and nothing names it: %v", h, err)
		}
		if len(faults) > 0 {
			continue
		}
		e, existed, err = s.Append(t.Context(), ledger.Draft{History: h, ID: want[3].ID, Kind: "k", Account: "a", Time: time.Unix(1680515200, 0), Content: []byte(`{}`)})
		if err == nil && !existed {
			t.Errorf("%s: a repeat was stored again at %d", h, e.Sequence)
		}
	}
	if t.Failed() {
		t.Logf("page %d, byte %d of it; named: %s", at/4096+1, at%4096, strings.Join(report.why, "; "))
	}
}
