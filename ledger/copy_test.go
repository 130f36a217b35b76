package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
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
