package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// hostileCommand is the argument by which this program is a hostile crowd. The address of
// the server, the issuer of tokens, and the number of connections follow.
const hostileCommand = "be-hostile"

const (
	// turn is for how long a connection does one of the deeds, before it is another one
	// with the next.
	turn = 20 * time.Second
	// What all do together in a second. More would be a measurement of how fast the crowd
	// is: it runs on the same processors as the server.
	actionsEach, bytesEach, passwordsEach = 1000, 24 << 20, 10
	// streamsEach is how many streams a connection has open that sends long messages, and
	// streamsIdle one that only opens them.
	streamsEach, streamsIdle = 40, 400
	longMessage              = 16 << 20
)

// A hostile crowd is many connections of people without a token.
type hostile struct {
	address, issuer          string
	actions, bytes, password *rate.Limiter
	bomb                     []byte // 4 MiB, packed

	mu    sync.Mutex
	tally tally
}

// A deed is what a connection does for a turn.
type deed struct {
	name string
	deaf bool
	do   func(h *hostile, ctx context.Context, c *rawConn, source *rand.Rand) error
}

var deeds = []deed{
	{"long messages", false, (*hostile).longMessages},
	{"gzip bombs", false, (*hostile).bombs},
	{"headers alone", false, (*hostile).headersAlone},
	{"long headers", false, (*hostile).longHeaders},
	{"open reflection streams", false, (*hostile).openReflection},
	{"open health streams", false, (*hostile).openHealth},
	{"unknown methods", false, (*hostile).unknownMethods},
	{"forged tokens", false, (*hostile).forgedTokens},
	{"reading nothing", true, (*hostile).readNothing},
	{"saying nothing", false, (*hostile).sayNothing},
	{"trickling", false, (*hostile).trickle},
	{"wrong passwords", false, (*hostile).wrongPasswords},
	{"cancelled logins", false, (*hostile).cancelledLogins},
}

// beHostile attacks the server of the arguments until the input ends, and then says what
// it has done.
func beHostile(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 {
		return errors.New("want an address, an issuer and a number of connections")
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	h := &hostile{
		address: args[0], issuer: args[1], tally: tally{},
		actions: rate.NewLimiter(actionsEach, actionsEach/10), bytes: rate.NewLimiter(bytesEach, 1<<20), password: rate.NewLimiter(passwordsEach, passwordsEach),
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(make([]byte, 4<<20)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	h.bomb = framed(packed.Bytes(), true)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in) // whose end ends the crowd, however it comes
		cancel()
	}()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { h.be(ctx, i) })
	}
	group.Wait()
	return json.NewEncoder(out).Encode(h.tally)
}

// count notes what the crowd has done.
func (h *hostile) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tally[what]++
}

// be is one of the crowd: it does each deed for a turn, on a connection of its own or, where
// the server closes that, on another one a second later. Each has an address of its own.
func (h *hostile) be(ctx context.Context, i int) {
	source := rand.New(rand.NewPCG(uint64(i), 16))
	from := net.IPv4(127, 1, byte(i>>8), byte(i))
	pause(ctx, rand.N(2*time.Second)) // so that they do not all come at once
	for n := i; ctx.Err() == nil; n++ {
		d := deeds[n%len(deeds)]
		ctx, cancel := context.WithTimeout(ctx, turn)
		for ctx.Err() == nil {
			h.once(ctx, d, from, source)
			pause(ctx, time.Second)
		}
		cancel()
	}
}

// once does the deed on one connection, until the turn or the connection ends.
func (h *hostile) once(ctx context.Context, d deed, from net.IP, source *rand.Rand) {
	c, err := dialRaw(ctx, from, h.address, d.deaf)
	if err != nil {
		if ctx.Err() == nil {
			h.count(d.name + ": not connected")
		}
		return
	}
	defer context.AfterFunc(ctx, c.close)()
	defer c.close()
	h.count(d.name)
	_ = d.do(h, ctx, c, source) // which only says that it is over
	if c.ended() != nil && ctx.Err() == nil {
		h.count(d.name + ": closed by the server")
	}
}

// idle keeps the connection open until it ends.
func (c *rawConn) idle(ctx context.Context) error {
	for c.ended() == nil && ctx.Err() == nil {
		pause(ctx, 100*time.Millisecond)
	}
	return c.ended()
}

// hold keeps so many streams open, of which make opens one. What the server ends is opened anew.
func (h *hostile) hold(ctx context.Context, c *rawConn, n int, make func() (uint32, error)) error {
	open := map[uint32]bool{}
	for {
		for id := range open {
			if !c.alive(id) {
				delete(open, id)
			}
		}
		for len(open) < n {
			if err := h.actions.Wait(ctx); err != nil {
				return err
			}
			id, err := make()
			if err != nil {
				return err
			}
			open[id] = true
		}
		if err := c.ended(); err != nil {
			return err
		}
		pause(ctx, 500*time.Millisecond)
	}
}
