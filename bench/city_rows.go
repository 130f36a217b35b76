package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// leastPairs is how many pairs of turns a bar takes that lies less than a tenth away
// from what it is compared with.
const leastPairs = 7

// startsOfACity is how many starts are measured, of which the median counts.
const startsOfACity = 5

// measureCity measures a city's server, on a folder that is empty.
func measureCity(ctx context.Context, o options, binary, folder string, w io.Writer) (rows []row, err error) {
	stored := cmp.Or(o.stored, cityStored)
	echo, err := startEcho(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, echo.stop()) }()

	city, err := startServer(ctx, binary, folder, o.database)
	if err != nil {
		return nil, err
	}
	sites, err := city.fill(ctx)
	if err != nil {
		return nil, errors.Join(err, city.stop())
	}
	if err := city.enrol(ctx); err != nil {
		return nil, errors.Join(err, city.stop())
	}
	// A start on what is there now is what an operator sees.
	var starts latencies
	for range startsOfACity {
		if err := city.stop(); err != nil {
			return nil, err
		}
		begun := time.Now()
		if city, err = startServer(ctx, binary, folder, o.database); err != nil {
			return nil, err
		}
		starts = append(starts, time.Since(begun))
	}
	defer func() { err = errors.Join(err, city.stop()) }()
	slices.Sort(starts)
	ready := starts.at(0.5)
	rows = []row{{"start to ready, 85 sites", ready.Round(time.Millisecond).String(), "", "≤ 100 ms", ready <= 100*time.Millisecond}}
	memory, err := city.memory()
	if err != nil {
		return nil, err
	}
	rows = append(rows, row{"resident memory, 85 sites, idle", fmt.Sprintf("%.1f MiB", memory), "", "≤ 40 MiB", memory <= 40})

	fmt.Fprintf(w, "a city: storing %d check-ins\n", stored)
	if err := city.store(ctx, sites, stored); err != nil {
		return nil, err
	}
	for _, m := range []struct {
		name    string
		bar     float64
		workers int
		as      string
		call    call
	}{
		{"GetCoverage, city with counties, one day, 85 sites", 0.95, workers, head, city.coverage()},
		{fmt.Sprintf("ListSiteHistory, page of 20, %d check-ins stored", stored), 0.65, workers, auditor, city.history(sites)},
		{submitName(o), 0.45, workers, officer, city.submit(sites)},
		{fmt.Sprintf("the same, %d workers", manyWorkers), 0.55, manyWorkers, officer, city.submit(sites)},
	} {
		caller, err := city.as(ctx, m.as)
		if err != nil {
			return nil, err
		}
		r, err := againstEcho(ctx, o, echo, m.name, m.bar, m.workers, func() (speed, error) {
			return load(caller, city.child, m.workers, o.window, m.call)
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			// The other rows are worth knowing all the same.
			r = row{m.name, "failed: " + err.Error(), "", fmt.Sprintf("≥ %.2f × echo", m.bar), false}
		}
		rows = append(rows, r)
	}
	tokens, err := compareTokens(ctx, o, binary)
	if err != nil {
		return nil, err
	}
	rows = append(rows, tokens)
	photos, err := comparePhotos(ctx, o, binary)
	if err != nil {
		return nil, err
	}
	return append(rows, photos...), nil
}

// againstEcho measures a load in turn with the echo from as many workers. A bar of 0
// promises nothing.
func againstEcho(ctx context.Context, o options, echo *echo, name string, bar float64, workers int, measure func() (speed, error)) (row, error) {
	var echoes, rates, ratios, cpu, echoCPU []float64
	for range o.rounds {
		e, err := load(ctx, echo.child, workers, o.window, echo.call())
		if err != nil {
			return row{}, fmt.Errorf("the echo: %w", err)
		}
		r, err := measure()
		if err != nil {
			return row{}, err
		}
		echoes, rates, ratios = append(echoes, e.rate), append(rates, r.rate), append(ratios, r.rate/e.rate)
		cpu, echoCPU = append(cpu, r.cpu), append(echoCPU, e.cpu)
	}
	ratio := median(ratios)
	out := row{
		name: name, measured: fmt.Sprintf("%.2f × echo (%.0f of %.0f calls a second)", ratio, median(rates), median(echoes)),
		cpu: fmt.Sprintf("%.0f µs, echo %.0f", median(cpu), median(echoCPU)),
	}
	if bar > 0 {
		out.bar, out.met = fmt.Sprintf("≥ %.2f × echo", bar), ratio >= bar
	}
	return out, nil
}

// compareTokens measures the same call with a token, and on a server that is the
// same but for its accounts, and so asks for none.
func compareTokens(ctx context.Context, o options, binary string) (r row, err error) {
	var servers [2]*city
	for i := range servers {
		var folder string
		if folder, err = os.MkdirTemp("", "xuncha-bench-"); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
		if servers[i], err = startServer(ctx, binary, folder, ""); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, servers[i].stop()) }()
		if _, err = servers[i].fill(ctx); err != nil {
			return r, err
		}
	}
	without, with := servers[0], servers[1]
	if err = with.enrol(ctx); err != nil {
		return r, err
	}
	caller, err := with.as(ctx, head)
	if err != nil {
		return r, err
	}
	var open, asked, ratios, openCPU, askedCPU []float64
	// Short turns and many: the difference is smaller than what others do here.
	for i := range max(leastPairs, 8*o.rounds) {
		var rates [2]speed // without, with
		for _, which := range []int{i % 2, 1 - i%2} {
			if which == 0 {
				rates[0], err = load(ctx, without.child, workers, o.window/4, without.coverage())
			} else {
				rates[1], err = load(caller, with.child, workers, o.window/4, with.coverage())
			}
			if err != nil {
				return r, err
			}
		}
		open, asked, ratios = append(open, rates[0].rate), append(asked, rates[1].rate), append(ratios, rates[0].cpu/rates[1].cpu)
		openCPU, askedCPU = append(openCPU, rates[0].cpu), append(askedCPU, rates[1].cpu)
	}
	ratio := median(ratios)
	return row{
		"GetCoverage with a token, and on a server without accounts",
		fmt.Sprintf("%.3f × without, by the CPU time (%.0f of %.0f calls a second)", ratio, median(asked), median(open)),
		fmt.Sprintf("%.1f µs, without %.1f", median(askedCPU), median(openCPU)), "≥ 0.95 × without", ratio >= 0.95,
	}, nil
}

// submitName says what a check-in waits for before its answer.
func submitName(o options) string {
	if o.database != "" {
		return "SubmitCheckIn, each with a majority before its answer"
	}
	return "SubmitCheckIn, each flushed to disk before its answer"
}
