package serve

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// memoryConfig says how much memory a server should take.
type memoryConfig struct {
	MemoryLimit byteSize `placeholder:"SIZE" help:"Memory that the server should stay below, such as 1GiB: Go's collector runs as often as that needs. It is no hard limit. Default: none, or GOMEMLIMIT."`
}

// A byteSize is a number of bytes, written as Go's GOMEMLIMIT: 1073741824, 1024MiB, 1GiB.
type byteSize int64

// UnmarshalText reads the size.
func (b *byteSize) UnmarshalText(text []byte) error {
	digits, unit := string(text), int64(1)
	for i, suffix := range []string{"KiB", "MiB", "GiB", "TiB", "B"} {
		if before, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = before, 1<<(10*((i+1)%5))
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is no size such as 1073741824, 1024MiB or 1GiB", text)
	}
	*b = byteSize(n * unit)
	return nil
}

// minMemoryLimit is what a server of a city needs. Below it, the collector would do
// nothing but run.
const minMemoryLimit = 64 << 20

// apply sets the limit. GOMEMLIMIT in the environment comes first.
func (c memoryConfig) apply() error {
	if c.MemoryLimit == 0 || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	if c.MemoryLimit < minMemoryLimit {
		return errors.New("--memory-limit: must be at least 64MiB")
	}
	debug.SetMemoryLimit(int64(c.MemoryLimit))
	return nil
}

const (
	// roomToGrow is how many bytes of garbage may gather beside a small heap.
	roomToGrow = 64 << 20
	// mostPercent and leastPercent are between which the garbage that may gather lies,
	// in percent of the heap.
	mostPercent  = 400
	leastPercent = 30
)

// gcPercent returns how much garbage may gather before Go's collector runs, in percent of
// a heap of so many bytes: roomToGrow, within bounds. By default it is as much as the
// heap. That would keep the collector busy with a city's heap of a few MiB, and would
// double the memory of a country's.
func gcPercent(heap uint64) int {
	return int(min(mostPercent, max(leastPercent, 100*roomToGrow/max(heap, 1))))
}

const (
	// smallest is the least limit, which a city's server has, and smallestPressed the least
	// while strangers hold much. With less, the collector would run for nothing.
	smallest        = 112 << 20
	smallestPressed = 96 << 20
	// limitStep is the least change of the limit: to set it stops all calls for a moment.
	limitStep = 16 << 20
)

// gcLimit returns what a server with a heap of so many bytes should stay below, in bytes
// that Go has from the system. Callers can make garbage faster than the collector is done,
// and those without a token do so for nothing. With gcPercent alone a city's server had
// twice as much while they did.
func gcLimit(heap uint64, pressed bool) int64 {
	least, room := uint64(smallest), uint64(roomToGrow/2)
	if pressed {
		least, room = smallestPressed, roomToGrow/4
	}
	return int64(max(least, (heap+heap*leastPercent/100+room+limitStep-1)/limitStep*limitStep))
}

// paceCollector sets Go's collector by the size of the heap from now on, after each of its
// runs, until the function that it returns is called. pressed says whether strangers hold
// much. GOGC in the environment overrides it. A limit that is set before, by flag or
// GOMEMLIMIT, stays where it is less.
func paceCollector(pressed func() bool) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	var stopped atomic.Bool
	now, least := 0, debug.SetMemoryLimit(-1)
	limit := least
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := func() {
		metrics.Read(live)
		heap := live[0].Value.Uint64()
		if percent := gcPercent(heap); percent != now {
			now = percent
			debug.SetGCPercent(percent)
		}
		if want := min(least, gcLimit(heap, pressed())); want != limit {
			limit = want
			debug.SetMemoryLimit(want)
		}
	}
	var afterNext func()
	afterNext = func() {
		// The collector finds that nobody has this any more, so its cleanup runs after
		// each run of the collector.
		runtime.AddCleanup(new(sentinel), func(struct{}) {
			if !stopped.Load() {
				set()
				afterNext()
			}
		}, struct{}{})
	}
	set()
	afterNext()
	return func() {
		stopped.Store(true)
		debug.SetMemoryLimit(least)
	}
}

// giveBack gives memory back to the system that reading what is stored has left. A small
// heap is left alone: to look through it once touches more memory than it gives back.
func giveBack() {
	if readHeap().resident > roomToGrow {
		debug.FreeOSMemory()
	}
}

// A heap is what Go's runtime says of it.
type heap struct {
	collections uint64
	// resident is how many bytes the system has given to it, with what is not used.
	resident uint64
}

func readHeap() heap {
	of := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(of)
	return heap{of[0].Value.Uint64(), of[1].Value.Uint64() + of[2].Value.Uint64() + of[3].Value.Uint64()}
}

// tidyEvery is how often is looked whether memory is to be given back: within twice as long
// after the work that took it, it is.
const tidyEvery = 20 * time.Second

// tidyMemory gives memory back at a tick, until the context ends. The collector runs when the
// heap has grown, and sees then what was in use: where a large import, or many calls at
// once, have ended since, what they had stays until the heap has grown once more, which
// may be never. So where no collection has been since the last tick, and some were before,
// there is one more.
func tidyMemory(ctx context.Context, ticks <-chan time.Time) {
	var t tidy
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			if t.due(readHeap()) {
				debug.FreeOSMemory()
				t.last = readHeap().collections
			}
		}
	}
}

// tidy decides when memory is given back.
type tidy struct {
	last  uint64 // collections at the last tick
	since bool   // whether there have been any since memory was given back
}

// due takes the heap at a tick, and tells whether memory is to be given back now.
func (t *tidy) due(now heap) bool {
	if now.collections != t.last {
		t.last, t.since = now.collections, true
		return false // the collector is at work
	}
	due := t.since
	t.since = false
	return due && now.resident > roomToGrow
}

// A sentinel is garbage from its beginning. It has a pointer, because Go puts small values
// without pointers into one object, which lives as long as any of them.
type sentinel struct{ _ *sentinel }
