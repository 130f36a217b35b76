package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

const (
	// mostWorse is by how much the CPU time of a call may grow from one version to the
	// next: less than that cannot be told apart on a shared machine.
	mostWorse = 1.05
	// mostLarger is the same of memory, of which most is the program's own pages.
	mostLarger = 1.10
)

// A version is a server of one of the two that are compared.
type version struct {
	*city
	binary, folder string
	sites          []string
	callers        map[string]context.Context
}

// startVersion starts a server of the binary on a fresh folder that is filled.
func startVersion(ctx context.Context, o options, binary string) (v *version, err error) {
	v = &version{binary: binary, callers: map[string]context.Context{}}
	if v.folder, err = os.MkdirTemp("", "xuncha-bench-"); err != nil {
		return nil, err
	}
	if v.city, err = startServer(ctx, binary, v.folder, ""); err != nil {
		return v, err
	}
	if v.sites, err = v.fill(ctx); err != nil {
		return v, err
	}
	if err := v.enrol(ctx); err != nil {
		return v, err
	}
	if err := v.store(ctx, v.sites, cmp.Or(o.stored, cityStored)); err != nil {
		return v, err
	}
	for _, name := range []string{head, auditor, officer} {
		if v.callers[name], err = v.as(ctx, name); err != nil {
			return v, err
		}
	}
	return v, nil
}

func (v *version) end() error {
	if v == nil {
		return nil
	}
	var err error
	if v.city != nil {
		err = v.stop()
	}
	return errors.Join(err, os.RemoveAll(v.folder))
}

// start returns the CPU time in milliseconds that the server takes until it is ready,
// on what the version has stored.
func (v *version) start(ctx context.Context) (float64, error) {
	if err := v.stop(); err != nil {
		return 0, err
	}
	var err error
	if v.city, err = startServer(ctx, v.binary, v.folder, ""); err != nil {
		return 0, err
	}
	cpu, err := v.cpu()
	return cpu.Seconds() * 1000, err
}

// idle returns the resident memory in MiB of a server that has just started, on what
// the version has stored.
func (v *version) idle(ctx context.Context) (float64, error) {
	if _, err := v.start(ctx); err != nil {
		return 0, err
	}
	return v.memory()
}

// peakOfUploads returns the most resident memory in MiB that a server has had, which
// has just started and takes many uploads at once.
func (v *version) peakOfUploads(ctx context.Context, a *album) (float64, error) {
	if _, err := v.start(ctx); err != nil {
		return 0, err
	}
	ctx = v.callers[officer]
	list, err := v.declareMany(ctx, v.sites, a, atOnce)
	if err != nil {
		return 0, err
	}
	if _, err := together(atOnce, func(i int) error { return v.upload(ctx, i, list[i]) }); err != nil {
		return 0, err
	}
	return v.peak()
}

// uploads returns the CPU time in milliseconds a MiB of uploads.
func (v *version) uploads(a *album) (float64, error) {
	ctx := v.callers[officer]
	list, err := v.declareMany(ctx, v.sites, a, uploaders*2)
	if err != nil {
		return 0, err
	}
	_, cpu, err := v.uploadAll(ctx, list)
	return cpu.Seconds() * 1000 / mib(list), err
}

// compareVersions measures the CPU time of calls and the memory of two versions, in
// pairs of which each begins with the other version, and prints the ratios.
func compareVersions(ctx context.Context, o options, binary string, w io.Writer) (err error) {
	var versions [2]*version // today's and the other
	for i, b := range []string{binary, o.against} {
		versions[i], err = startVersion(ctx, o, b)
		defer func() { err = errors.Join(err, versions[i].end()) }()
		if err != nil {
			return fmt.Errorf("%s: %w", b, err)
		}
	}
	album, err := newAlbum()
	if err != nil {
		return err
	}
	loaded := func(workers int, as string, c func(*version) call) func(*version) (float64, error) {
		return func(v *version) (float64, error) {
			s, err := load(v.callers[as], v.child, workers, o.window, c(v))
			return s.cpu, err
		}
	}
	rows := []struct {
		name, unit string
		bar        float64
		measure    func(*version) (float64, error)
	}{
		// First, while both have stored the same.
		{"start to ready", "ms", mostWorse, func(v *version) (float64, error) { return v.start(ctx) }},
		{"resident memory, idle", "MiB", mostLarger, func(v *version) (float64, error) { return v.idle(ctx) }},
		{fmt.Sprintf("resident memory at most, %d uploads at once", atOnce), "MiB", mostLarger, func(v *version) (float64, error) { return v.peakOfUploads(ctx, album) }},
		{"GetCoverage, city with counties, one day", "µs", mostWorse, loaded(workers, head, func(v *version) call { return v.coverage() })},
		{"ListSiteHistory, page of 20", "µs", mostWorse, loaded(workers, auditor, func(v *version) call { return v.history(v.sites) })},
		{"SubmitCheckIn", "µs", mostWorse, loaded(workers, officer, func(v *version) call { return v.submit(v.sites) })},
		{fmt.Sprintf("SubmitCheckIn, %d workers", manyWorkers), "µs", mostWorse, loaded(manyWorkers, officer, func(v *version) call { return v.submit(v.sites) })},
		{"UploadPhoto, a MiB", "ms", mostWorse, func(v *version) (float64, error) { return v.uploads(album) }},
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "the server's CPU time, and memory\tbefore\tnow\tratio (least to most)\tbar\t")
	for _, r := range rows {
		var values [2][]float64
		var ratios []float64
		for pair := range o.pairs {
			var now [2]float64
			for _, which := range []int{pair % 2, 1 - pair%2} {
				if now[which], err = r.measure(versions[which]); err != nil {
					return fmt.Errorf("%s, %s: %w", versions[which].binary, r.name, err)
				}
				values[which] = append(values[which], now[which])
			}
			ratios = append(ratios, now[0]/now[1])
		}
		ratio := median(ratios)
		verdict := "met"
		if ratio > r.bar {
			verdict = "missed"
		}
		fmt.Fprintf(t, "%s\t%.1f %s\t%.1f %s\t%.3f (%.3f to %.3f)\t≤ %.2f\t%s\n", r.name, median(values[1]), r.unit, median(values[0]), r.unit,
			ratio, slices.Min(ratios), slices.Max(ratios), r.bar, verdict)
	}
	fmt.Fprintf(w, "%d pairs, %s each, %d check-ins stored before\n", o.pairs, o.window.Round(time.Millisecond), cmp.Or(o.stored, cityStored))
	return t.Flush()
}
