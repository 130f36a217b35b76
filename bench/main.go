// Command bench measures what docs/measured.md promises. It builds the server,
// starts it as a child process on a fresh data folder, loads it from here over
// TCP loopback with 64 workers on 8 connections, and measures a bare gRPC echo
// of 400 bytes the same way in the same run. Machines differ and are shared, so
// only the ratios say anything. The server's CPU time a call is steadier than its
// rate: -against compares it with that of another version.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

const (
	workers     = 64
	manyWorkers = 256
	connections = 8
)

// leastStored is how many check-ins give each of the 85 sites a page of 20.
const leastStored = 5000

func main() {
	if len(os.Args) > 1 && os.Args[1] == echoCommand {
		if err := serveEcho(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "echo:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.stored, "stored", 100_000, "check-ins that are stored before history is measured")
	flag.IntVar(&o.rounds, "rounds", 3, "times that each row is measured, in turn with the echo; the median counts")
	flag.StringVar(&o.database, "store", "", "mongodb:// address of an empty database to measure on instead of a data folder")
	flag.BoolVar(&o.photos, "photos", false, "measure photos alone")
	flag.StringVar(&o.against, "against", "", "binary of another version of xuncha: measure the CPU time of both in alternating pairs, and print the ratios")
	flag.IntVar(&o.pairs, "pairs", 7, "with -against, how many pairs")
	flag.DurationVar(&o.window, "window", 3*time.Second, "length of one measurement")
	flag.Parse()
	if o.stored < leastStored {
		fmt.Fprintf(os.Stderr, "bench: -stored: at least %d, so that each site has a page\n", leastStored)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := bench(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	stored, rounds int
	window         time.Duration
	photos         bool
	database       string
	against        string
	pairs          int
}

// A row is one line of what quality is measured by.
type row struct {
	name     string
	measured string
	cpu      string // the server's CPU time a call, or a MiB
	bar      string
	met      bool
}

func bench(ctx context.Context, o options, w io.Writer) (err error) {
	if runtime.GOOS != "linux" {
		return errors.New("only Linux tells the CPU time and the memory of another process: measure there")
	}
	folder, err := os.MkdirTemp("", "xuncha-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	binary, err := build(ctx, folder)
	if err != nil {
		return err
	}
	if o.against != "" {
		return compareVersions(ctx, o, binary, w)
	}
	if o.photos {
		rows, err := comparePhotos(ctx, o, binary)
		return errors.Join(err, print(w, rows))
	}
	echo, err := startEcho(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, echo.stop()) }()

	city, err := startServer(ctx, binary, folder, o.database)
	if err != nil {
		return err
	}
	sites, err := city.fill(ctx)
	if err != nil {
		return errors.Join(err, city.stop())
	}
	if err := city.enrol(ctx); err != nil {
		return errors.Join(err, city.stop())
	}
	// A second start, on what is there now, is what an operator sees.
	if err := city.stop(); err != nil {
		return err
	}
	begun := time.Now()
	if city, err = startServer(ctx, binary, folder, o.database); err != nil {
		return err
	}
	ready := time.Since(begun)
	defer func() { err = errors.Join(err, city.stop()) }()
	rows := []row{{"start to ready, 85 sites", ready.Round(time.Millisecond).String(), "", "≤ 100 ms", ready <= 100*time.Millisecond}}
	memory, err := city.memory()
	if err != nil {
		return err
	}
	rows = append(rows, row{"resident memory, 85 sites, idle", fmt.Sprintf("%.1f MiB", memory), "", "≤ 40 MiB", memory <= 40})

	fmt.Fprintf(w, "storing %d check-ins\n", o.stored)
	if err := city.store(ctx, sites, o.stored); err != nil {
		return err
	}
	for _, m := range []struct {
		name    string
		bar     float64
		workers int
		as      string
		call    call
	}{
		{"GetCoverage, city with counties, one day, 85 sites", 0.95, workers, head, city.coverage()},
		{fmt.Sprintf("ListSiteHistory, page of 20, %d check-ins stored", o.stored), 0.65, workers, auditor, city.history(sites)},
		{submitName(o), 0.45, workers, officer, city.submit(sites)},
		{fmt.Sprintf("the same, %d workers", manyWorkers), 0.55, manyWorkers, officer, city.submit(sites)},
	} {
		var echoes, rates, ratios, cpu, echoCPU []float64
		var failed error
		caller, err := city.as(ctx, m.as)
		if err != nil {
			return err
		}
		for range o.rounds {
			e, err := load(ctx, echo.child, m.workers, o.window, echo.call())
			if err != nil {
				return err
			}
			r, err := load(caller, city.child, m.workers, o.window, m.call)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if failed = err; failed != nil {
				break
			}
			echoes, rates, ratios = append(echoes, e.rate), append(rates, r.rate), append(ratios, r.rate/e.rate)
			cpu, echoCPU = append(cpu, r.cpu), append(echoCPU, e.cpu)
		}
		if failed != nil {
			// The other rows are worth knowing all the same.
			rows = append(rows, row{m.name, "failed: " + failed.Error(), "", fmt.Sprintf("≥ %.2f × echo", m.bar), false})
			continue
		}
		ratio := median(ratios)
		rows = append(rows, row{
			m.name, fmt.Sprintf("%.2f × echo (%.0f of %.0f calls a second)", ratio, median(rates), median(echoes)),
			fmt.Sprintf("%.0f µs, echo %.0f", median(cpu), median(echoCPU)),
			fmt.Sprintf("≥ %.2f × echo", m.bar), ratio >= m.bar,
		})
	}
	tokens, err := compareTokens(ctx, o, binary)
	if err != nil {
		return err
	}
	rows = append(rows, tokens)
	photos, err := comparePhotos(ctx, o, binary)
	if err != nil {
		return err
	}
	return print(w, append(rows, photos...))
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
	for i := range 8 * o.rounds {
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
		open, asked, ratios = append(open, rates[0].rate), append(asked, rates[1].rate), append(ratios, rates[1].rate/rates[0].rate)
		openCPU, askedCPU = append(openCPU, rates[0].cpu), append(askedCPU, rates[1].cpu)
	}
	ratio := median(ratios)
	return row{
		"GetCoverage with a token, and on a server without accounts",
		fmt.Sprintf("%.2f × without (%.0f of %.0f calls a second)", ratio, median(asked), median(open)),
		fmt.Sprintf("%.0f µs, without %.0f", median(askedCPU), median(openCPU)), "≥ 0.95 × without", ratio >= 0.95,
	}, nil
}

// submitName says what a check-in waits for before its answer.
func submitName(o options) string {
	if o.database != "" {
		return "SubmitCheckIn, each with a majority before its answer"
	}
	return "SubmitCheckIn, each flushed to disk before its answer"
}

func print(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmeasured\tserver's CPU time\tbar\t")
	for _, r := range rows {
		verdict := "met"
		if !r.met {
			verdict = "missed"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.name, r.measured, r.cpu, r.bar, verdict)
	}
	return t.Flush()
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
