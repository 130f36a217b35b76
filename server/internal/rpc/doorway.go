package rpc

import (
	"context"
	"hash/maphash"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"xuncha/server/internal/addresses"
)

// This file holds the limit on calls from one address. It holds for every call whatever its
// method, and is looked at before anything of a call but its headers is read, so that a call
// that is refused costs next to nothing.

// cells is how many counts of calls there are. Each address counts in two of them, and has
// calls left as long as either has. So no number of addresses makes the server forget one,
// and two addresses hinder each other only where they share both.
const cells = 1 << 16

// An addressLimiter counts the calls of each address. It is safe for concurrent use.
type addressLimiter struct {
	// each is how long a call takes to be gained back, burst how long all that can be saved
	// up.
	each, burst time.Duration
	seed        maphash.Seed
	// full is when each cell has saved up all again, in nanoseconds since 1970: the
	// generic cell rate algorithm.
	full []atomic.Int64
}

// newAddressLimiter returns a limiter of so many calls a second, or nil for none.
func newAddressLimiter(perSecond float64) *addressLimiter {
	if perSecond <= 0 {
		return nil
	}
	each := time.Duration(float64(time.Second) / perSecond)
	return &addressLimiter{
		each: each, burst: max(each, burstSeconds*time.Second), seed: maphash.MakeSeed(), full: make([]atomic.Int64, cells),
	}
}

// A counted is who shares a count of calls.
type counted struct {
	from netip.Addr
	// what is 0 for all calls. Callers on this machine have counts of their own for some
	// kinds of calls.
	what localCall
}

// take takes one call of the address, or says how long to wait for the next.
func (l *addressLimiter) take(now time.Time, who counted) error {
	if l == nil {
		return nil
	}
	h := maphash.Comparable(l.seed, who)
	i, j := h%cells, h>>32%cells
	if i == j {
		j = (j + 1) % cells
	}
	first, second := l.takeOf(&l.full[i], now), l.takeOf(&l.full[j], now)
	if wait := min(first, second); wait > 0 {
		return &limitedError{"address", max(time.Millisecond, wait)}
	}
	return nil
}

// takeOf takes one call of a cell, or returns how long to wait for the next.
func (l *addressLimiter) takeOf(cell *atomic.Int64, now time.Time) time.Duration {
	for {
		before := cell.Load()
		// Time that was set back makes nobody wait for longer than for one call.
		full := min(max(time.Duration(before)-time.Duration(now.UnixNano()), 0), l.burst)
		if wait := full + l.each - l.burst; wait > 0 {
			return wait
		}
		if cell.CompareAndSwap(before, now.UnixNano()+int64(full+l.each)) {
			return 0
		}
	}
}

// A localCall is a kind of calls from this machine, which are counted by themselves so that
// none of them hinders the others. Calls with an access token that is good are not counted
// by address, and neither are those to a server without accounts: a server's own machine has
// other ways to keep it busy, and commands make many calls.
type localCall byte

const (
	localToken   localCall = iota + 1 // it says who calls, and is counted where that is not true
	localSignIn                       // methods that need no token
	localHealth                       // asking once for the server's health, as probes do
	localAnother                      // all others, and those whose token is not taken
)

// localCallOf returns the kind of a call of the method.
func localCallOf(method string) localCall {
	if method == healthv1.Health_Check_FullMethodName {
		return localHealth
	}
	row, ours := accesses[method]
	switch {
	case !ours:
		return localAnother
	case row.open:
		return localSignIn
	}
	return localToken
}

// arrive is called when the headers of a call have come, and nothing else.
func (c *calls) arrive(ctx context.Context, info *tap.Info) (context.Context, error) {
	if err := c.knock(ctx, info.FullMethodName); err != nil {
		return ctx, c.turnAway(ctx, info.FullMethodName, err)
	}
	return tapped(ctx, info)
}

// turnAway returns the status of a call that is not let in, which is not observed.
func (c *calls) turnAway(ctx context.Context, method string, err error) error {
	id := c.requestID(ctx)
	st := toStatus(ctx, err, id)
	if !c.methods[method] {
		method = unknownMethod
	}
	c.lines.call(ctx, callLine{method, st.Code().String(), 0, id}, false)
	return st.Err()
}

// knock takes a call of the method, or a message of one that lasts, from the caller's address.
func (c *calls) knock(ctx context.Context, method string) error {
	from, err := c.config.originOf(ctx)
	if err != nil {
		c.lines.forwarded(ctx, true)
		return err
	}
	if from.direct && !strings.HasPrefix(method, healthPrefix) {
		c.lines.forwarded(ctx, false)
	}
	who := from.counted(method)
	if who.what == localToken {
		return nil
	}
	return c.perAddress.take(c.now(), who)
}

// counted returns who shares the count of a call of the method.
func (o origin) counted(method string) counted {
	who := counted{from: addresses.Block(o.ip)}
	if o.local {
		who.what = localCallOf(method)
	}
	return who
}

// answerCost is how many bytes of an answer of a standard service count as one call: a
// question of few bytes may have an answer of hundreds of kilobytes.
const answerCost = 16 << 10

// answered takes more calls of the caller's address, one for each answerCost that an answer
// has beyond the first.
func (c *calls) answered(ctx context.Context, method string, m any) {
	msg, ok := m.(proto.Message)
	from, err := c.config.originOf(ctx)
	if !ok || err != nil || c.perAddress == nil {
		return
	}
	for range (proto.Size(msg) - 1) / answerCost {
		if c.perAddress.take(c.now(), from.counted(method)) != nil {
			return // and the next question is refused
		}
	}
}

// healthPrefix is what the methods of the standard health service begin with, whose callers
// are often no callers of the proxy.
const healthPrefix = "/grpc.health.v1.Health/"

// another takes one more call for a further message of a call of a standard service, which may
// last as long as its caller likes.
func (c *calls) another(ctx context.Context, method string) error {
	if err := c.knock(ctx, method); err != nil {
		return err
	}
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok && s.caller != nil {
		return c.perAccount.take(c.now(), s.caller.Account.ID)
	}
	return nil
}

// unidentified counts a call from this machine whose token is not taken, and returns why it
// is refused. Others have been counted before.
func (c *calls) unidentified(ctx context.Context, err error) error {
	if from, _ := c.config.originOf(ctx); from.local {
		if limited := c.perAddress.take(c.now(), counted{addresses.Block(from.ip), localAnother}); limited != nil {
			return limited
		}
	}
	return err
}
