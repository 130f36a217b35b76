package main

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that encoding knows as proto
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"xuncha/client"
)

// A call makes one call on a connection; the source is the worker's own.
type call func(ctx context.Context, conn *client.Client, source *rand.Rand) error

// readOneIn is how many answers come on each one that is read. The others are
// only received, because what a phone spends on reading them is not what is
// measured here, and both run on the same processors.
const readOneIn = 32

// invoke makes a call, and reads the answer into resp one time in readOneIn,
// when it reports that.
func invoke(ctx context.Context, conn *client.Client, source *rand.Rand, method string, req, resp proto.Message) (read bool, err error) {
	read = source.IntN(readOneIn) == 0
	codec := answerCodec{encoding.GetCodecV2("proto"), read}
	return read, conn.Invoke(ctx, method, req, resp, grpc.ForceCodecV2(codec))
}

// An answerCodec is grpc's protobuf codec, which reads answers if asked to.
type answerCodec struct {
	encoding.CodecV2
	read bool
}

// Unmarshal implements encoding.CodecV2.
func (c answerCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if !c.read {
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// dial returns clients of a server. Nobody is signed in with them, so that a call
// costs nothing but what grpc does; the load carries its tokens in the context.
func dial(address string) ([]*client.Client, error) {
	conns := make([]*client.Client, connections)
	for i := range conns {
		conn, err := dialOne(address)
		if err != nil {
			return nil, err
		}
		conns[i] = conn
	}
	return conns, nil
}

func dialOne(address string) (*client.Client, error) {
	return client.New(client.Config{Address: address, Plaintext: true, Now: time.Now, NewID: uuid.NewString})
}

// A speed is what a load has come to.
type speed struct {
	// rate is how many calls a second ended.
	rate float64
	// cpu is the server's CPU time a call; NaN where the system does not tell, or no
	// call ended.
	cpu float64 // in microseconds
}

// load makes calls of the server from so many workers for the window, after a fifth
// of it that does not count.
func load(ctx context.Context, server child, workers int, window time.Duration, c call) (speed, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var ended atomic.Int64
	var stop atomic.Bool
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() {
			source := rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano())))
			for !stop.Load() {
				if err := c(ctx, server.conns[i%len(server.conns)], source); err != nil {
					cancel(err)
					return
				}
				ended.Add(1)
			}
		})
	}
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	wait(window / 5)
	before, begun := ended.Load(), time.Now()
	cpuBefore, errBefore := server.cpu()
	wait(window)
	calls, took := float64(ended.Load()-before), time.Since(begun)
	cpuAfter, errAfter := server.cpu()
	stop.Store(true)
	group.Wait()
	out := speed{rate: calls / took.Seconds(), cpu: math.NaN()}
	if errBefore == nil && errAfter == nil && calls > 0 {
		out.cpu = float64((cpuAfter - cpuBefore).Nanoseconds()) / 1000 / calls
	}
	return out, context.Cause(ctx)
}

// times makes n calls in all from so many workers. Each call gets its number, and the
// calls begin in the order of their numbers.
func times(ctx context.Context, conns []*client.Client, workers, n int,
	c func(ctx context.Context, conn *client.Client, source *rand.Rand, i int) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var begun atomic.Int64
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			source := rand.New(rand.NewPCG(uint64(worker), uint64(n)))
			for {
				i := int(begun.Add(1) - 1)
				if i >= n {
					return
				}
				if err := c(ctx, conns[worker%len(conns)], source, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}
