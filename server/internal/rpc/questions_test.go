package rpc

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// A heldStore holds up the readings of one history's entries until it is let go.
type heldStore struct {
	ledger.Store
	history atomic.Value // ledger.History
	reading atomic.Int64
	letGo   chan struct{}
}

func (s *heldStore) Entries(ctx context.Context, keys []ledger.Key) ([]ledger.Entry, error) {
	if len(keys) > 0 && keys[0].History == s.history.Load() {
		s.reading.Add(1)
		select {
		case <-s.letGo:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Store.Entries(ctx, keys)
}

// TestManyQuestions asks a hundred questions of one account at once and holds up those
// that are being answered. Another account's questions and everybody's submissions must
// not wait for them.
func TestManyQuestions(t *testing.T) {
	held := &heldStore{letGo: make(chan struct{})}
	w := newWorldWith(t, func(c *Config) {
		held.Store = c.Inspections.Ledger
		c.Inspections.Ledger = held
	})
	w.submit(t, w.checkIn(0))
	w.submit(t, w.checkIn(1))
	held.history.Store(sites.SiteID(w.sites[0].SiteId).History())
	token := map[string]context.Context{}
	for name, role := range map[string]accounts.Role{"busy": accounts.Head, "other": accounts.Head, "officer": accounts.Officer} {
		if !w.accounts.Any() {
			w.create(t, "root", accounts.Admin, "511600")
		}
		w.create(t, name, role, "511600")
		token[name] = with(t.Context(), w.signIn(t, name))
	}
	ask := func(name string, site int) error {
		_, err := w.checkIns.ListCheckIns(token[name], &xunchav1.ListCheckInsRequest{SiteId: w.sites[site].SiteId})
		return err
	}

	const all = 100
	answers := make(chan error, all)
	for range all {
		go func() { answers <- ask("busy", 0) }()
	}
	for range all - maxAsking - maxWaiting {
		err := <-answers
		wantStatus(t, err, codes.ResourceExhausted, "RATE_LIMITED", "")
		if got := retryAfter(err); got != crowdedRetry {
			t.Errorf("got a RetryInfo of %v, want %v", got, crowdedRetry)
		}
	}
	waitFor(t, "the questions that are answered at once", func() bool { return held.reading.Load() == maxAsking })
	for _, site := range []int{0, 1} {
		if _, err := w.checkIns.SubmitCheckIn(token["officer"], &xunchav1.SubmitCheckInRequest{CheckIn: w.checkIn(site)}); err != nil {
			t.Errorf("a submission to site %d: %v", site, err)
		}
	}
	if err := ask("other", 1); err != nil {
		t.Errorf("another account's list: %v", err)
	}
	if _, err := w.coverage.GetCoverage(token["other"], &xunchav1.GetCoverageRequest{DivisionCode: "511600", Depth: 3}); err != nil {
		t.Errorf("another account's report: %v", err)
	}
	if got := held.reading.Load(); got != maxAsking {
		t.Errorf("%d questions of one account are being answered at once, want %d", got, maxAsking)
	}
	close(held.letGo)
	for range maxAsking + maxWaiting {
		if err := <-answers; err != nil {
			t.Errorf("a question that waited: %v", err)
		}
	}
	if err := ask("busy", 0); err != nil {
		t.Errorf("the next question: %v", err)
	}
}

// TestQuestionsLeaveNothing ensures that a question whose caller's time is over while it
// waits takes no place, and that nothing is kept of an account without questions.
func TestQuestionsLeaveNothing(t *testing.T) {
	q := newQuestions()
	var done []func()
	for range maxAsking {
		end, err := q.ask(t.Context(), "busy")
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, end)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for range 2 * maxWaiting {
		if _, err := q.ask(late, "busy"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a question whose time is over: %v", err)
		}
	}
	for _, end := range done {
		end()
	}
	if len(q.of) != 0 {
		t.Errorf("%d accounts are kept", len(q.of))
	}
}

// TestTurns ensures that a question waits while as many as may have their turn, and no
// longer than a turn lasts: those before it may wait for a database that is away.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuestions()
		begun := time.Now()
		turn := func() func() {
			done, err := q.turn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return done
		}
		var slow []func()
		for range cap(q.turns) {
			slow = append(slow, turn())
		}
		late, cancel := context.WithTimeout(t.Context(), turnLength/2)
		defer cancel()
		if _, err := q.turn(late); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a turn: got %v", err)
		}
		done := turn()
		if waited := time.Since(begun); waited != turnLength {
			t.Errorf("the next question waited %v, want %v", waited, turnLength)
		}
		for _, end := range slow {
			end() // too late, and no harm
		}
		done()
		for range cap(q.turns) {
			defer turn()()
		}
		if waited := time.Since(begun); waited != turnLength {
			t.Errorf("once the others have ended, the next ones waited until %v", waited)
		}
	})
}
