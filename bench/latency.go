package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"xuncha/client"
)

// latencies are how long calls took, the shortest first.
type latencies []time.Duration

// at returns the latency that the share p of the calls did not exceed: 0.5 is the
// median, 0.99 what all but one in a hundred kept, and 1 the longest.
func (l latencies) at(p float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(max(int(math.Ceil(p*float64(len(l))))-1, 0), len(l)-1)]
}

func (l latencies) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, max %s ms", milliseconds(l.at(0.5)), milliseconds(l.at(0.99)), milliseconds(l.at(1)))
}

// milliseconds returns d in milliseconds, in three digits at least.
func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f", ms)
	default:
		return fmt.Sprintf("%.0f", ms)
	}
}

// mostUnderWay is how many paced calls may be under way. A server that falls further
// behind gets fewer calls than the pace.
const mostUnderWay = 4096

// longestCall is after how long a paced call has failed.
const longestCall = time.Minute

// A pacer makes calls at a fixed pace, whether or not those before have ended.
type pacer struct {
	// failing ends with the first call that fails, and with the pacer.
	failing context.Context
	cancel  context.CancelFunc
	done    chan struct{}

	mu   sync.Mutex
	took latencies
	err  error // of the first call that failed
}

// startPacer begins to make so many calls a second on the connections.
func startPacer(ctx context.Context, conns []*client.Client, perSecond int, c call) *pacer {
	p := &pacer{done: make(chan struct{})}
	p.failing, p.cancel = context.WithCancel(ctx)
	go func() {
		defer close(p.done)
		var group sync.WaitGroup
		defer group.Wait()
		room := make(chan struct{}, mostUnderWay)
		begun := time.Now()
		for i := 0; ; i++ {
			wait := time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(perSecond)))
			select {
			case <-time.After(wait):
			case <-p.failing.Done():
				return
			}
			select {
			case room <- struct{}{}:
			case <-p.failing.Done():
				return
			}
			group.Go(func() {
				defer func() { <-room }()
				source := rand.New(rand.NewPCG(uint64(i), uint64(begun.UnixNano())))
				// A call that has begun is let end.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longestCall)
				defer cancel()
				sent := time.Now()
				err := c(ctx, conns[i%len(conns)], source)
				took := time.Since(sent)
				p.mu.Lock()
				defer p.mu.Unlock()
				if err == nil {
					p.took = append(p.took, took)
				} else if p.err == nil {
					p.err = err
					p.cancel()
				}
			})
		}
	}()
	return p
}

// stop waits for the calls under way and returns how long all of them took. The error is
// that of a call that failed.
func (p *pacer) stop() (latencies, error) {
	p.cancel()
	<-p.done
	slices.Sort(p.took)
	return p.took, p.err
}
