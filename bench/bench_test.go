package main

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"xuncha/client"
)

func TestReadCPU(t *testing.T) {
	for stat, want := range map[string]time.Duration{
		"7 (xuncha) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 9 0 100 1 2":     3 * time.Second,
		"7 (a (b) c d) S 1 7 7 0 -1 4194560 1 2 3 4 1 0 9 9 20 0 9 0 100 1 2":     10 * time.Millisecond,
		"7 (spaces in it) R 1 7 7 0 -1 4194560 1 2 3 4 0 0 9 9 20 0 9 0 100 1 2 ": 0,
	} {
		if got, err := readCPU(stat); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", stat, got, err, want)
		}
	}
	for _, stat := range []string{"", "7 (xuncha) S 1 2", "7 (xuncha) S 1 7 7 0 -1 4194560 1 2 3 4 x 50 9"} {
		if got, err := readCPU(stat); err == nil {
			t.Errorf("%q: got %v, want an error", stat, got)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{3, 1, 2}, 2}, {[]float64{9, 1, 5, 3}, 5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("%v: got %v, want %v", c.values, got, c.want)
		}
	}
}

func TestLatencies(t *testing.T) {
	hundred := make(latencies, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		l    latencies
		p    float64
		want time.Duration
	}{
		{nil, 0.99, 0},
		{latencies{7}, 0.5, 7},
		{latencies{7}, 1, 7},
		{latencies{1, 2, 3}, 0.5, 2},
		{latencies{1, 2, 3, 4}, 0.5, 2},
		{hundred, 0, 1},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := c.l.at(c.p); got != c.want {
			t.Errorf("%v at %v: got %d, want %d", c.l, c.p, got, c.want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	missed, judged := verdicts([]row{{bar: "≤ 1", met: true}, {bar: "≤ 1"}, {name: "promises nothing"}})
	if missed != 1 || judged != 2 {
		t.Errorf("got %d missed of %d, want 1 of 2", missed, judged)
	}
}

// TestNamesOf ensures that sizes stand side by side also where one of them failed.
func TestNamesOf(t *testing.T) {
	least := countryRun{rows: []row{{name: "a", measured: "1"}, {name: "b failed", measured: "failed"}}}
	whole := countryRun{rows: []row{{name: "a", measured: "2"}, {name: "b", measured: "x", cpu: "3 ms"}}}
	names := namesOf([]countryRun{least, whole})
	if want := []string{"a", "b", "b failed"}; !slices.Equal(names, want) {
		t.Errorf("got the rows %v, want %v", names, want)
	}
	for name, want := range map[string][2]string{"a": {"1", "2"}, "b": {"–", "3 ms"}, "b failed": {"failed", "–"}} {
		if got := [2]string{least.cell(name), whole.cell(name)}; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// TestReadStock ensures that no folder is measured that was not filled to its end, or
// whose orders are over.
func TestReadStock(t *testing.T) {
	write := func(filled time.Time) string {
		kept := t.TempDir()
		data, err := json.Marshal(stock{Levels: 6, Share: 1, Stored: 10, Filled: filled})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(kept, stockFile), data, 0o666); err != nil {
			t.Fatal(err)
		}
		return kept
	}
	if s, err := readStock(write(time.Now().Add(-42 * day))); err != nil || s.Stored != 10 {
		t.Errorf("a folder of 42 days ago: got %v, %v", s, err)
	}
	if s, err := readStock(write(time.Now().Add(-44 * day))); err == nil {
		t.Errorf("a folder of 44 days ago: got %v, want an error", s)
	}
	if _, err := readStock(t.TempDir()); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that was not filled to its end: got %v, want another error than that there is none", err)
	}
	if _, err := readStock(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: got %v, want %v", err, os.ErrNotExist)
	}
}

func TestOptions(t *testing.T) {
	good := options{scale: "city", rounds: 1, pairs: 1, window: 1, share: 1, levels: 6, callers: 1}
	with := func(change func(*options)) options {
		o := good
		change(&o)
		return o
	}
	for _, o := range []options{
		good,
		with(func(o *options) { o.scale, o.share, o.stored = "country", 0.1, 100 }),
		with(func(o *options) { o.scale, o.levels = "growth", 4 }),
		with(func(o *options) { o.scale, o.callers = "servers", 8 }),
		with(func(o *options) { o.scale, o.attack, o.hostile = "hostile", 1, 1 }),
	} {
		if err := o.check(); err != nil {
			t.Errorf("%+v: got %v", o, err)
		}
	}
	for _, o := range []options{
		with(func(o *options) { o.scale = "town" }),
		with(func(o *options) { o.scale, o.attack = "hostile", 1 }),
		with(func(o *options) { o.scale, o.attack, o.hostile, o.stored = "hostile", 1, 1, leastStored }),
		with(func(o *options) { o.stored = 100 }),
		with(func(o *options) { o.share = 0.1 }),
		with(func(o *options) { o.scale, o.share = "country", 2 }),
		with(func(o *options) { o.scale, o.database = "country", "mongodb://127.0.0.1/" }),
		with(func(o *options) { o.scale, o.database = "servers", "mongodb://127.0.0.1/" }),
		with(func(o *options) { o.scale, o.stored = "servers", leastStored }),
		with(func(o *options) { o.scale, o.callers = "servers", 0 }),
		with(func(o *options) { o.rounds = 0 }),
	} {
		if err := o.check(); err == nil {
			t.Errorf("%+v: got no error", o)
		}
	}
}

// TestPacer ensures that calls begin at their pace also where those before have not
// ended, that all that have begun count, and that a failure is not taken for speed.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := []*client.Client{nil}
		slow := func(context.Context, *client.Client, *rand.Rand) error {
			time.Sleep(2 * time.Second)
			return nil
		}
		p := startPacer(t.Context(), conns, 10, slow)
		time.Sleep(time.Second + time.Millisecond)
		took, err := p.stop()
		if err != nil || len(took) != 11 || took.at(1) != 2*time.Second {
			t.Errorf("got %v, %v, want 11 calls of 2s", took, err)
		}

		broken := errors.New("broken")
		p = startPacer(t.Context(), conns, 10, func(context.Context, *client.Client, *rand.Rand) error { return broken })
		time.Sleep(time.Second)
		if took, err := p.stop(); !errors.Is(err, broken) {
			t.Errorf("got %v, %v, want %v", took, err, broken)
		}

		p = startPacer(t.Context(), conns, 10, func(ctx context.Context, _ *client.Client, _ *rand.Rand) error {
			<-ctx.Done() // the server hangs
			return ctx.Err()
		})
		time.Sleep(time.Second)
		if took, err := p.stop(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v, want %v", took, err, context.DeadlineExceeded)
		}
	})
}
