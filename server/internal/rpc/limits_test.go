package rpc

import (
	"context"
	"errors"
	"testing"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

func TestLimiter(t *testing.T) {
	l, err := newLimiter("account", 2)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC)
	for i := range 2 * burstSeconds {
		if err := l.take(now, "a"); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	var limited *limitedError
	if err := l.take(now, "a"); !errors.As(err, &limited) || limited.RetryAfter() != 500*time.Millisecond {
		t.Fatalf("after the burst: got %v, want to wait 500ms", err)
	}
	if err := l.take(now, "b"); err != nil {
		t.Errorf("another account: %v", err)
	}
	if err := l.take(now.Add(limited.RetryAfter()), "a"); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if none, err := newLimiter("account", 0); err != nil || none.take(now, "a") != nil {
		t.Errorf("without a limit: %v", err)
	}
}

// TestLimits ensures that an account that calls without end is told to wait, and
// nobody else is.
func TestLimits(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.CallsPerAccount = 1 })
	w.areas(t)
	w.create(t, "busy", accounts.Head, "511600")
	w.create(t, "other", accounts.Head, "511600")
	busy, other := with(t.Context(), w.signIn(t, "busy")), with(t.Context(), w.signIn(t, "other"))
	people := xunchav1.NewAccountServiceClient(w.conn)
	for range burstSeconds {
		must(people.GetMe(busy, &xunchav1.GetMeRequest{}))(t)
	}
	_, err := people.GetMe(busy, &xunchav1.GetMeRequest{})
	wantStatus(t, err, codes.ResourceExhausted, "RATE_LIMITED", "")
	wait := retryAfter(err)
	if wait != time.Second {
		t.Errorf("got a RetryInfo of %v, want 1s", wait)
	}
	must(people.GetMe(other, &xunchav1.GetMeRequest{}))(t)
	w.advance(wait)
	must(people.GetMe(busy, &xunchav1.GetMeRequest{}))(t)
}

// TestDebt ensures that costly calls slow their caller down, by as much as they cost,
// and that nobody is ever locked out for longer than a burst lasts.
func TestDebt(t *testing.T) {
	const perSecond = 2
	l, err := newLimiter("account", perSecond)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC)
	wait := func(name string) time.Duration {
		var limited *limitedError
		switch err := l.take(now, name); {
		case err == nil:
			return 0
		case errors.As(err, &limited):
			return limited.RetryAfter()
		default:
			t.Fatal(err)
			return 0
		}
	}
	for _, test := range []struct {
		name string
		cost int64
		want time.Duration
	}{
		{"free", 0, 0},
		{"cheap", callCost, 0},
		{"costly", 20 * callCost, 0},
		// What was saved up is spent, but for the last call.
		{"spent", (burstSeconds*perSecond - 1) * callCost, 0},
		{"all", burstSeconds * perSecond * callCost, time.Second / perSecond},
		{"ten too many", (burstSeconds*perSecond + 10) * callCost, 11 * time.Second / perSecond},
		{"endless", 1 << 50, burstSeconds*time.Second + time.Second/perSecond},
	} {
		if w := wait(test.name); w != 0 {
			t.Fatalf("%s: the first call waits %v", test.name, w)
		}
		l.charge(now, test.name, test.cost)
		if got := wait(test.name); got != test.want {
			t.Errorf("%s: the next call waits %v, want %v", test.name, got, test.want)
		}
	}
	for range 10 {
		l.charge(now, "endless", 1<<50)
	}
	if got, most := wait("endless"), burstSeconds*time.Second+time.Second/perSecond; got != most {
		t.Errorf("after ten endless calls the next one waits %v, want %v", got, most)
	}
	now = now.Add(burstSeconds*time.Second + time.Second/perSecond)
	if got := wait("endless"); got != 0 {
		t.Errorf("after that it still waits %v", got)
	}
}

// TestCost ensures that what a call has looked at is charged to its own account alone,
// also where it fails, and to nobody on a server without limits or accounts.
func TestCost(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"root", "busy", "other", "late"} {
		w.create(t, name, accounts.Admin, "511600")
	}
	limit, err := newLimiter("account", 1)
	if err != nil {
		t.Fatal(err)
	}
	validator := must(protovalidate.New())(t)
	limited := &calls{config: &w.config, lines: NewCallLog(w.config.Log), validator: validator, newID: w.config.NewID, now: w.clock, perAccount: limit}
	// call makes a call that looks at so much and ends with the error.
	call := func(c *calls, token string, cost int, end error) error {
		md := metadata.MD{}
		if token != "" {
			md.Set("authorization", "Bearer "+token)
		}
		ctx := metadata.NewIncomingContext(t.Context(), md)
		_, err := c.unary(ctx, xunchav1.RosterService_ListClosureOrders_FullMethodName, received,
			func(ctx context.Context, read func(any) error) (any, error) {
				if err := read(&xunchav1.ListClosureOrdersRequest{}); err != nil {
					return nil, err
				}
				spend(ctx, cost/2)
				spend(ctx, cost/2)
				return &xunchav1.ListClosureOrdersResponse{}, end
			})
		return err
	}
	busy, other, late := w.signIn(t, "busy"), w.signIn(t, "other"), w.signIn(t, "late")
	if err := call(limited, busy, 2*burstSeconds*callCost, nil); err != nil {
		t.Fatalf("a costly call itself: %v", err)
	}
	err = call(limited, busy, 0, nil)
	wantStatus(t, err, codes.ResourceExhausted, "RATE_LIMITED", "")
	if got, want := retryAfter(err), (burstSeconds+1)*time.Second; got != want {
		t.Errorf("got a RetryInfo of %v, want %v", got, want)
	}
	for range burstSeconds {
		if err := call(limited, other, callCost, nil); err != nil {
			t.Fatalf("another account: %v", err)
		}
	}
	wantStatus(t, call(limited, late, 2*burstSeconds*callCost, context.DeadlineExceeded), codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "")
	wantStatus(t, call(limited, late, 0, nil), codes.ResourceExhausted, "RATE_LIMITED", "")

	w.advance(time.Hour)
	unlimited := &calls{config: &w.config, lines: NewCallLog(w.config.Log), validator: validator, newID: w.config.NewID, now: w.clock}
	open := newWorld(t)
	nobody := &calls{config: &open.config, lines: NewCallLog(open.config.Log), validator: validator, newID: w.config.NewID, now: w.clock, perAccount: limit}
	for range 3 {
		if err := call(unlimited, w.signIn(t, "busy"), 1<<40, nil); err != nil {
			t.Errorf("without a limit: %v", err)
		}
		if err := call(nobody, "", 1<<40, nil); err != nil {
			t.Errorf("without accounts: %v", err)
		}
	}
}

// received stands for receiveOnly where the request is there already.
func received(context.Context, any, int) error { return nil }

// retryAfter returns when a call that failed may be made again.
func retryAfter(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.RetryDelay.AsDuration()
		}
	}
	return 0
}
