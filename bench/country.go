package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

const (
	// pace is how many submissions come in a second where others are measured beside
	// them.
	pace = 500
	// askers ask the whole country without pause while submissions are measured.
	askers = 8
	// mostCalls and mostTime end a measurement of calls of which each changes the
	// roster.
	mostCalls = 200
	mostTime  = 20 * time.Second
	// longestRow is how long one measurement may take in all, before it is given up.
	longestRow = 15 * time.Minute
	// pastDays is how long ago the past day is that questions are about.
	pastDays = 20
	// trendDays is how many days a trend has.
	trendDays = 90
)

// zone is where a server's days begin unless a flag says otherwise.
var zone = time.FixedZone("CST", 8*60*60)

// A country is a server with a land and with check-ins.
type country struct {
	*city
	land  land
	stock stock
	ids   []string // of the sites, in the order of the land
}

// A countryRun is what was measured of a country of one size.
type countryRun struct {
	land   land
	stored int
	rows   []row
	costs  []pageCost
}

// storedAt returns how many check-ins a share of a country has where the whole has n.
func storedAt(share float64, n int) int { return max(1, int(share*float64(n)+0.5)) }

// runCountry fills a share of a country and measures it.
func runCountry(ctx context.Context, o options, binary string, share float64, w io.Writer) (run countryRun, err error) {
	l, err := newLand(share, o.levels)
	if err != nil {
		return run, err
	}
	stored := storedAt(share, cmp.Or(o.stored, countryStored))
	if o.folder != "" {
		if err := os.MkdirAll(o.folder, 0o777); err != nil {
			return run, err
		}
	}
	fmt.Fprintf(w, "a country: %d sites, %d divisions in %d levels, %d check-ins\n", l.sites, l.size(), l.levels(), stored)
	folder, s, err := filledFolder(ctx, o, binary, l, share, stored, w)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	size, err := sizeOf(dataFolder(folder))
	if err != nil {
		return run, err
	}
	fmt.Fprintf(w, "its data folder has %.0f MiB\n", size)
	run = countryRun{land: l, stored: stored}
	starts, server, err := measureStarts(ctx, binary, folder, stored, w)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	c := &country{city: server, land: l, stock: s}
	if err := c.findSites(ctx); err != nil {
		return run, err
	}
	echo, err := startEcho(ctx)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, echo.stop()) }()

	run.rows = starts
	for _, m := range []struct {
		name, bar string
		measure   func(context.Context) ([]row, error)
	}{
		{"GetCoverage of the root", "≥ 0.60 × echo", func(ctx context.Context) ([]row, error) { return c.measureCoverage(ctx, o, echo) }},
		{"pages", "≤ 1 ms CPU", func(ctx context.Context) (rows []row, err error) {
			rows, run.costs, err = c.measurePages(ctx)
			return rows, err
		}},
		{"roster changes", "≤ 1 ms CPU", c.measureChanges},
		{"known_time before a roster change", "≤ 1 ms CPU", c.measureKnown},
		{"a trend of 90 days", "≤ 50 ms CPU", c.measureTrend},
		{"SubmitCheckIn while others ask", "p99 ≤ 3 × idle, max ≤ 100 ms", func(ctx context.Context) ([]row, error) { return c.measureWaits(ctx, o, w) }},
		{"resident memory after all of these", mostMemory, func(context.Context) ([]row, error) { return c.measureMemory("resident memory after all of these") }},
		{"live import", mostMemory, c.measureImports},
	} {
		began := time.Now()
		rows, err := c.attempt(ctx, m.measure)
		if ctx.Err() != nil {
			return run, context.Cause(ctx)
		}
		run.rows = append(run.rows, rows...)
		if err != nil {
			// The other rows are worth knowing all the same.
			fmt.Fprintf(w, "%s failed: %v\n", m.name, err)
			run.rows = append(run.rows, row{name: m.name, measured: "failed, as said above", bar: m.bar})
			continue
		}
		fmt.Fprintf(w, "measured %s in %.0f s\n", m.name, time.Since(began).Seconds())
	}
	return run, nil
}

// attempt measures within longestRow.
func (c *country) attempt(ctx context.Context, measure func(context.Context) ([]row, error)) ([]row, error) {
	ctx, cancel := context.WithTimeout(ctx, longestRow)
	defer cancel()
	return measure(ctx)
}

// sizeOf returns how many MiB the files of a folder have.
func sizeOf(folder string) (size float64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += float64(info.Size()) / (1 << 20)
		}
		return err
	})
	return size, err
}

// snapshotFile is where a server that has one keeps the snapshot of what it counted, in
// its data folder.
const snapshotFile = "snapshot"

// mostMemory is the bar of resident memory, with up to 13 million check-ins.
const mostMemory, mostMemoryMiB = "≤ 1024 MiB", 1024

// measureStarts measures a start without a snapshot and one with, and returns the
// server of the second.
func measureStarts(ctx context.Context, binary, folder string, stored int, w io.Writer) (rows []row, server *city, err error) {
	snapshot := filepath.Join(dataFolder(folder), snapshotFile)
	if err := os.Remove(snapshot); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	start := func() (took, cpu time.Duration, err error) {
		begun := time.Now()
		if server, err = startServer(ctx, binary, folder, ""); err != nil {
			return 0, 0, err
		}
		took = time.Since(begun)
		if cpu, err = server.cpu(); err != nil {
			return 0, 0, errors.Join(err, server.stop())
		}
		return took, cpu, nil
	}
	took, cpu, err := start()
	if err != nil {
		return nil, nil, err
	}
	without := row{name: "start to ready without a snapshot", measured: seconds(took), cpu: seconds(cpu)}
	if stored <= 1_000_000 {
		without.bar, without.met = "≤ 6 s CPU", cpu <= 6*time.Second
	}
	begun := time.Now()
	if err := server.stop(); err != nil {
		return nil, nil, err
	}
	stopped := time.Since(begun)
	_, missing := os.Stat(snapshot)
	if took, cpu, err = start(); err != nil {
		return nil, nil, err
	}
	rows = []row{without}
	if missing != nil {
		fmt.Fprintln(w, "this server writes no snapshot")
	} else {
		with := row{name: "start to ready with a snapshot", measured: seconds(took), cpu: seconds(cpu)}
		if stored <= 10_000_000 {
			with.bar, with.met = "≤ 5 s", took <= 5*time.Second
		}
		rows = append(rows, with)
	}
	rows = append(rows, row{name: "stop, from SIGTERM to the end", measured: seconds(stopped)})
	memory, err := (&country{city: server}).measureMemory("resident memory, idle after the start")
	if err != nil {
		return nil, nil, errors.Join(err, server.stop())
	}
	return append(rows, memory...), server, nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// measureMemory measures the resident memory as it is now.
func (c *country) measureMemory(name string) ([]row, error) {
	memory, err := c.memory()
	return []row{{name: name, measured: fmt.Sprintf("%.0f MiB", memory), bar: mostMemory, met: memory <= mostMemoryMiB}}, err
}

// A span is the window of a question; the zero one is today, as a head asks for it.
type span struct{ start, end *timestamppb.Timestamp }

// dayAgo returns the day so many days before today.
func dayAgo(n int) span {
	now := time.Now().In(zone)
	start := time.Date(now.Year(), now.Month(), now.Day()-n, 0, 0, 0, 0, zone)
	return span{timestamppb.New(start), timestamppb.New(start.AddDate(0, 0, 1))}
}

// questionWindows returns the days that heads ask about: today and a past day.
func questionWindows() []span { return []span{{}, dayAgo(pastDays)} }

// coverageRequest asks for the figures of the whole country.
func (c *country) coverageRequest(s span, depth int) *xunchav1.GetCoverageRequest {
	return &xunchav1.GetCoverageRequest{DivisionCode: c.land.root, StartTime: s.start, EndTime: s.end, Depth: int32(depth)}
}

// coverage asks for the country's figures, of today or of a past day.
func (c *country) coverage(depth int) call {
	windows := questionWindows()
	return func(ctx context.Context, conn *client.Client, source *rand.Rand) error {
		answer := new(xunchav1.GetCoverageResponse)
		req := c.coverageRequest(windows[source.IntN(len(windows))], depth)
		read, err := invoke(ctx, conn, source, xunchav1.CoverageService_GetCoverage_FullMethodName, req, answer)
		if read && err == nil && (answer.Row.SitesDue != int64(c.land.sites) || (depth > 0) != (len(answer.Children) > 0)) {
			err = fmt.Errorf("%d sites of %d are due, in %d divisions", answer.Row.SitesDue, c.land.sites, len(answer.Children))
		}
		return err
	}
}

// submission submits a check-in that was captured now.
func (c *country) submission() call {
	return func(ctx context.Context, conn *client.Client, source *rand.Rand) error {
		return c.checkIn(ctx, conn, source, time.Now())
	}
}

// measureCoverage measures the figures of the whole country against the echo, also
// while submissions come in.
func (c *country) measureCoverage(ctx context.Context, o options, echo *echo) (rows []row, err error) {
	coverage := xunchav1.NewCoverageServiceClient(c.conns[0])
	for _, m := range []struct {
		name  string
		depth int
		pace  int
		bar   float64
	}{
		{"GetCoverage of the root, depth 0", 0, 0, 0},
		{"GetCoverage of the root, depth 1", 1, 0, 0.6},
		{fmt.Sprintf("the same, while %d submissions a second come in", pace), 1, pace, 0.6},
	} {
		// What is asked for the first time is another matter than what many ask again.
		for _, window := range questionWindows() {
			if _, err := coverage.GetCoverage(ctx, c.coverageRequest(window, m.depth)); err != nil {
				return rows, fmt.Errorf("%s: %w", m.name, err)
			}
		}
		beside := func(measure func() error) error { return measure() }
		if m.pace > 0 {
			beside = func(measure func() error) error {
				p := startPacer(ctx, c.conns, m.pace, c.submission())
				err := measure()
				_, failed := p.stop()
				return errors.Join(err, failed)
			}
		}
		r, err := againstEcho(ctx, o, echo, m.name, m.bar, workers, func() (s speed, err error) {
			err = beside(func() error {
				s, err = load(ctx, c.child, workers, o.window, c.coverage(m.depth))
				return err
			})
			return s, err
		})
		if err != nil {
			return rows, fmt.Errorf("%s: %w", m.name, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// measureTrend asks for each of 90 days, and again.
func (c *country) measureTrend(ctx context.Context) ([]row, error) {
	coverage := xunchav1.NewCoverageServiceClient(c.conns[0])
	trend := func() error {
		for n := range trendDays {
			if _, err := coverage.GetCoverage(ctx, c.coverageRequest(dayAgo(n), 0)); err != nil {
				return err
			}
		}
		return nil
	}
	first, err := c.spent(trend)
	if err != nil {
		return nil, err
	}
	again, err := c.cost(ctx, trend)
	return []row{{
		name: fmt.Sprintf("a trend of %d days, in as many GetCoverage, asked again", trendDays), measured: "first " + milliseconds(first) + " ms CPU",
		cpu: milliseconds(again) + " ms", bar: "≤ 50 ms CPU", met: again <= 50*time.Millisecond,
	}}, err
}

// measureImports measures imports that change each division and each site.
func (c *country) measureImports(ctx context.Context) (rows []row, err error) {
	today := time.Now().In(zone).Format(time.DateOnly)
	for _, m := range []struct {
		name string
		do   func() (imported, error)
	}{
		{"a live import that renames each division", func() (imported, error) { return c.importDivisions(ctx, "新", today) }},
		{"a live import that renames each site", func() (imported, error) { return c.importSites(ctx, c.land.siteNames("新")) }},
	} {
		in, err := m.do()
		if err != nil {
			return rows, fmt.Errorf("%s: %w", m.name, err)
		}
		rows = append(rows,
			row{name: m.name, measured: seconds(in.took), cpu: seconds(in.cpu)},
			row{name: "resident memory right after " + m.name, measured: fmt.Sprintf("%.0f MiB", in.memory), bar: mostMemory, met: in.memory <= mostMemoryMiB},
		)
	}
	return rows, nil
}
