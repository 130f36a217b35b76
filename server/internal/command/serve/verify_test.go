package serve

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
)

// putEntries appends n entries to each of the histories.
func putEntries(t *testing.T, store ledger.Store, n int, histories ...ledger.History) {
	t.Helper()
	for i := range n {
		for _, h := range histories {
			_, _, err := store.Append(t.Context(), ledger.Draft{
				History: h, ID: fmt.Sprint("id-", i+1), Kind: "k", Time: time.Unix(1580515200+int64(i), 0), Account: "a", Content: []byte(`{"n":1}`),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// reread gives all entries of the store to a taker of a verification.
func reread(t *testing.T, v *verification, store ledger.Store) (counted []string) {
	t.Helper()
	take := v.counting(func(e ledger.Entry) error {
		counted = append(counted, fmt.Sprint(e.History, " ", e.Sequence))
		return nil
	})
	if err := ledger.NewFollower(store, "", take).CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.isLoaded(true)
	return counted
}

func alteredAt(v *verification) (out []string) {
	for _, f := range v.altered.All() {
		out = append(out, fmt.Sprint(f.History, " ", f.Sequence))
	}
	return out
}

// A start names what does not verify, counts all else, and the round that finds it put
// right counts that too.
func TestVerification(t *testing.T) {
	store, log := ledgertest.New(t), &lines{}
	putEntries(t, store, 4, "site/a", "site/b")
	var right []ledger.Entry
	ledgertest.Alter(store, "site/a", func(e []ledger.Entry) []ledger.Entry {
		right = slices.Clone(e)
		for i := range right {
			right[i].Record = bytes.Clone(right[i].Record)
		}
		e[1].Record[len(e[1].Record)-4] ^= 1
		return e
	})
	v := newVerification(slog.New(slog.NewTextHandler(log, nil)), new(ledger.Alterations), time.Now)
	dropped := 0
	v.onFault = func() { dropped++ }
	counted := reread(t, v, store)
	want := []string{"site/a 1", "site/a 3", "site/a 4", "site/b 1", "site/b 2", "site/b 3", "site/b 4"}
	if slices.Sort(counted); !slices.Equal(counted, want) {
		t.Errorf("counts %v, want %v", counted, want)
	}
	if got := alteredAt(v); !slices.Equal(got, []string{"site/a 2"}) {
		t.Errorf("got %v, want site/a at 2", got)
	}
	if got := log.String(); !strings.Contains(got, `level=ERROR msg="a history does not verify" history=site/a site=a sequence=2 why=`) || strings.Count(got, "ERROR") != 1 {
		t.Errorf("the log has %s", got)
	}
	if !v.holdsSnapshots() || dropped != 1 {
		t.Error("a snapshot hides from the next start what does not verify")
	}

	ledgertest.Alter(store, "site/a", func([]ledger.Entry) []ledger.Entry { return right })
	var again []string
	v.recount = func(e ledger.Entry) error {
		again = append(again, fmt.Sprint(e.History, " ", e.Sequence))
		return nil
	}
	if err := v.round(t.Context(), store, 0, nil); err != nil {
		t.Fatal(err)
	}
	if got := alteredAt(v); got != nil || v.holdsSnapshots() {
		t.Errorf("after it was put right: %v", got)
	}
	if !slices.Equal(again, []string{"site/a 1", "site/a 2", "site/a 3", "site/a 4"}) {
		t.Errorf("counted again: %v", again)
	}
	if got := log.String(); !strings.Contains(got, "a history verifies again") {
		t.Errorf("the log has %s", got)
	}
	// What comes in by the feed afterwards is verified from there on.
	putEntries(t, store, 5, "site/a")
	fifth, err := store.Span(t.Context(), "site/a", 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	take := v.counting(func(ledger.Entry) error { return nil })
	if err := take(fifth[0]); err != nil {
		t.Fatal(err)
	}
	v.publish()
	if got := alteredAt(v); got != nil {
		t.Errorf("the next entry: %v", got)
	}
}

// Where somebody takes out again an entry that stood ahead of the others, a round finds
// that nothing is missing, and the history goes on.
func TestVerificationOfOneAheadThatIsTakenOut(t *testing.T) {
	store := ledgertest.New(t)
	putEntries(t, store, 4, "site/a")
	ledgertest.Alter(store, "site/a", func(e []ledger.Entry) []ledger.Entry {
		ahead := e[1]
		ahead.ID, ahead.Sequence = "another", 7
		return append(e, ahead)
	})
	v := newVerification(slog.New(slog.DiscardHandler), new(ledger.Alterations), time.Now)
	reread(t, v, store)
	if alteredAt(v) == nil {
		t.Fatal("the entry ahead is not named")
	}
	ledgertest.Alter(store, "site/a", func(e []ledger.Entry) []ledger.Entry { return e[:4] })
	if err := v.round(t.Context(), store, 0, nil); err != nil {
		t.Fatal(err)
	}
	if got := alteredAt(v); got != nil {
		t.Errorf("after it was taken out: %v", got)
	}
}

// What a repair settles is not flagged at a start, although it comes before the repair.
func TestVerificationOfARepairedHistory(t *testing.T) {
	store, log := ledgertest.New(t), &lines{}
	putEntries(t, store, 4, "site/a")
	ledgertest.Alter(store, "site/a", func(e []ledger.Entry) []ledger.Entry {
		e[1].Record[len(e[1].Record)-4] ^= 1
		return e
	})
	second, err := store.Span(t.Context(), "site/a", 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	content, err := ledger.Repair{SetAside: []ledger.Aside{ledger.AsideOf(second[0])}, Reason: "r"}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Append(t.Context(), ledger.Draft{
		History: "site/a", ID: "repair", Kind: ledger.KindRepaired, Time: time.Unix(1580515300, 0), Account: "operator", Content: content,
	}); err != nil {
		t.Fatal(err)
	}
	v := newVerification(slog.New(slog.NewTextHandler(log, nil)), new(ledger.Alterations), time.Now)
	counted := reread(t, v, store)
	if want := []string{"site/a 1", "site/a 3", "site/a 4", "site/a 5"}; !slices.Equal(counted, want) {
		t.Errorf("counts %v, want %v", counted, want)
	}
	if got := alteredAt(v); got != nil || !v.altered.SetAside("site/a", 2) || v.holdsSnapshots() {
		t.Errorf("got the faults %v, set aside %v", got, v.altered.AllSetAside())
	}
	if err := v.round(t.Context(), store, 0, nil); err != nil || alteredAt(v) != nil || !v.altered.SetAside("site/a", 2) {
		t.Errorf("a round: %v, %v", err, alteredAt(v))
	}
	if got := log.String(); strings.Contains(got, "ERROR") {
		t.Errorf("the log has %s", got)
	}
}

// An entry that verifies and that cannot be counted stops nothing but its own history.
func TestVerificationOfWhatCannotBeCounted(t *testing.T) {
	store := ledgertest.New(t)
	putEntries(t, store, 2, "site/a", "site/b")
	v := newVerification(slog.New(slog.DiscardHandler), new(ledger.Alterations), time.Now)
	take := v.counting(func(e ledger.Entry) error {
		if e.History == "site/a" && e.Sequence == 2 {
			return ledger.ErrBadRecord
		}
		return nil
	})
	if err := ledger.NewFollower(store, "", take).ReadAll(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	v.isLoaded(true)
	if got := alteredAt(v); !slices.Equal(got, []string{"site/a 2"}) {
		t.Errorf("got %v", got)
	}
}

// A fitfulStore does not answer its feed now and then.
type fitfulStore struct {
	ledger.Store
	fail int
}

func (s *fitfulStore) Feed(ctx context.Context, from ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		n := 0
		for e, err := range s.Store.Feed(ctx, from) {
			if !yield(e, err) {
				return
			}
			if n++; n == 700 && s.fail > 0 {
				s.fail--
				yield(ledger.FeedEntry{}, ledger.ErrUnavailable)
				return
			}
		}
	}
}

// A round reads no faster than it should, and goes on where the store has not answered.
func TestRoundPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := ledgertest.New(t)
		putEntries(t, store, 4000, "site/a")
		v := newVerification(slog.New(slog.DiscardHandler), new(ledger.Alterations), time.Now)
		begun := time.Now()
		if err := v.round(t.Context(), &fitfulStore{store, 2}, 1000, nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 23*time.Second || took > 25*time.Second {
			t.Errorf("4,000 entries at 1,000 a second and two waits of 10 s took %v", took)
		}
		if got := alteredAt(v); got != nil {
			t.Errorf("got %v", got)
		}
	})
}

func TestRoundsEveryDay(t *testing.T) {
	now := time.Unix(1580515200, 0)
	for _, c := range []struct {
		total int64
		last  time.Time
		want  time.Duration
	}{
		{1_000_000, time.Time{}, roundFirst},
		{7_200_000, now, 22*time.Hour + 54*time.Minute},
		{7_200_000, now.Add(-23 * time.Hour), roundFirst},
		{1_000_000_000, now, 2 * time.Hour},
	} {
		if got := untilRound(c.total, c.last, now); got.Round(time.Minute) != c.want {
			t.Errorf("%d entries, last at %v: waits %v, want %v", c.total, c.last, got, c.want)
		}
		if takes := float64(c.total) / paceOf(c.total); takes > 20*3600+1 {
			t.Errorf("%d entries take %f seconds", c.total, takes)
		}
	}
}
