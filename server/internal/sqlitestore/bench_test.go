package sqlitestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/sites"
)

// benchDraft makes an entry whose record is about 450 bytes long.
func benchDraft(site int) ledger.Draft {
	return ledger.Draft{
		History: benchSite(site).History(), ID: fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()), Kind: inspections.KindCheckIn,
		Time: time.Unix(1580515200, 123456789), Account: "local", Content: benchContent,
	}
}

var benchContent = []byte(`{"note":"` + strings.Repeat("n", 170) + `"}`)

func benchSite(n int) sites.SiteID {
	return sites.SiteID(fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(n)*2654435761, n))
}

// spread calls f(0) to f(n-1) from 64 goroutines.
func spread(n int, f func(int)) {
	next := make(chan int)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

// BenchmarkAppend measures durable appends from 64 goroutines, and the longest
// waits for one.
func BenchmarkAppend(b *testing.B) {
	for _, count := range []int{1, 85, 144_000} {
		b.Run(fmt.Sprintf("sites=%d", count), func(b *testing.B) {
			s := open(b)
			waits := make([]time.Duration, b.N)
			b.ResetTimer()
			spread(b.N, func(i int) {
				start := time.Now()
				if _, _, err := s.Append(b.Context(), benchDraft(rand.IntN(count))); err != nil {
					b.Error(err)
				}
				waits[i] = time.Since(start)
			})
			b.StopTimer()
			slices.Sort(waits)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64(waits[b.N*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(waits[b.N-1].Microseconds())/1000, "max-ms")
		})
	}
}

// BenchmarkRead measures a page of 20 entries, and reading everything, with
// 170,000 entries stored.
func BenchmarkRead(b *testing.B) {
	const count, each = 85, 2000
	s := open(b)
	spread(count*each, func(i int) {
		if _, _, err := s.Append(b.Context(), benchDraft(i%count)); err != nil {
			b.Error(err)
		}
	})
	page := func() {
		before := ledger.Sequence(30 + rand.IntN(each-30))
		entries, err := s.Newest(context.Background(), benchSite(rand.IntN(count)).History(), before, 20)
		if err != nil || len(entries) != 20 {
			b.Error(len(entries), err)
		}
	}
	b.Run("page", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			page()
		}
	})
	b.Run("pages at once", func(b *testing.B) {
		b.SetParallelism(64 / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				page()
			}
		})
	})
	b.Run("feed", func(b *testing.B) {
		n := 0
		for b.Loop() {
			for _, err := range s.Feed(b.Context(), "") {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
	})
}
