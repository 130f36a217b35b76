package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// callersEach is how many callers each server has unless a flag says otherwise. Four
	// servers with so many leave two processors room.
	callersEach = 4
	// perDocument is how long a shard is busy with a document where shards are compared: so
	// long that one shard is full, and not the processors.
	perDocument = time.Millisecond
	// slowMajority is how long the majority of a slow shard takes.
	slowMajority = 500 * time.Millisecond
	// followed is how many check-ins a second one server takes that another must count.
	followed = 2000
	// idleServers ask the database for news, for idleTime.
	idleServers = 10
	idleTime    = 30 * time.Second
)

// measureServers measures several servers on one database.
func measureServers(ctx context.Context, o options, binary, folder string, w io.Writer) (rows []row, err error) {
	standIn, err := buildStandIn(ctx, folder)
	if err != nil {
		return nil, err
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Fprintf(w, "others' load average before: %s\n", strings.Join(strings.Fields(string(load))[:3], ", "))
	}
	b := binaries{binary, standIn}
	for _, m := range []struct {
		name, bar string
		measure   func(context.Context, options, binaries) ([]row, error)
	}{
		{"several servers", "≥ 1.6 × one", compareServers},
		{"two shards", "≥ 1.2 × one", compareShards},
		{"what befalls one shard", "≥ 0.9 × before", harmShard},
		{"one server counts what another has accepted", "≤ 2 s", measureCounting},
		{"idle servers", "", measureIdle},
	} {
		began := time.Now()
		more, err := m.measure(ctx, o, b)
		if ctx.Err() != nil {
			return rows, context.Cause(ctx)
		}
		rows = append(rows, more...)
		if err != nil {
			// The other rows are worth knowing all the same.
			fmt.Fprintf(w, "%s failed: %v\n", m.name, err)
			rows = append(rows, row{name: m.name, measured: "failed, as said above", bar: m.bar})
			continue
		}
		fmt.Fprintf(w, "measured %s in %.0f s\n", m.name, time.Since(began).Seconds())
	}
	return rows, nil
}

// A run is one measurement of a cluster.
type run struct {
	outcome
	burden
}

// runOnce measures so many servers with so many callers each, who submit check-ins.
func runOnce(ctx context.Context, o options, b binaries, servers, callers int, flags ...string) (r run, err error) {
	c, err := startCluster(ctx, b, servers, flags...)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	out, cost, err := c.load(ctx, o.window, c.each(callers, c.sites))
	if err != nil {
		return r, err
	}
	return run{merge(out), cost}, c.agree(ctx)
}

// calls returns how many calls succeeded in the window.
func (r run) calls() float64 { return r.rate * r.burden.took.Seconds() }

// runs are measurements of the same thing.
type runs []run

// median returns the median of what f tells of each.
func (r runs) median(f func(run) float64) float64 {
	values := make([]float64, len(r))
	for i := range r {
		values[i] = f(r[i])
	}
	return median(values)
}

// against returns the median of the ratios of what f tells of each and of the one in its
// place.
func (r runs) against(base runs, f func(run) float64) float64 {
	values := make([]float64, len(r))
	for i := range r {
		values[i] = f(r[i]) / f(base[i])
	}
	return median(values)
}

func rateOf(r run) float64 { return r.rate }

// percentile returns what tells the latency of a run, in milliseconds.
func percentile(p float64) func(run) float64 {
	return func(r run) float64 { return r.outcome.took.at(p).Seconds() * 1000 }
}

func tailOf(r run) float64 { return percentile(0.99)(r) }

func (r runs) String() string {
	return fmt.Sprintf("%.0f a second, p50 %.1f, p99 %.1f ms, %s",
		r.median(rateOf), r.median(percentile(0.5)), r.median(tailOf), r.busy())
}

// busy says how busy the machine was, which tells whether it is what limited the servers.
func (r runs) busy() string {
	return fmt.Sprintf("CPU %.0f %% and others' %.0f %%",
		r.median(func(r run) float64 { return r.busyPart() - r.othersPart() }), r.median(run.othersPart))
}

// serversCPU and databaseCPU return the CPU time of the servers, and of the database, a
// call, in microseconds.
func serversCPU(r run) float64  { return r.servers.Seconds() * 1e6 / r.calls() }
func databaseCPU(r run) float64 { return r.database.Seconds() * 1e6 / r.calls() }

func (r runs) cpu() string {
	return fmt.Sprintf("%.0f µs, stand-in %.0f", r.median(serversCPU), r.median(databaseCPU))
}

// asked returns what each call asked of the database, over all runs.
func (r runs) asked() string {
	all, calls := questions{}, 0.0
	for _, one := range r {
		calls += one.calls()
		for what, n := range one.burden.asked {
			all[what] += n
		}
	}
	return all.per(calls)
}

// compareServers measures one, two and four servers, each with as many callers of its
// own, and one and two with as many callers in all.
func compareServers(ctx context.Context, o options, b binaries) (rows []row, err error) {
	variants := []struct {
		name             string
		servers, callers int
		least            float64
		mostTail         float64 // 0 promises nothing
	}{
		{"one server", 1, o.callers, 0, 0},
		{"two servers", 2, o.callers, 1.6, 3},
		{"four servers", 4, o.callers, 2.5, 0},
		{"one server", 1, 4 * o.callers, 0, 0},
		{"two servers", 2, 2 * o.callers, 0, 0},
	}
	measured := make([]runs, len(variants))
	for range o.rounds {
		for i, v := range variants {
			r, err := runOnce(ctx, o, b, v.servers, v.callers)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			measured[i] = append(measured[i], r)
		}
	}
	for i, v := range variants {
		m := measured[i]
		r := row{name: fmt.Sprintf("SubmitCheckIn, %s with %d callers", v.name, v.callers), measured: m.String(), cpu: m.cpu()}
		if v.servers > 1 {
			one := measured[0]
			if v.least == 0 {
				one = measured[i-1]
			}
			times, tail := m.against(one, rateOf), m.against(one, tailOf)
			r.name += " each"
			r.measured = fmt.Sprintf("%.2f × one (%s), p99 %.1f × one's", times, m, tail)
			if v.least > 0 {
				r.bar, r.met = fmt.Sprintf("≥ %.1f × one", v.least), times >= v.least
			}
			if v.mostTail > 0 {
				r.bar += fmt.Sprintf(", p99 ≤ %.0f ×", v.mostTail)
				r.met = r.met && tail <= v.mostTail
			}
		}
		rows = append(rows, r)
	}
	one, two, four := measured[0], measured[1], measured[2]
	// Here all share two processors. On machines of their own, servers that have more
	// callers than they can serve take the less, the more CPU time a check-in costs.
	rows = append(rows, row{
		name:     "two and four servers whose processors are full, by their CPU time a check-in",
		measured: fmt.Sprintf("%.2f × and %.2f × one", 2/two.against(one, serversCPU), 4/four.against(one, serversCPU)),
	})
	for i, v := range variants[:3] {
		rows = append(rows, row{name: "what a check-in asks of the database, " + v.name, measured: measured[i].asked()})
	}
	return rows, nil
}

// compareShards measures one server on one shard and on two, where a shard is full and
// where none is.
func compareShards(ctx context.Context, o options, b binaries) (rows []row, err error) {
	callers := 4 * o.callers
	for _, v := range []struct {
		name  string
		write time.Duration
		least float64 // 0 promises nothing
	}{
		{fmt.Sprintf("one shard that takes %.0f a second", 1/perDocument.Seconds()), perDocument, 1.2},
		{"one shard that is never full", 0, 0},
	} {
		var one, two runs
		for range o.rounds {
			for i, list := range []*runs{&one, &two} {
				r, err := runOnce(ctx, o, b, 1, callers, "-shards", strconv.Itoa(i+1), "-write", v.write.String())
				if err != nil {
					return rows, fmt.Errorf("shards: %d: %w", i+1, err)
				}
				*list = append(*list, r)
			}
		}
		times := two.against(one, rateOf)
		r := row{
			name: "the same, two such shards", measured: fmt.Sprintf("%.2f × one shard (%s)", times, two), cpu: two.cpu(),
		}
		if v.least > 0 {
			r.bar, r.met = fmt.Sprintf("≥ %.1f × one shard", v.least), times >= v.least
		}
		rows = append(rows, row{
			name: fmt.Sprintf("SubmitCheckIn, one server with %d callers, %s", callers, v.name), measured: one.String(), cpu: one.cpu(),
		}, r)
	}
	return rows, nil
}
