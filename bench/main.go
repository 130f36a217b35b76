// Command bench measures what docs/measured.md promises. It builds the server,
// starts it as a child process on a fresh data folder, loads it from here over
// TCP loopback with 64 workers on 8 connections, and measures a bare gRPC echo
// of 400 bytes the same way in the same run. Machines differ and are shared, so
// only the ratios say anything. The server's CPU time a call is steadier than its
// rate: -against compares it with that of another version.
//
// With -scale country it makes up a country and measures the server with that: how
// much the questions of those at the top cost, and whether they hold up the phones.
//
// With -scale hostile it lets many connections without a token do what harms a server most,
// and measures its memory and what honest callers notice.
//
// With -scale servers it measures several servers on one database, which is a stand-in
// for MongoDB in memory: what they add up to, and what they ask of the database.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
)

const (
	workers     = 64
	manyWorkers = 256
	connections = 8
)

// leastStored is how many check-ins give each of the 85 sites a page of 20.
const leastStored = 5000

// cityStored and countryStored are how many check-ins are stored unless a flag says
// otherwise.
const cityStored, countryStored = 100_000, 1_000_000

func main() {
	if len(os.Args) > 1 && os.Args[1] == echoCommand {
		if err := serveEcho(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "echo:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == crowdCommand {
		if err := beCrowd(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "crowd:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == hostileCommand {
		if err := beHostile(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "hostile crowd:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parse()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	uuid.EnableRandPool()
	// Whatever ends the bench, its servers and its folders must go too: also when whoever
	// reads its output has gone.
	end := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE}
	if o.scale == "hostile" {
		// Who asks for the keys of tokens here goes away amid the answer. That is such a signal
		// too, once anybody waits for it.
		end = end[:3]
		signal.Ignore(syscall.SIGPIPE)
	}
	ctx, stop := signal.NotifyContext(context.Background(), end...)
	missed, err := bench(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if o.strict && missed > 0 {
		os.Exit(1)
	}
}

type options struct {
	scale          string
	stored, rounds int
	window         time.Duration
	photos, strict bool
	database       string
	binary         string
	against        string
	pairs          int
	// share, levels and folder are of a country alone.
	share  float64
	levels int
	folder string
	// callers is of several servers alone.
	callers int
	// attack and hostile are of a hostile crowd alone.
	attack  time.Duration
	hostile int
}

// parse reads the flags.
func parse() (o options, err error) {
	flag.StringVar(&o.scale, "scale", "city", "what is measured: city, country, growth (a tenth, a third and the whole of a country side by side), servers (several on one database), hostile (a server under attack) or all (city and country)")
	flag.IntVar(&o.stored, "stored", 0, fmt.Sprintf("check-ins that are stored before (default %d, and %d of a whole country)", cityStored, countryStored))
	flag.Float64Var(&o.share, "share", 1, "with -scale country, which share of the country, and of -stored, is there")
	flag.IntVar(&o.levels, "levels", 6, "levels of the country's divisions: 6, or 4 for a server of before there were nations and provinces")
	flag.StringVar(&o.folder, "folder", "", "keep the filled data folders of countries in this folder, and use those that are there already, which saves the filling; measurements leave them as they are")
	flag.IntVar(&o.rounds, "rounds", 3, "times that each row is measured, in turn with the echo; the median counts")
	flag.StringVar(&o.database, "store", "", "mongodb:// address of an empty database to measure a city on instead of a data folder")
	flag.BoolVar(&o.photos, "photos", false, "measure photos alone")
	flag.StringVar(&o.binary, "binary", "", "binary of xuncha to measure instead of building it")
	flag.StringVar(&o.against, "against", "", "binary of another version of xuncha: measure the CPU time of both in alternating pairs, and print the ratios")
	flag.IntVar(&o.pairs, "pairs", leastPairs, "with -against, how many pairs")
	flag.IntVar(&o.callers, "callers", callersEach, "with -scale servers, callers of each server: so few that the processors are not full")
	flag.DurationVar(&o.attack, "for", 5*time.Minute, "with -scale hostile, for how long the attack lasts")
	flag.IntVar(&o.hostile, "hostile", 1000, "with -scale hostile, how many connections there are at a time")
	flag.DurationVar(&o.window, "window", 3*time.Second, "length of one measurement")
	flag.BoolVar(&o.strict, "strict", false, "end with exit code 1 if a row missed its bar")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag", flag.Arg(0))
	}
	return o, o.check()
}

// check returns what is wrong with the flags.
func (o options) check() error {
	alone := o.scale != "city"
	switch {
	case !slices.Contains([]string{"city", "country", "growth", "servers", "hostile", "all"}, o.scale):
		return fmt.Errorf("-scale: %q; it is city, country, growth, servers, hostile or all", o.scale)
	case o.stored < 0:
		return errors.New("-stored: it cannot be negative")
	case o.scale != "country" && o.scale != "growth" && o.stored != 0 && o.stored < leastStored:
		return fmt.Errorf("-stored: at least %d, so that each site has a page", leastStored)
	case o.rounds < 1 || o.pairs < 1 || o.window <= 0:
		return errors.New("-rounds, -pairs and -window must be above 0")
	case (o.scale == "servers" || o.scale == "hostile") && o.stored != 0:
		return fmt.Errorf("-stored cannot be used together with -scale %s", o.scale)
	case o.scale == "hostile" && (o.attack <= 0 || o.hostile < 1):
		return errors.New("-for and -hostile must be above 0")
	case o.callers < 1:
		return errors.New("-callers must be above 0")
	case alone && (o.database != "" || o.photos || o.against != ""):
		return fmt.Errorf("-scale %s cannot be used together with -store, -photos or -against", o.scale)
	case o.share != 1 && o.scale != "country":
		return errors.New("-share needs -scale country")
	}
	_, err := newLand(o.share, o.levels)
	return err
}

// A row is one line of what quality is measured by.
type row struct {
	name     string
	measured string
	cpu      string // the server's CPU time a call, or a MiB
	bar      string // empty where nothing is promised
	met      bool
}

// notYet are the rows whose part of the server does not exist yet.
const notYet = "not measured, because the server cannot do it yet: SubmitCheckIns, one phone's queue on a stream, GetCoverageTrend\n"

// bench measures what the flags ask for, prints it, and returns how many rows missed.
func bench(ctx context.Context, o options, w io.Writer) (missed int, err error) {
	if runtime.GOOS != "linux" {
		return 0, errors.New("only Linux tells the CPU time and the memory of another process: measure there")
	}
	folder, err := os.MkdirTemp("", "xuncha-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	binary := o.binary
	if binary == "" {
		if binary, err = build(ctx, folder); err != nil {
			return 0, err
		}
	}
	if o.against != "" {
		return 0, compareVersions(ctx, o, binary, w)
	}
	flush, err := flushTime(folder)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(w, "one flush of the disk takes %s ms\n", milliseconds(flush))
	var rows []row
	add := func(measure func() ([]row, error)) {
		if err == nil {
			var more []row
			more, err = measure()
			rows = append(rows, more...)
		}
	}
	if o.photos {
		add(func() ([]row, error) { return comparePhotos(ctx, o, binary) })
	} else if o.scale == "city" || o.scale == "all" {
		add(func() ([]row, error) { return measureCity(ctx, o, binary, folder, w) })
	}
	if o.scale == "country" || o.scale == "all" {
		add(func() ([]row, error) {
			run, err := runCountry(ctx, o, binary, o.share, w)
			return run.rows, err
		})
	}
	if o.scale == "growth" {
		add(func() ([]row, error) { return compareSizes(ctx, o, binary, w) })
	}
	if o.scale == "servers" {
		add(func() ([]row, error) { return measureServers(ctx, o, binary, folder, w) })
	}
	if o.scale == "hostile" {
		add(func() ([]row, error) { return measureHostile(ctx, o, binary, folder, w) })
	}
	if err != nil {
		// What was measured before is worth knowing all the same.
		if len(rows) > 0 {
			err = errors.Join(err, print(w, rows))
		}
		return 0, err
	}
	if err := print(w, rows); err != nil {
		return 0, err
	}
	missed, judged := verdicts(rows)
	fmt.Fprint(w, notYet)
	fmt.Fprintf(w, "%d of %d rows with a bar missed it\n", missed, judged)
	return missed, nil
}

// verdicts counts the rows that missed their bars, and those that have one.
func verdicts(rows []row) (missed, judged int) {
	for _, r := range rows {
		if r.bar != "" {
			judged++
			if !r.met {
				missed++
			}
		}
	}
	return missed, judged
}

// flushTime returns how long it takes to flush a page to the disk of a folder: the median
// of many, after each of which comes another.
func flushTime(folder string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(folder, "flush"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	page := make([]byte, 4096)
	took := make(latencies, 100)
	for i := range took {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		begun := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took[i] = time.Since(begun)
	}
	slices.Sort(took)
	return took.at(0.5), os.Remove(f.Name())
}

func print(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmeasured\tserver's CPU time\tbar\t")
	for _, r := range rows {
		verdict := "met"
		if !r.met {
			verdict = "missed"
		}
		if r.bar == "" {
			verdict = ""
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.name, r.measured, r.cpu, r.bar, verdict)
	}
	return t.Flush()
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
