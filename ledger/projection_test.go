package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
)

const list ledger.History = "list"

// A world is the ids of a history's entries, as a server that projects them.
type world struct {
	*ledger.Projection[[]string]
	store *ledgertest.Memory
	// onApply is called before entries are applied.
	onApply func()
}

func newWorld(store *ledgertest.Memory) *world {
	w := &world{store: store, onApply: func() {}}
	w.Projection = ledger.NewProjection(store, list, nil, func(_ context.Context, before []string, entries []ledger.Entry) ([]string, error) {
		w.onApply()
		after := slices.Clone(before)
		for _, e := range entries {
			after = append(after, e.ID)
		}
		return after, nil
	})
	return w
}

func item(id string) ledger.Draft {
	return ledger.Draft{History: list, ID: id, Kind: "item", Time: time.Unix(1580515200, 0), Account: "test", Content: []byte(`{}`)}
}

// add appends the id, once more with a number where it is there.
func (w *world) add(ctx context.Context, id string) ([]string, error) {
	return w.Change(ctx, func(ids []string) (*ledger.Draft, error) {
		d := item(fmt.Sprint(id, len(ids)))
		return &d, nil
	})
}

func (w *world) want(t *testing.T, ids ...string) {
	t.Helper()
	if got := w.State(); !slices.Equal(got, ids) {
		t.Errorf("got the state %v, want %v", got, ids)
	}
}

func TestChangeDecidesAnew(t *testing.T) {
	store := ledgertest.New(t)
	a, b := newWorld(store), newWorld(store)
	if _, err := a.add(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	// b has not followed, and decides on what it has first.
	got, err := b.add(t.Context(), "b")
	if err != nil || !slices.Equal(got, []string{"a0", "b1"}) {
		t.Errorf("got %v, %v", got, err)
	}
	// Another writer comes between the decision and the append.
	other := true
	store.OnWrite(func(ledger.Draft) ledgertest.Fault {
		if !other {
			return ledgertest.Fault{}
		}
		other = false
		return ledgertest.Moved(item("other's"))
	})
	if got, err = b.add(t.Context(), "b"); err != nil || !slices.Equal(got, []string{"a0", "b1", "other's", "b3"}) {
		t.Errorf("got %v, %v", got, err)
	}
	// What decide refuses or does not want is not stored.
	stop := errors.New("stop")
	if _, err := a.Change(t.Context(), func([]string) (*ledger.Draft, error) { return nil, stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want decide's error", err)
	}
	if got, err := a.Change(t.Context(), func([]string) (*ledger.Draft, error) { return nil, nil }); err != nil || !slices.Equal(got, []string{"a0"}) {
		t.Errorf("got %v, %v, want the state as it is here", got, err)
	}
	if n := store.Count(list); n != 4 {
		t.Errorf("%d entries are stored, want 4", n)
	}
}

// TestChangeTellsThatItIsStored ensures that a draft is told once that it is stored, before it is
// applied, and one that another writer was before, or that the store refuses, never.
func TestChangeTellsThatItIsStored(t *testing.T) {
	store := ledgertest.New(t)
	w := newWorld(store)
	var told []string
	add := func() error {
		_, err := w.Change(t.Context(), func(ids []string) (*ledger.Draft, error) {
			d := item(fmt.Sprint("a", len(ids)))
			d.Stored = func() { told = append(told, d.ID) }
			return &d, nil
		})
		return err
	}
	fault := ledgertest.Moved(item("other's"))
	store.OnWrite(func(ledger.Draft) (f ledgertest.Fault) { f, fault = fault, f; return f })
	w.onApply = func() { told = append(told, "applied") }
	if err := add(); err != nil {
		t.Fatal(err)
	}
	store.OnWrite(func(ledger.Draft) ledgertest.Fault { return ledgertest.Refused })
	if err := add(); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("got %v, want %v", err, ledger.ErrFull)
	}
	if want := []string{"applied", "a1", "applied"}; !slices.Equal(told, want) {
		t.Errorf("got %q, want %q", told, want)
	}
}

func TestChangeFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault ledgertest.Fault
		err   error
		want  []string
	}{
		{"refused", ledgertest.Refused, ledger.ErrFull, nil},
		{"failed", ledgertest.Failed, ledger.ErrUnavailable, nil},
		// Its caller cannot know, but whoever asks is told what is stored.
		{"failed but stored", ledgertest.FailedButStored, ledger.ErrUnavailable, []string{"a0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := ledgertest.New(t)
			w := newWorld(store)
			store.OnWrite(func(ledger.Draft) ledgertest.Fault { return c.fault })
			if _, err := w.add(t.Context(), "a"); !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			w.want(t, c.want...)
			store.OnWrite(nil)
			if _, err := w.add(t.Context(), "b"); err != nil {
				t.Error(err)
			}
			w.want(t, append(c.want, fmt.Sprint("b", len(c.want)))...)
		})
	}
}

// A caller with a deadline is not kept longer by another's change, whether that
// decides, is stored or is applied; and whoever changes nothing waits for nobody.
func TestChangeHonoursDeadlines(t *testing.T) {
	for _, at := range []string{"decide", "append", "apply"} {
		t.Run(at, func(t *testing.T) {
			store := ledgertest.New(t)
			w := newWorld(store)
			reached, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			hold := func() {
				once.Do(func() {
					close(reached)
					<-release
				})
			}
			var slow sync.WaitGroup
			switch at {
			case "append":
				store.OnWrite(func(ledger.Draft) ledgertest.Fault { hold(); return ledgertest.Fault{} })
			case "apply":
				w.onApply = hold
			}
			slow.Go(func() {
				_, err := w.Change(t.Context(), func(ids []string) (*ledger.Draft, error) {
					if at == "decide" {
						hold()
					}
					d := item(fmt.Sprint("slow", len(ids)))
					return &d, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			<-reached
			w.want(t)
			if got, err := w.Change(t.Context(), func([]string) (*ledger.Draft, error) { return nil, nil }); err != nil || got != nil {
				t.Errorf("a dry run: got %v, %v", got, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			_, err := w.add(ctx, "quick")
			if at == "decide" {
				// What only decides keeps nobody.
				if err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the caller's deadline", err)
			}
			close(release)
			slow.Wait()
			if at == "decide" {
				w.want(t, "quick0", "slow1")
			} else {
				w.want(t, "slow0")
			}
		})
	}
}

func TestProjectionFollows(t *testing.T) {
	store := ledgertest.New(t)
	a, b := newWorld(store), newWorld(store)
	feed := ledger.NewFollower(store, "", b.Take)
	other := item("elsewhere")
	other.History = "another"
	if _, _, err := store.Append(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := a.add(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		b.want(t, []string{"a0", "a1"}[:i]...)
		if err := feed.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.want(t, []string{"a0", "a1"}[:i]...) // noted and not yet applied
		if err := b.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.want(t, []string{"a0", "a1", "a2"}[:i+1]...)
	}
	// One that is told of nothing asks for nothing.
	if _, err := a.add(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := b.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.want(t, "a0", "a1", "a2")
	if err := b.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.want(t, "a0", "a1", "a2", "a3")
}

func TestReplay(t *testing.T) {
	store := ledgertest.New(t)
	w := newWorld(store)
	const count = 1200 // more than are read at once
	for i := range count {
		if _, _, err := store.Append(t.Context(), item(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	var before []string
	for _, n := range []int{0, 1, 499, 500, 501, 1000, count} {
		got, err := w.Replay(t.Context(), nil, 0, ledger.Sequence(n))
		if err != nil || len(got) != n {
			t.Errorf("until entry %d: got %d, %v", n, len(got), err)
		}
		from, err := w.Replay(t.Context(), before, ledger.Sequence(len(before)), ledger.Sequence(n))
		if err != nil || !slices.Equal(from, got) {
			t.Errorf("until entry %d from %d on: got %d, %v", n, len(before), len(from), err)
		}
		before = got
	}
	if _, err := w.Replay(t.Context(), nil, 0, count+1); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("until an entry that is not there: got %v, want ErrBroken", err)
	}
	e, err := w.Entry(t.Context(), 7)
	if err != nil || e.ID != "6" {
		t.Errorf("got %s, %v", e.ID, err)
	}
	if _, err := w.Entry(t.Context(), count+1); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("an entry that is not there: got %v, want ErrBroken", err)
	}
}

// TestBegin ensures that a state that was kept is gone on from, and that what it
// holds is not read again.
func TestBegin(t *testing.T) {
	store := ledgertest.New(t)
	a, b := newWorld(store), newWorld(store)
	for range 3 {
		if _, err := a.add(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	b.Begin([]string{"kept"}, 2)
	b.want(t, "kept")
	if err := b.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.want(t, "kept", "a2")
	if _, err := b.add(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	b.want(t, "kept", "a2", "b2")
}

func TestFollower(t *testing.T) {
	t.Run("CatchUp", func(t *testing.T) { testFollower(t, (*ledger.Follower).CatchUp) })
	t.Run("ReadAll", func(t *testing.T) {
		testFollower(t, func(f *ledger.Follower, ctx context.Context) error { return f.ReadAll(ctx, 2) })
	})
}

func testFollower(t *testing.T, catchUp func(*ledger.Follower, context.Context) error) {
	store := ledgertest.New(t)
	var a, b []string
	broken := errors.New("broken")
	var fail error
	takeA := func(e ledger.Entry) error {
		a = append(a, e.ID)
		return nil
	}
	takeB := func(e ledger.Entry) error {
		if e.ID == "2" && fail != nil {
			return fail
		}
		b = append(b, e.ID)
		return nil
	}
	f := ledger.NewFollower(store, "", takeA, takeB)
	add := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			if _, _, err := store.Append(t.Context(), item(id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("0", "1")
	if err := catchUp(f, t.Context()); err != nil {
		t.Fatal(err)
	}
	at := f.Cursor()
	// What is not taken comes again, and nothing is passed over.
	fail = broken
	add("2", "3")
	if err := catchUp(f, t.Context()); !errors.Is(err, broken) || f.Cursor() != at {
		t.Errorf("got %v at %q, want the taker's error at %q", err, f.Cursor(), at)
	}
	fail = nil
	if err := catchUp(f, t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b, " "); got != "0 1 2 3" {
		t.Errorf("got %s", got)
	}
	if got := strings.Join(a, " "); got != "0 1 2 2 3" {
		t.Errorf("the other got %s", got)
	}
	// Another goes on from the first one's cursor.
	a = nil
	g := ledger.NewFollower(store, at, takeA)
	if err := catchUp(g, t.Context()); err != nil || strings.Join(a, " ") != "2 3" || g.Cursor() != f.Cursor() {
		t.Errorf("got %v, %v", a, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := catchUp(f, ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
