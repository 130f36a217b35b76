// Package wire bounds what callers can make a server hold, below grpc: connections, streams
// and bytes. It follows the frames of HTTP/2 as they pass, and so knows what each connection
// weighs. A connection on which no good token was shown is a stranger's. Strangers share one
// budget and known callers another, and one address has at most half of either. Where a
// budget is exceeded, the heaviest connection of the heaviest address is closed, and nobody
// new is refused. A stranger's connection weighs more the longer it lasts, because a caller
// with a token is a stranger for a moment only. Where many come at once, such as all phones
// after a restart, they wait for each other before their handshakes.
//
//	gate := wire.New(wire.Config{Connections: 5000})
//	conn, err := gate.Admit(raw) // raw may be encrypted from here on
//	conn.Over(encrypted)         // and conn is what grpc reads and writes
package wire

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"xuncha/server/internal/addresses"
)

// Windows of streams, in bytes: how much of a stream may arrive before somebody reads it.
const (
	StrangerWindow = 64 << 10
	// KnownWindow is the one that grpc must be told. grpc gives back a window once a quarter
	// of it was read, so StrangerWindow must be at least that: a stranger's stream would
	// stop for ever otherwise.
	KnownWindow = 4 * StrangerWindow
)

const (
	// idleKnown and idleStranger are how long a connection stays that has no stream, and
	// whose caller sends nothing but answers to pings.
	idleKnown    = 5 * time.Minute
	idleStranger = time.Minute
	// timeToGo is how long a caller that was asked to go may take.
	timeToGo = 10 * time.Second
	// slow is how long a caller may leave unread what is sent to it.
	slow = time.Minute
	// dies is how long a closed connection counts at most, also where its methods have not
	// returned.
	dies = 30 * time.Second
	// reportEvery is how often Report is called at most.
	reportEvery = time.Minute
)

// Reasons for which a connection is closed.
const (
	Crowded = "crowded" // there are too many connections
	Heavy   = "heavy"   // the connections hold too much
	Slow    = "slow"    // the caller does not take what is sent to it
	Idle    = "idle"    // nothing was heard from the caller for long
	Trickle = "trickle" // of a stream alone: its request or its end did not come in time
)

var (
	// errCrowded means that there are too many connections, and none of them can go.
	errCrowded = errors.New("too many connections")
	errStopped = errors.New("the server is stopping")
)

// Config says what a gate lets in. A field that is 0 sets no limit.
type Config struct {
	// Connections and PerAddress are how many connections there may be, in all and from
	// one address. An IPv6 address is its /64. This machine's own counts only in all.
	Connections, PerAddress int
	// Strangers and Known are how many bytes the connections of either may weigh in all.
	Strangers, Known int64
	// BehindProxy says that all connections are a proxy's, so that addresses say nothing.
	BehindProxy bool
	// Now returns the time; nil for one that never jumps. Ticks says when Look is called; nil
	// for every second.
	Now   func() time.Time
	Ticks <-chan time.Time
	// Report is told, once a minute at most, how often each reason has closed something
	// since it was last called. It may be nil.
	Report func(closed map[string]int)
}

// The kinds of callers.
const (
	strangers  = 0
	acquainted = 1
)

func kind(known bool) int64 {
	if known {
		return acquainted
	}
	return strangers
}

// A Gate has all connections of a server. It is safe for concurrent use.
type Gate struct {
	config Config
	limits [2]int64
	held   [2]atomic.Int64
	now    atomic.Int64 // in Unix nanoseconds, as of the last look
	// gone is what closed connections still hold: grpc needs time to learn that they are.
	gone atomic.Int64

	// waited tells that somebody waits to be let in.
	waited atomic.Bool

	waiting sync.Mutex
	less    chan struct{} // closed when less is gone; nil while nobody waits for it
	looked  chan struct{} // closed with the next look

	mu        sync.Mutex
	conns     map[*Conn]struct{}
	dying     map[*Conn]int64 // those that are closed and still hold something, and since when
	addresses map[netip.Addr]*address
	queue     []*newcomer // in the order in which they came
	stopped   bool
	closed    map[string]int // since the last report
	reported  int64
	empty     chan struct{} // closed once the last connection has left; nil while there is none
}

// An address is where connections come from.
type address struct {
	block  netip.Addr // none where the address is not known
	shares bool       // it has only a share of what is held
	conns  int
	held   [2]atomic.Int64
}

// New returns a gate without connections.
func New(c Config) *Gate {
	const unlimited = 1 << 62
	g := &Gate{config: c, looked: make(chan struct{}), conns: map[*Conn]struct{}{}, dying: map[*Conn]int64{}, addresses: map[netip.Addr]*address{}, closed: map[string]int{}}
	if c.Now == nil {
		begun := time.Now()
		g.config.Now = func() time.Time { return begun.Add(time.Since(begun)) }
	}
	for k, limit := range []int64{c.Strangers, c.Known} {
		if g.limits[k] = limit; limit <= 0 {
			g.limits[k] = unlimited
		}
	}
	g.now.Store(g.config.Now().UnixNano())
	return g
}

// address returns where the connection comes from. It needs mu.
func (g *Gate) address(raw net.Conn) *address {
	var block netip.Addr
	shares := false
	if tcp, ok := raw.RemoteAddr().(*net.TCPAddr); ok && !g.config.BehindProxy {
		if ip, ok := netip.AddrFromSlice(tcp.IP); ok {
			shares, block = !ip.Unmap().IsLoopback(), addresses.Block(ip)
		}
	}
	if a := g.addresses[block]; a != nil {
		return a
	}
	return &address{block: block, shares: shares}
}

// remove takes out a connection that was closed. It needs mu.
func (g *Gate) remove(c *Conn) {
	delete(g.conns, c)
	g.dying[c] = g.now.Load()
	if c.from.conns--; c.from.conns == 0 {
		delete(g.addresses, c.from.block)
	}
	if len(g.conns) == 0 {
		close(g.empty)
		g.empty = nil
	}
}

// look looks after the connections until there are none.
func (g *Gate) look(empty <-chan struct{}) {
	ticks := g.config.Ticks
	if ticks == nil {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		ticks = t.C
	}
	for {
		select {
		case <-empty:
			return
		case <-ticks:
			g.Look()
		}
	}
}

// Look closes what is idle or slow, and ends streams that were given a time.
func (g *Gate) Look() {
	now := g.config.Now().UnixNano()
	g.now.Store(now)
	g.mu.Lock()
	for c := range g.conns {
		c.frames.Store(0)
		g.lookAt(c, now)
	}
	g.waiting.Lock()
	close(g.looked)
	g.looked = make(chan struct{})
	g.waiting.Unlock()
	for c, since := range g.dying {
		if c.dead(now-since >= int64(dies)) {
			delete(g.dying, c)
		}
	}
	g.letIn(true)
	var report map[string]int
	if len(g.closed) > 0 && now-g.reported >= int64(reportEvery) {
		report, g.closed, g.reported = g.closed, map[string]int{}, now
	}
	g.mu.Unlock()
	if report != nil && g.config.Report != nil {
		g.config.Report(report)
	}
}

// lookAt is Look at one connection. It needs mu.
func (g *Gate) lookAt(c *Conn, now int64) {
	if at := c.writingAt.Load(); at != 0 && now-at >= int64(slow) {
		g.cut(c, Slow)
		return
	}
	c.mu.Lock()
	busy, idle, deaf := len(c.streams) > 0, idleStranger, false
	if c.Known() {
		idle = idleKnown
	}
	var ends []func()
	for _, s := range c.streams {
		if s.due != 0 && s.due <= now {
			g.closed[Trickle]++
			ends = append(ends, s.endWith)
			s.due, s.endWith = 0, nil
		}
		// A known connection may be that of many callers, of whom one is deaf.
		deaf = deaf || s.waits != 0 && now-s.waits >= int64(slow) && !c.Known()
	}
	c.mu.Unlock()
	if deaf {
		g.cut(c, Slow)
		return
	}
	for _, end := range ends {
		go end()
	}
	left := c.leftAt.Load()
	switch {
	case busy:
	case left != 0 && now-left >= int64(timeToGo):
		g.cut(c, Idle)
	case left != 0 || now-c.heardAt.Load() < int64(idle):
	case !c.began.Load(): // the handshake is not over, and will not be
		g.cut(c, Idle)
	case c.writingAt.Load() == 0:
		go c.askToGo()
	}
}

// Pressed reports whether strangers hold a quarter of what they may.
func (g *Gate) Pressed() bool { return g.held[strangers].Load() > g.limits[strangers]/4 }

// Held returns what the connections of strangers and of known callers weigh, in bytes, and
// how many connections there are.
func (g *Gate) Held() (strange, known int64, conns int) {
	g.mu.Lock()
	all := slices.Collect(maps.Keys(g.conns))
	g.mu.Unlock() // or what is held would grow meanwhile, and nothing be closed
	for _, c := range all {
		c.mu.Lock()
		if !c.closed {
			c.tell()
		}
		c.mu.Unlock()
	}
	return g.held[strangers].Load(), g.held[acquainted].Load(), len(all)
}
