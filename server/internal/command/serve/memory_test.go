package serve

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestByteSize(t *testing.T) {
	for text, want := range map[string]byteSize{"1": 1, "1073741824": 1 << 30, "512B": 512, "3KiB": 3 << 10, "64MiB": 64 << 20, "1GiB": 1 << 30, "2TiB": 2 << 40} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "1GB", "GiB", "1.5GiB", "1 GiB", "9999999999TiB"} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

// A small heap has room to grow, and a large one takes little more than it needs.
func TestGCPercent(t *testing.T) {
	for _, test := range []struct {
		heap uint64
		want int
	}{{0, 400}, {4 << 20, 400}, {16 << 20, 400}, {32 << 20, 200}, {64 << 20, 100}, {128 << 20, 50}, {160 << 20, 40}, {700 << 20, 30}, {1 << 40, 30}} {
		if got := gcPercent(test.heap); got != test.want {
			t.Errorf("a heap of %d MiB: got %d, want %d", test.heap>>20, got, test.want)
		}
	}
}

// A city's server stays small whatever callers do, and a large one has what it needs.
func TestGCLimit(t *testing.T) {
	for _, test := range []struct {
		heap          uint64
		calm, pressed int64
	}{{0, 112, 96}, {40, 112, 96}, {64, 128, 112}, {100, 176, 160}, {1000, 1344, 1328}} {
		calm, pressed := gcLimit(test.heap<<20, false)>>20, gcLimit(test.heap<<20, true)>>20
		if calm != test.calm || pressed != test.pressed {
			t.Errorf("a heap of %d MiB: got %d MiB, and %d while strangers hold much, want %d and %d", test.heap, calm, pressed, test.calm, test.pressed)
		}
	}
}

// The collector's setting follows the heap both ways.
func TestPaceCollector(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	stop := paceCollector(func() bool { return false })
	t.Cleanup(func() {
		stop()
		debug.SetGCPercent(before)
	})
	// setting tells the collector's setting once it is as wanted, after a few runs.
	setting := func(wanted func(int) bool) int {
		for deadline := time.Now().Add(time.Minute); ; {
			runtime.GC()
			// The setting can only be read by setting it.
			percent := debug.SetGCPercent(100)
			debug.SetGCPercent(percent)
			if wanted(percent) || time.Now().After(deadline) {
				return percent
			}
		}
	}
	small := setting(func(p int) bool { return p > 200 })
	limit := debug.SetMemoryLimit(-1)
	heap := make([]byte, 300<<20)
	large := setting(func(p int) bool { return p <= 50 })
	if more := debug.SetMemoryLimit(-1); limit < 112<<20 || limit > 200<<20 || more < limit+300<<20 {
		t.Errorf("the limit is %d MiB, and with 300 MiB more %d", limit>>20, more>>20)
	}
	runtime.KeepAlive(heap)
	heap = nil
	again := setting(func(p int) bool { return p > 200 })
	if small <= 200 || large > 50 || again <= 200 {
		t.Errorf("got %d, with 300 MiB more %d, and without again %d", small, large, again)
	}
}

// Memory is given back once the collector has been at work and is no more, once.
func TestTidy(t *testing.T) {
	const large = 2 * roomToGrow
	var tidied tidy
	for i, step := range []struct {
		heap
		want bool
	}{
		{heap{5, large}, false}, {heap{9, large}, false}, {heap{9, large}, true}, {heap{9, large}, false},
		{heap{10, roomToGrow}, false}, {heap{10, roomToGrow}, false}, {heap{10, large}, false},
		{heap{11, large}, false}, {heap{12, large}, false}, {heap{12, large}, true},
	} {
		if got := tidied.due(step.heap); got != step.want {
			t.Errorf("step %d: got %t, want %t", i, got, step.want)
		}
	}
}

// What was in use at the last collection, and is no more, goes back to the system.
func TestTidyMemory(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	ticks, done := make(chan time.Time), make(chan struct{})
	go func() { defer close(done); tidyMemory(ctx, ticks) }()
	debug.FreeOSMemory() // of what other tests had
	before := readHeap().resident
	held := make([]byte, 300<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	runtime.GC()
	runtime.KeepAlive(held)
	held = nil
	kept := readHeap().resident
	for range 4 { // once a tick is taken, what came of the one before is done
		ticks <- time.Time{}
	}
	end()
	<-done
	if after := readHeap().resident; kept < before+250<<20 || after > before+100<<20 {
		t.Errorf("the heap has %d MiB, and %d before it had 300 MiB more, which made %d", after>>20, before>>20, kept>>20)
	}
}
