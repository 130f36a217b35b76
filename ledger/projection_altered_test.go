package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
)

// flip changes one bit of the record with the sequence.
func flip(q ledger.Sequence) func([]ledger.Entry) []ledger.Entry {
	return func(entries []ledger.Entry) []ledger.Entry {
		e := &entries[q-1]
		e.Record[len(e.Record)-15] ^= 1
		return entries
	}
}

// A strict world applies the entries of a history to a list of ids, and fails with some.
func newStrictWorld(store *ledgertest.Memory, altered *ledger.Alterations, unfit map[string]error) *world {
	w := &world{store: store, onApply: func() {}}
	w.Projection = ledger.NewProjection(store, list, nil, func(_ context.Context, before []string, entries []ledger.Entry) ([]string, error) {
		after := slices.Clone(before)
		for _, e := range entries {
			switch {
			case e.Kind == ledger.KindSetAside:
				after = append(after, "aside")
			case unfit[e.ID] != nil:
				return nil, unfit[e.ID]
			default:
				after = append(after, e.ID)
			}
		}
		return after, nil
	})
	w.Report(altered, func() time.Time { return time.Unix(1580515200, 0) })
	return w
}

func fillList(t *testing.T, store *ledgertest.Memory, n int) {
	t.Helper()
	for i := range n {
		if _, _, err := store.Append(t.Context(), item(fmt.Sprint(i+1))); err != nil {
			t.Fatal(err)
		}
	}
}

// putRepair appends a repair of all that is wrong with the list.
func putRepair(t *testing.T, store *ledgertest.Memory, more ...ledger.Aside) {
	t.Helper()
	v := ledger.NewVerifier(time.Now)
	for e, err := range store.Feed(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		v.Take(e.Entry)
	}
	r := ledger.Repair{SetAside: more, Reason: "test"}
	for _, f := range v.Flaws() {
		r.SetAside = append(r.SetAside, f.Aside)
	}
	content, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	d := item("repair")
	d.Kind, d.Content = ledger.KindRepaired, content
	if _, _, err := store.Append(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestProjectionStopsBeforeWhatWasAltered(t *testing.T) {
	store := ledgertest.New(t)
	fillList(t, store, 6)
	right := []ledger.Entry(nil)
	ledgertest.Alter(store, list, func(e []ledger.Entry) []ledger.Entry { right = slices.Clone(e); return e })
	right[3].Record = slices.Clone(right[3].Record)
	ledgertest.Alter(store, list, flip(4))
	altered := new(ledger.Alterations)
	w := newStrictWorld(store, altered, nil)
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatalf("a history that does not verify fails the start: %v", err)
	}
	w.want(t, "1", "2", "3")
	var fault *ledger.AlteredError
	if _, err := w.add(t.Context(), "x"); !errors.As(err, &fault) || fault.Sequence != 4 {
		t.Errorf("a change: got %v, want an error at 4", err)
	}
	if store.Count(list) != 6 {
		t.Errorf("the history has %d entries, want the 6 from before", store.Count(list))
	}
	if !altered.At(list, 4) {
		t.Errorf("nobody is told: %v", altered.All())
	}

	t.Run("PutRight", func(t *testing.T) {
		ledgertest.Alter(store, list, func([]ledger.Entry) []ledger.Entry { return slices.Clone(right) })
		if err := w.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.want(t, "1", "2", "3", "4", "5", "6")
		if err := altered.Of(list); err != nil {
			t.Errorf("got %v after it was put right", err)
		}
		ledgertest.Alter(store, list, flip(4))
	})
	t.Run("Repaired", func(t *testing.T) {
		w := newStrictWorld(store, altered, nil)
		if err := w.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.want(t, "1", "2", "3")
		putRepair(t, store)
		if err := w.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.want(t, "1", "2", "3", "aside", "5", "6", "repair")
		if err := altered.Of(list); err != nil {
			t.Errorf("got %v after the repair", err)
		}
		if _, err := w.add(t.Context(), "x"); err != nil {
			t.Errorf("a change after the repair: %v", err)
		}
		fresh := newStrictWorld(store, altered, nil)
		if err := fresh.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		fresh.want(t, "1", "2", "3", "aside", "5", "6", "repair", "x7")
		got, err := fresh.Replay(t.Context(), []string{"1", "2"}, 2, 5)
		altered.PutAside(list, []ledger.Sequence{4})
		if err == nil {
			got, err = fresh.Replay(t.Context(), []string{"1", "2"}, 2, 5)
		}
		if err != nil || !slices.Equal(got, []string{"1", "2", "3", "aside", "5"}) {
			t.Errorf("replayed: %v, %v", got, err)
		}
		// One that has the entry from before it was altered gives it up.
		before := newStrictWorld(store, altered, nil)
		before.Begin([]string{"1", "2", "3", "4", "5"}, 5)
		if err := before.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		before.want(t, "1", "2", "3", "aside", "5", "6", "repair", "x7")
	})
}

func TestProjectionLacksEntries(t *testing.T) {
	for _, test := range []struct {
		name  string
		alter func([]ledger.Entry) []ledger.Entry
		want  []string
		after []string
	}{
		{"the first", func(e []ledger.Entry) []ledger.Entry { return e[1:] }, nil, []string{"aside", "aside", "3", "4", "repair"}},
		{"one between", func(e []ledger.Entry) []ledger.Entry { return slices.Delete(e, 1, 2) }, []string{"1"}, []string{"1", "aside", "aside", "4", "repair"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := ledgertest.New(t)
			fillList(t, store, 4)
			ledgertest.Alter(store, list, test.alter)
			altered := new(ledger.Alterations)
			w := newStrictWorld(store, altered, nil)
			if err := w.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.want(t, test.want...)
			if w.Altered() == nil {
				t.Error("nobody is told")
			}
			putRepair(t, store)
			if err := w.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.want(t, test.after...)
		})
	}
}

// An entry that verifies and that cannot be applied, as where the rows are gone that it
// names, stops its own history and not the server.
func TestProjectionCannotApply(t *testing.T) {
	store := ledgertest.New(t)
	fillList(t, store, 4)
	altered := new(ledger.Alterations)
	unfit := map[string]error{"3": errors.New("its rows are gone")}
	w := newStrictWorld(store, altered, unfit)
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.want(t, "1", "2")
	if err := altered.Of(list); err == nil || err.Error() != "the history does not verify: list at sequence 3: cannot be read: its rows are gone" {
		t.Errorf("got %v", err)
	}
	if _, err := w.add(t.Context(), "x"); !errors.Is(err, ledger.ErrAltered) {
		t.Errorf("a change: got %v", err)
	}
	// What may pass is no fault of the history.
	unfit["3"] = ledger.ErrUnavailable
	if err := w.Refresh(t.Context()); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	unfit["3"] = errors.New("its rows are gone")
	third, err := store.Span(t.Context(), list, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	putRepair(t, store, ledger.AsideOf(third[0]))
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.want(t, "1", "2", "aside", "4", "repair")
	if _, err := w.add(t.Context(), "x"); err != nil {
		t.Errorf("a change after the repair: %v", err)
	}
}
