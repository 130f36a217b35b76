package sites_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
)

// revokeRandom takes a change back, perhaps after those that rest on it.
func (w *randomWorld) revokeRandom(t *rapid.T) {
	revision := ledger.Sequence(rapid.IntRange(1, int(w.Roster().Revision())).Draw(t, "revision"))
	for {
		_, err := w.Revoke(w.ctx(), sites.By{Account: "test"}, revision, "test")
		w.noted(err)
		var rests *sites.RestedOnError
		if !errors.As(err, &rests) || !rapid.Bool().Draw(t, "first the one that rests on it") {
			return
		}
		if rests.Revision <= int64(revision) || w.revoked()[ledger.Sequence(rests.Revision)] {
			w.tb.Errorf("revision %d rests on %d, which is not later or does not hold", revision, rests.Revision)
			return
		}
		revision = ledger.Sequence(rests.Revision)
	}
}

// entries returns the roster's entries up to the revision.
func (w *randomWorld) entries(until ledger.Sequence) []ledger.Entry {
	out, err := w.store.Span(w.ctx(), ledger.Roster, 0, int(until))
	if err != nil {
		w.tb.Fatal(err)
	}
	return out
}

// revokedBy returns what the entries take back.
func revokedBy(tb testing.TB, entries []ledger.Entry) map[ledger.Sequence]bool {
	out := map[ledger.Sequence]bool{}
	for _, e := range entries {
		c, err := sites.ParseContent(e)
		if err != nil {
			tb.Fatal(err)
		}
		if c.Revoked != nil {
			out[c.Revoked.Revision] = true
		}
	}
	return out
}

func (w *randomWorld) revoked() map[ledger.Sequence]bool {
	return revokedBy(w.tb, w.entries(w.Roster().Revision()))
}

// without returns the roster of a history that has the entries up to the revision, but
// for those that were taken back and those that did so.
func (w *randomWorld) without(until ledger.Sequence) *sites.Roster {
	entries := w.entries(until)
	revoked := revokedBy(w.tb, entries)
	c := w.config()
	store := ledgertest.New(w.tb)
	for _, e := range entries {
		if revoked[e.Sequence] || e.Kind == sites.KindChangeRevoked {
			continue
		}
		if _, _, err := store.Append(w.ctx(), ledger.Draft{
			History: ledger.Roster, ID: e.ID, Kind: e.Kind, Time: e.Time, Account: e.Account, Content: ledger.Content(e.Record),
		}); err != nil {
			w.tb.Fatal(err)
		}
	}
	c.Ledger = store
	s, err := sites.Open(w.ctx(), c)
	if err != nil {
		w.tb.Fatal(err)
	}
	return s.Roster()
}

// sameButNumbers is what everything tells without the numbers of entries.
func sameButNumbers(all map[string]any) map[string]any {
	for key, value := range all {
		switch {
		case key == "revision", key == "time", key == "orders ever", strings.HasPrefix(key, "touched since"), strings.HasSuffix(key, " events"):
			delete(all, key)
		case strings.HasPrefix(key, "site ") && strings.HasSuffix(key, " "):
			of := value.([]any)
			all[key] = []any{of[0], of[2], of[3]} // without its etag and its revision
		}
	}
	return all
}

// TestRevokedNeverWas ensures that a roster is that of a history which never had what was
// taken back, at every revision, however it came about.
func TestRevokedNeverWas(t *testing.T) {
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newRandomWorld(t, rt)
		at := w.moments()
		taken += len(w.revoked())
		until := ledger.Sequence(rapid.IntRange(0, len(w.rosters)-1).Draw(rt, "revision"))
		for _, r := range []*sites.Roster{w.rosters[until], w.Roster(), w.open(t).Roster()} {
			want := sameButNumbers(everything(w.without(r.Revision()), at))
			if d := cmp.Diff(want, sameButNumbers(everything(r, at))); d != "" {
				rt.Fatalf("at revision %d (-want +got):\n%s", r.Revision(), d)
			}
		}
	})
	if taken < 20 {
		t.Errorf("%d changes were taken back: too few to tell", taken)
	}
}
