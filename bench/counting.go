package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"xuncha/client"
)

// mostBehind is how long it may take until one server counts what another has accepted.
const mostBehind = 2 * time.Second

// askEvery is how often the other server is asked for its count.
const askEvery = 10 * time.Millisecond

// measureCounting measures how long it takes until one server counts what another has
// accepted, which takes followed check-ins a second.
func measureCounting(ctx context.Context, o options, b binaries) ([]row, error) {
	var worst time.Duration
	var all runs
	for range o.rounds {
		behind, r, err := countOnce(ctx, o, b)
		if err != nil {
			return nil, err
		}
		worst, all = max(worst, behind), append(all, r)
	}
	rate := all.median(rateOf)
	return []row{{
		name:     fmt.Sprintf("the longest until one server counts what another has accepted, %d a second", followed),
		measured: fmt.Sprintf("%.2f s in %d × %s (%.0f accepted a second, %s)", worst.Seconds(), o.rounds, 2*o.window, rate, all.busy()),
		bar:      fmt.Sprintf("≤ %.0f s", mostBehind.Seconds()), met: worst <= mostBehind && rate >= 0.95*followed,
	}}, nil
}

// countOnce submits check-ins to one of two servers, and asks the other how many it
// counts. It returns how far that was behind at most.
func countOnce(ctx context.Context, o options, b binaries) (behind time.Duration, r run, err error) {
	c, err := startCluster(ctx, b, 2)
	if err != nil {
		return 0, r, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	var mu sync.Mutex
	var accepted []time.Time
	submit := c.servers[0].submit(c.sites)
	before, err := c.burden(ctx)
	if err != nil {
		return 0, r, err
	}
	begun := time.Now()
	p := startPacer(ctx, c.servers[0].conns, followed, func(ctx context.Context, conn *client.Client, source *rand.Rand) error {
		err := submit(ctx, conn, source)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			accepted = append(accepted, time.Now())
		}
		return err
	})
	var counts []counted
	ask := func() error {
		n, err := c.count(ctx, c.servers[1])
		counts = append(counts, counted{time.Now(), n})
		pause(ctx, askEvery)
		return err
	}
	for time.Since(begun) < 2*o.window && p.failing.Err() == nil && err == nil {
		err = ask()
	}
	after, errAfter := c.burden(ctx)
	took := time.Since(begun)
	_, failed := p.stop()
	if err := errors.Join(err, errAfter, failed, ctx.Err()); err != nil {
		return 0, r, err
	}
	c.done = len(accepted)
	for late := time.Now().Add(longestCount); counts[len(counts)-1].n < c.done; {
		if time.Now().After(late) {
			return 0, r, fmt.Errorf("%d check-ins were accepted, and the other server counts %d", c.done, counts[len(counts)-1].n)
		}
		if err := ask(); err != nil {
			return 0, r, err
		}
	}
	slices.SortFunc(accepted, time.Time.Compare)
	r.rate, r.burden = float64(len(accepted))/took.Seconds(), after.since(before)
	return furthestBehind(accepted, counts), r, c.agree(ctx)
}

// A counted is how many check-ins a server counted at a moment.
type counted struct {
	at time.Time
	n  int
}

// furthestBehind returns the longest that it took from when so many check-ins were
// accepted until the other server counted as many. Both are in the order of time, and in
// the end all are counted.
func furthestBehind(accepted []time.Time, counts []counted) (worst time.Duration) {
	next := 0
	for _, c := range counts {
		for ; next < min(c.n, len(accepted)); next++ {
			worst = max(worst, c.at.Sub(accepted[next]))
		}
	}
	return worst
}

// measureIdle measures what servers ask of the database that have nothing to do.
func measureIdle(ctx context.Context, _ options, b binaries) (_ []row, err error) {
	c, err := startCluster(ctx, b, idleServers)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	// A server that has stored something may ask for more than one that has not.
	for _, s := range c.servers {
		if err := s.submit(c.sites)(ctx, s.conns[0], rand.New(rand.NewPCG(1, 2))); err != nil {
			return nil, err
		}
		c.done++
	}
	if err := c.agree(ctx); err != nil {
		return nil, err
	}
	before, err := c.burden(ctx)
	if err != nil {
		return nil, err
	}
	pause(ctx, idleTime)
	after, err := c.burden(ctx)
	if err != nil {
		return nil, err
	}
	cost := after.since(before)
	seconds := cost.took.Seconds()
	return []row{{
		name:     fmt.Sprintf("what %d idle servers ask of the database in a second", idleServers),
		measured: fmt.Sprintf("%.1f: %s", float64(cost.asked.total())/seconds, cost.asked.per(seconds)),
		cpu:      fmt.Sprintf("%.2f ms a second, each", cost.servers.Seconds()*1000/seconds/idleServers),
	}}, nil
}
