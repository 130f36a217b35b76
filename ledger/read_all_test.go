package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
)

// A cut is a store whose feed ends with an error after so many entries.
type cut struct {
	*ledgertest.Memory
	after int
}

var errCut = errors.New("cut")

func (c *cut) Feed(ctx context.Context, from ledger.Cursor) iter.Seq2[ledger.FeedEntry, error] {
	return func(yield func(ledger.FeedEntry, error) bool) {
		for e, err := range c.Memory.Feed(ctx, from) {
			if !yield(e, err) {
				return
			}
			if c.after--; c.after == 0 {
				yield(ledger.FeedEntry{}, errCut)
				return
			}
		}
	}
}

// TestReadAll holds that several goroutines take every entry once, in the order of its
// history and whole, also where the feed breaks off and goes on.
func TestReadAll(t *testing.T) {
	store := &cut{Memory: ledgertest.New(t)}
	const histories, count = 17, 3000
	for i := range count {
		d := item(fmt.Sprint(i))
		d.History = ledger.History(fmt.Sprint("site/", i*i%histories))
		d.Content = fmt.Appendf(nil, `{"text":"%0*d"}`, i%700, i)
		if _, _, err := store.Append(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	for _, goroutines := range []int{1, 2, 5} {
		var mu sync.Mutex
		heads := map[ledger.History]ledger.Head{}
		taken := 0
		f := ledger.NewFollower(store, "", func(e ledger.Entry) error {
			mu.Lock()
			defer mu.Unlock()
			var err error
			heads[e.History], err = heads[e.History].Follow(e)
			taken++
			return err
		})
		store.after = count / 3
		if err := f.ReadAll(t.Context(), goroutines); !errors.Is(err, errCut) || taken != count/3 {
			t.Errorf("%d goroutines: got %v after %d entries, want a cut after %d", goroutines, err, taken, count/3)
		}
		store.after = 0 // never again
		if err := f.ReadAll(t.Context(), goroutines); err != nil || taken != count {
			t.Errorf("%d goroutines: got %v after %d entries, want %d", goroutines, err, taken, count)
		}
	}
}

// TestReadAllStops holds that a taker that fails ends the reading, however much is left.
func TestReadAllStops(t *testing.T) {
	store := ledgertest.New(t)
	for i := range 3_000 {
		d := item(fmt.Sprint(i))
		d.History = ledger.History(fmt.Sprint("site/", i%3))
		if _, _, err := store.Append(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	f := ledger.NewFollower(store, "", func(e ledger.Entry) error {
		if bytes.Contains(e.Record, []byte(`"id":"300"`)) {
			return broken
		}
		return nil
	})
	if err := f.ReadAll(t.Context(), 2); !errors.Is(err, broken) || f.Cursor() != "" {
		t.Errorf("got %v at %q, want the taker's error at the beginning", err, f.Cursor())
	}
}
