package mongostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"xuncha/ledger"
	"xuncha/server/internal/mongostore/mongotest"
)

// control steers a stand-in.
func control(t *testing.T, s *mongotest.StandIn, how ...bson.E) bson.Raw {
	t.Helper()
	out, err := s.Control(t.Context(), how)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lyingOn returns names of histories that lie on a shard.
func lyingOn(t *testing.T, s *mongotest.StandIn, shard int32, n int) (out []ledger.History) {
	t.Helper()
	for i := 0; len(out) < n; i++ {
		h := ledger.History(fmt.Sprintf("site/%d", i))
		if control(t, s, is("shardOf", string(h))).Lookup("shard").Int32() == shard {
			out = append(out, h)
		}
	}
	return out
}

// A shard without a primary holds up its own histories alone, however many of them there
// are. Once it is back, what was tried meanwhile is there once or not at all, and a reader
// that was told the rest at once is told of it too.
func TestShardWithoutPrimary(t *testing.T) {
	s := standIn(t, "-commit=1ms", "-shards=2")
	uri := s.Database(t)
	a, b := openAt(t, uri), openAt(t, uri)
	here, there := lyingOn(t, s, 0, 3), lyingOn(t, s, 1, 2*(maxTurns+maxSlow))
	r := &reader{store: b}
	for _, h := range append(here[:3:3], there...) {
		mustAppendDraft(t, a, of(h, "first"))
	}
	if _, err := r.next(t); err != nil {
		t.Fatal(err)
	}
	control(t, s, is("shard", 1), is("primary", false))
	// More of them wait than there are turns.
	var waiting sync.WaitGroup
	gone, leave := context.WithCancel(t.Context())
	for _, h := range there {
		waiting.Go(func() {
			if _, _, err := a.Append(gone, of(h, "meanwhile")); err == nil {
				t.Errorf("%s was stored without a primary", h)
			}
		})
	}
	eventually(t, "too many wait", func() bool { return len(a.writer.turns.slow) == maxSlow })
	for i := range 20 {
		for _, h := range here {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, _, err := a.Append(ctx, of(h, fmt.Sprint(i))); err != nil {
				t.Fatalf("%s: %v", h, err)
			}
			cancel()
		}
	}
	// A reader is told that it is only a part.
	if _, err := r.next(t); !errors.Is(err, ledger.ErrPartly) || !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("got %v, want ErrPartly", err)
	}
	leave()
	waiting.Wait()
	control(t, s, is("shard", 1), is("primary", true))
	for _, h := range there {
		eventually(t, "it is stored", func() bool {
			_, _, err := a.Append(t.Context(), of(h, "meanwhile"))
			if err != nil && !errors.Is(err, ledger.ErrUnavailable) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	got := map[string]int{}
	for e, err := range b.Feed(t.Context(), r.at) {
		if err != nil && !errors.Is(err, ledger.ErrWaiting) {
			t.Fatal(err)
		}
		got[string(e.History)+" "+e.ID]++
	}
	for _, h := range there {
		if n := got[string(h)+" meanwhile"]; n != 1 {
			t.Errorf("the entry of %s was given %d times, want once", h, n)
		}
	}
	if n := a.writer.settleAll(t.Context()); n != 0 {
		t.Errorf("of %d histories it is not known what has become of their entries", n)
	}
}

// An entry that reaches its majority long after its server gave it up is given to
// readers, once, and what other histories store meanwhile is given at once.
func TestLateMajority(t *testing.T) {
	s := standIn(t, "-commit=1ms", "-shards=2")
	uri := s.Database(t)
	a, b := openAt(t, uri), openAt(t, uri)
	here, there := lyingOn(t, s, 0, 1)[0], lyingOn(t, s, 1, 1)[0]
	mustAppendDraft(t, a, of(here, "0"))
	r := &reader{store: b}
	r.want(t, "0 ", nil)
	const late = 3 * time.Second
	control(t, s, is("shard", 1), is("commit", late.String()))
	ctx, cancel := context.WithTimeout(t.Context(), late/10)
	defer cancel()
	if _, _, err := a.Append(ctx, of(there, "late")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the caller's own deadline", err)
	}
	want := ""
	for i := range 300 {
		id := fmt.Sprint(i + 1)
		mustAppendDraft(t, a, of(here, id))
		want += id + " "
	}
	r.want(t, want, nil)
	// Nobody asks the server that stored it any more.
	got := ""
	eventually(t, "it is given", func() bool {
		ids, err := r.next(t)
		if err != nil {
			t.Fatal(err)
		}
		got += ids
		return got != ""
	})
	if got != "late " {
		t.Errorf("got %q", got)
	}
	r.want(t, "", nil)
}

// A hole costs a reader a bounded query, however much was stored behind it.
func TestHoleIsBounded(t *testing.T) {
	s := standIn(t, "-commit=0s", "-rtt=0s")
	uri := s.Database(t)
	a, b := openAt(t, uri), openAt(t, uri)
	r := &reader{store: b}
	mustAppend(t, a, "0")
	r.want(t, "0 ", nil)
	a.writer.series.take(1) // is on its way for ever
	const behind = 2000
	var all sync.WaitGroup
	for h := range 8 {
		all.Go(func() {
			for i := range behind / 8 {
				if _, _, err := a.Append(t.Context(), of(ledger.History(fmt.Sprint("site/", h)), fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for n := 0; n < behind; {
		for e, err := range b.Feed(t.Context(), r.at) {
			if err != nil {
				t.Fatal(err)
			}
			r.at = e.After()
			n++
		}
	}
	if len(r.at) > 200 {
		t.Errorf("the cursor behind a hole has %d bytes: %s", len(r.at), r.at)
	}
	asked := func() int64 {
		t.Helper()
		counts := control(t, s, is("counts", true)).Lookup("counts").Document()
		n, _ := counts.Lookup("find entries").AsInt64OK()
		return n
	}
	before := asked()
	r.want(t, "", nil)
	if n := asked() - before; n != 1 {
		t.Errorf("a reader behind a hole asked %d times for what is new, want once", n)
	}
}

// eventually asks again until the answer is right, at most for a time that only a
// broken program needs.
func eventually(t *testing.T, what string, right func() bool) {
	t.Helper()
	for late := time.Now().Add(time.Minute); !right(); {
		if time.Now().After(late) {
			t.Fatalf("%s: not after a minute", what)
		}
		waitFor(t.Context(), 10*time.Millisecond)
	}
}
