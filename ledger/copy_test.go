package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
)

// fill appends so many entries to each history.
func fill(t *testing.T, m *ledgertest.Memory, id string, counts ...int) {
	t.Helper()
	for i, count := range counts {
		for n := range count {
			_, _, err := m.Append(t.Context(), ledger.Draft{
				History: ledger.History(fmt.Sprint("site/", i)), ID: fmt.Sprint(id, n), Kind: "check_in",
				Time: time.Unix(1580515200, 0), Account: "local", Content: []byte(`{}`),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A failing store fails to put once it has put so many pages.
type failing struct {
	*ledgertest.Memory
	left atomic.Int64
}

var errFull = errors.New("full")

func (f *failing) Put(ctx context.Context, entries []ledger.Entry) error {
	if f.left.Add(-1) < 0 {
		return errFull
	}
	return f.Memory.Put(ctx, entries)
}

func job(from, to ledger.Store, moved *atomic.Int64) ledger.CopyJob {
	return ledger.CopyJob{
		From: from, To: to,
		Before:   func(context.Context, ledger.Entry) error { return nil },
		Progress: func(n int) { moved.Add(int64(n)) },
	}
}

func TestCopyGoesOn(t *testing.T) {
	from := ledgertest.New(t)
	fill(t, from, "id ", 1, 500, 1234)
	to := &failing{Memory: ledgertest.New(t)}
	to.left.Store(3)
	var moved atomic.Int64
	copying := job(from, to, &moved)

	plan, err := copying.Plan(t.Context())
	if err != nil || plan.Histories != 3 || plan.Entries != 1735 || plan.Missing != 1735 {
		t.Fatalf("got the plan %+v and error %v", plan, err)
	}
	if err := copying.Copy(t.Context(), plan); !errors.Is(err, errFull) {
		t.Fatalf("got %v, want the target's error", err)
	}
	done := moved.Load()
	if done == 0 || done == plan.Entries {
		t.Fatalf("%d entries were copied before the target was full", done)
	}
	if err := copying.Verify(t.Context(), plan); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("half a copy: got %v, want ErrBroken", err)
	}

	to.left.Store(1 << 30)
	moved.Store(0)
	if plan, err = copying.Plan(t.Context()); err != nil || plan.Missing != 1735-done {
		t.Fatalf("got the plan %+v and error %v, want %d missing", plan, err, 1735-done)
	}
	if err := copying.Copy(t.Context(), plan); err != nil || moved.Load() != plan.Missing {
		t.Fatalf("copied %d with error %v, want %d", moved.Load(), err, plan.Missing)
	}
	moved.Store(0)
	if err := copying.Verify(t.Context(), plan); err != nil || moved.Load() != 1735 {
		t.Errorf("verified %d with error %v", moved.Load(), err)
	}
}

// What comes to the source while it is copied, or while the copy is checked, is told at the
// end, and the next copy brings it over.
func TestCopyNoticesAWriter(t *testing.T) {
	add := func(t *testing.T, m *ledgertest.Memory, h ledger.History, id string) {
		t.Helper()
		_, _, err := m.Append(t.Context(), ledger.Draft{History: h, ID: id, Kind: "k", Account: "local", Time: time.Unix(1580515200, 0), Content: []byte(`{}`)})
		if err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		name           string
		copying, after int // histories that get one entry more then, and site/0 each time
		want           string
	}{
		{"nobody writes", 0, 0, ""},
		{"while it is copied", 1, 0, "entries that came: 2, to site/0 (1), site/new0 (1)"},
		{"afterwards", 0, 2, "entries that came: 3, to site/0 (1), site/new0 (1), site/new1 (1)"},
		{"all the time", 2, 7, "entries that came: 9, to site/0 (2), site/new0 (1), site/new1 (1), site/new2 (1), site/new3 (1), 3 others"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := ledgertest.New(t), ledgertest.New(t)
			fill(t, from, "id ", 3, 600)
			var once sync.Once
			write := func(label string, n int) {
				if n == 0 {
					return
				}
				add(t, from, "site/0", label)
				for i := range n {
					if h := ledger.History(fmt.Sprint("site/new", i)); from.Count(h) == 0 {
						add(t, from, h, label)
					}
				}
			}
			copying := job(from, to, new(atomic.Int64))
			copying.Before = func(context.Context, ledger.Entry) error {
				once.Do(func() { write("meanwhile", c.copying) })
				return nil
			}
			plan, err := copying.Plan(t.Context())
			if err == nil {
				err = copying.Copy(t.Context(), plan)
			}
			if err == nil {
				err = copying.Verify(t.Context(), plan)
			}
			if err != nil {
				t.Fatal(err)
			}
			write("afterwards", c.after)
			err = copying.CheckSource(t.Context(), plan)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ledger.ErrSourceChanged) || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("got %v, want ErrSourceChanged with %q", err, c.want)
			}
			plan, err = copying.Plan(t.Context())
			if err == nil {
				err = copying.Copy(t.Context(), plan)
			}
			if err == nil {
				err = copying.CheckSource(t.Context(), plan)
			}
			if err != nil {
				t.Errorf("the next copy: %v", err)
			}
		})
	}
}

func TestCopyRefusesAnotherTarget(t *testing.T) {
	for _, c := range []struct {
		name string
		fill func(*testing.T, *ledgertest.Memory)
	}{
		{"another history", func(t *testing.T, m *ledgertest.Memory) { fill(t, m, "id ", 0, 0, 1) }},
		{"another entry", func(t *testing.T, m *ledgertest.Memory) { fill(t, m, "else ", 0, 1) }},
		{"a longer history", func(t *testing.T, m *ledgertest.Memory) { fill(t, m, "id ", 2) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := ledgertest.New(t), ledgertest.New(t)
			fill(t, from, "id ", 1, 3)
			c.fill(t, to)
			_, err := job(from, to, new(atomic.Int64)).Plan(t.Context())
			if !errors.Is(err, ledger.ErrOther) || !strings.Contains(err.Error(), "site/") {
				t.Errorf("got %v, want ErrOther that names the history", err)
			}
		})
	}
}

// tampered is a store in which somebody changed a record.
type tampered struct{ *ledgertest.Memory }

func (a tampered) Feed(ctx context.Context, from ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		for e, err := range a.Memory.Feed(ctx, from) {
			if e.Sequence == 7 {
				e.Record = []byte(strings.Replace(string(e.Record), "local", "other", 1))
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestCopyFindsWhatWasChanged(t *testing.T) {
	from, to := ledgertest.New(t), ledgertest.New(t)
	fill(t, from, "id ", 10)
	var moved atomic.Int64
	copying := job(tampered{from}, to, &moved)
	plan, err := copying.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := copying.Copy(t.Context(), plan); !errors.Is(err, ledger.ErrBroken) || !strings.Contains(err.Error(), "site/0 at sequence 7") {
		t.Errorf("got %v, want ErrBroken at site/0, sequence 7", err)
	}
	if to.Count("site/0") != 0 {
		t.Error("a page with a changed record was stored")
	}
	copying = job(from, tampered{to}, &moved)
	if err := copying.Copy(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if err := copying.Verify(t.Context(), plan); !errors.Is(err, ledger.ErrBroken) || !strings.Contains(err.Error(), "site/0 at sequence 7") {
		t.Errorf("got %v, want ErrBroken at site/0, sequence 7", err)
	}
}
