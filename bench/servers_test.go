package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"xuncha/client"
)

func TestReadMachine(t *testing.T) {
	busy, all, err := readMachine("cpu  100 10 40 800 30 5 10 5 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
	if err != nil || busy != 1700*time.Millisecond || all != 10*time.Second {
		t.Errorf("got %v of %v, %v, want 1.7s of 10s", busy, all, err)
	}
	for _, stat := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 3 x 5 6 7 8 9 10"} {
		if _, _, err := readMachine(stat); err == nil {
			t.Errorf("%q: got no error", stat)
		}
	}
}

func TestBurden(t *testing.T) {
	b := burden{busy: 8 * time.Second, all: 10 * time.Second, servers: 3 * time.Second, database: 2 * time.Second, callers: time.Second}
	if b.busyPart() != 80 || b.othersPart() != 20 {
		t.Errorf("got %v %% busy, %v %% by others, want 80 and 20", b.busyPart(), b.othersPart())
	}
	b.callers = 4 * time.Second // clock ticks do not add up to the last one
	if b.othersPart() != 0 {
		t.Errorf("got %v %% by others, want none", b.othersPart())
	}
}

// TestQuestions ensures that what the driver and the bench ask for themselves is not
// taken for a question of the servers.
func TestQuestions(t *testing.T) {
	before := questions{"find entries": 10, "insert entries": 5, "hello": 3}
	after := questions{"find entries": 30, "insert entries": 5, "update writers": 1, "hello": 9, "standIn": 2, "count entries": 40}
	asked := after.since(before)
	if got := asked.total(); got != 61 {
		t.Errorf("got %d questions, want 61", got)
	}
	if got, want := asked.per(10), "4.00 count entries, 2.00 find entries, 0.10 update writers"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := asked.per(1000), "0.04 count entries, 0.02 find entries"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := asked.since(asked).per(1); got != "none" {
		t.Errorf("got %s, want none", got)
	}
}

// TestOutcomeOf ensures that a call that hangs through the window is among its latencies,
// though it is not among those that ended in it.
func TestOutcomeOf(t *testing.T) {
	zero := time.Unix(0, 0)
	made := func(begun, ended int) madeCall {
		return madeCall{zero.Add(time.Duration(begun) * time.Second), zero.Add(time.Duration(ended) * time.Second)}
	}
	first := errors.New("first")
	got := outcomeOf([]callLog{
		{calls: []madeCall{made(0, 9), made(9, 11), made(11, 12), made(19, 21), made(21, 22)}},
		{calls: []madeCall{made(8, 30)}, failed: 2, err: first},
	}, zero.Add(10*time.Second), zero.Add(20*time.Second))
	want := latencies{time.Second, 2 * time.Second, 2 * time.Second, 22 * time.Second}
	if got.rate != 0.2 || !slices.Equal(got.took, want) || got.done != 6 || got.failed != 2 || !errors.Is(got.err, first) {
		t.Errorf("got %+v, want 0.2 a second that took %v, 6 done, 2 failed", got, want)
	}
	all := merge([]outcome{{rate: 1, took: latencies{3}, done: 1}, got})
	if all.rate != 1.2 || all.took[0] != 3 || len(all.took) != 5 || all.done != 7 || all.failed != 2 || !errors.Is(all.err, first) {
		t.Errorf("merged with another: got %+v", all)
	}
}

func TestFurthestBehind(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	for _, c := range []struct {
		name     string
		accepted []time.Time
		counts   []counted
		want     time.Duration
	}{
		{"nothing", nil, nil, 0},
		{"each at once", []time.Time{at(0), at(10)}, []counted{{at(5), 1}, {at(15), 2}}, 5 * time.Millisecond},
		{"the first was late", []time.Time{at(0), at(10)}, []counted{{at(5), 0}, {at(700), 2}}, 700 * time.Millisecond},
		{"the last was late", []time.Time{at(0), at(10)}, []counted{{at(5), 1}, {at(1010), 2}}, time.Second},
		{"counted before the answer", []time.Time{at(0), at(10)}, []counted{{at(1), 3}}, time.Millisecond},
	} {
		if got := furthestBehind(c.accepted, c.counts); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestRuns ensures that ratios are taken in each round, where both were measured under
// the same load of others.
func TestRuns(t *testing.T) {
	of := func(rates ...float64) (out runs) {
		for _, r := range rates {
			out = append(out, run{outcome: outcome{rate: r}})
		}
		return out
	}
	one, two := of(100, 10, 50), of(180, 20, 60)
	if got := two.against(one, rateOf); got != 1.8 {
		t.Errorf("got %v × one, want 1.8", got)
	}
	if got := two.median(rateOf); got != 60 {
		t.Errorf("got a median of %v, want 60", got)
	}
}

// TestLoadGroups ensures that a patient caller goes on after a failure that passes, as
// late as the server says, and that every other failure ends the measurement.
func TestLoadGroups(t *testing.T) {
	server := child{conns: []*client.Client{nil}}
	slow := func(d time.Duration, err error) call {
		return func(context.Context, *client.Client, *rand.Rand) error {
			time.Sleep(d)
			return err
		}
	}
	later, err := status.New(codes.Unavailable, "").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(900 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var samples atomic.Int64
		out, before, after, err := loadGroups(t.Context(), 10*time.Second, []group{
			{server: server, callers: 2, call: slow(100*time.Millisecond, nil)},
			{server: server, callers: 1, call: slow(200*time.Millisecond, later.Err()), patient: true},
		}, func() (int64, error) { return samples.Add(1), nil })
		if err != nil {
			t.Fatal(err)
		}
		if before != 1 || after != 2 {
			t.Errorf("got the samples %d and %d, want 1 and 2", before, after)
		}
		if good := out[0]; good.rate < 19 || good.rate > 21 || good.took.at(1) != 100*time.Millisecond || good.failed != 0 {
			t.Errorf("two callers of 0.1 s: got %v a second, %v", good.rate, good.took)
		}
		if bad := out[1]; bad.rate != 0 || bad.failed != 11 || status.Code(bad.err) != codes.Unavailable {
			t.Errorf("a call that fails each 1.1 s of 12: got %+v", bad)
		}

		for _, g := range []group{
			{server: server, callers: 1, call: slow(time.Millisecond, status.Error(codes.Internal, "")), patient: true},
			{server: server, callers: 1, call: slow(time.Millisecond, later.Err())},
		} {
			if _, _, _, err := loadGroups(t.Context(), time.Second, []group{g}, func() (int64, error) { return 0, nil }); err == nil {
				t.Errorf("patient %v: got no error", g.patient)
			}
		}
	})
}
