// Package wire bounds what callers can make a server hold, below grpc: connections, streams
// and bytes. It follows the frames of HTTP/2 as they pass, and so knows of each connection
// what it weighs. A connection on which no good token was shown is a stranger's. Strangers
// share one budget and known callers another, and one address has at most half of either.
// Whoever goes beyond it, nobody new is refused: the heaviest connection of the heaviest
// address is closed. Of strangers the time counts too, because a caller with a token is one
// for a moment only.
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

// Windows of streams, in bytes: how much may come of a stream that nobody has read.
const (
	StrangerWindow = 64 << 10
	// KnownWindow is the one that grpc must be told.
	KnownWindow = 256 << 10
)

const (
	// idleKnown and idleStranger are for how long a connection stays without a stream and
	// without a word from its caller but answers to pings.
	idleKnown    = 5 * time.Minute
	idleStranger = time.Minute
	// leaving is for how long a caller may take to go that was asked to.
	leaving = 10 * time.Second
	// slow is for how long a caller may take nothing of what is sent to it.
	slow = time.Minute
	// dies is after how long a connection that was closed counts for nothing, whatever is
	// not known to have ended of it.
	dies = 30 * time.Second
	// reportEvery is how often is told what was closed.
	reportEvery = time.Minute
)

// Reasons for which a connection is closed.
const (
	Crowded = "crowded" // there are too many connections
	Heavy   = "heavy"   // the connections hold too much
	Slow    = "slow"    // the caller does not take what is sent to it
	Idle    = "idle"    // nothing was heard from it for long
	Trickle = "trickle" // a stream, whose request or whose end did not come
)

// errCrowded means that there are too many connections, and none of them can go.
var errCrowded = errors.New("too many connections")

// Config says what a gate lets in. What is 0 sets no limit.
type Config struct {
	// Connections and PerAddress are how many connections there may be, in all and from
	// one address. An IPv6 address is its /64. This machine's own counts only in all.
	Connections, PerAddress int
	// Strangers and Known are how many bytes the connections of either may weigh in all.
	Strangers, Known int64
	// BehindProxy says that all connections are a proxy's, so that addresses say nothing.
	BehindProxy bool
	// Now returns the time; nil for one that never jumps. Ticks says when to look after
	// connections; nil for every second.
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
	// gone is what connections still hold that were closed: grpc needs time to learn of it.
	gone atomic.Int64

	waiting sync.Mutex
	less    chan struct{} // closed when less is gone; nil while nobody waits for it

	mu        sync.Mutex
	conns     map[*Conn]struct{}
	dying     map[*Conn]int64 // those that were closed and hold something yet, and since when
	addresses map[netip.Addr]*address
	closed    map[string]int // since the last report
	reported  int64
	empty     chan struct{} // closed once there is no connection any more; nil while there is none
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
	g := &Gate{config: c, conns: map[*Conn]struct{}{}, dying: map[*Conn]int64{}, addresses: map[netip.Addr]*address{}, closed: map[string]int{}}
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

// Admit lets a connection in. Where there are too many, another one is closed for it; its
// error means that all others have calls under way.
func (g *Gate) Admit(raw net.Conn) (*Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now.Store(g.config.Now().UnixNano())
	from := g.address(raw)
	if most := g.config.PerAddress; most > 0 && from.shares && from.conns >= most && !g.makeRoom(from) {
		return nil, errCrowded
	}
	if most := g.config.Connections; most > 0 && len(g.conns) >= most && !g.makeRoom(nil) {
		return nil, errCrowded
	}
	c := &Conn{gate: g, raw: raw, from: from, admitted: g.now.Load(), cutOff: make(chan struct{}), streams: map[uint32]*Stream{}}
	c.heardAt.Store(g.now.Load())
	g.conns[c] = struct{}{}
	g.addresses[from.block] = from
	from.conns++
	if g.empty == nil { // before anything is closed, which may be the only connection
		g.empty = make(chan struct{})
		go g.look(g.empty)
	}
	c.mu.Lock()
	c.add(nil, connWeight)
	over := c.over()
	c.mu.Unlock()
	if over {
		g.shedLocked()
	}
	return c, nil
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

// makeRoom closes a connection of the address, or of the one that has most strangers: the one
// that is a stranger's for longest, or else the known caller's without a call that was silent
// for longest. It needs mu.
func (g *Gate) makeRoom(from *address) bool {
	if from == nil {
		count := map[*address]int{}
		for c := range g.conns {
			if !c.Known() {
				if count[c.from]++; from == nil || count[c.from] > count[from] {
					from = c.from
				}
			}
		}
	}
	var out *Conn
	var outKnown bool
	var outSince int64
	for c := range g.conns {
		if from != nil && c.from != from {
			continue
		}
		c.mu.Lock()
		known, busy := c.Known(), len(c.streams) > 0
		c.mu.Unlock()
		if known && busy {
			continue
		}
		since := c.admitted
		if known {
			since = c.heardAt.Load()
		}
		if out == nil || outKnown && !known || known == outKnown && since < outSince {
			out, outKnown, outSince = c, known, since
		}
	}
	if out == nil {
		return false
	}
	g.cut(out, Crowded)
	return true
}

// cut closes a connection. It needs mu.
func (g *Gate) cut(c *Conn, reason string) {
	if !c.leave() {
		return
	}
	g.closed[reason]++
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // what waits to be sent is given up
	}
	_ = c.raw.Close() // and whoever reads or writes learns of it
}

// shed closes connections until nothing is held beyond its limit.
func (g *Gate) shed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shedLocked()
}

// shedLocked is shed for who has mu.
func (g *Gate) shedLocked() {
	for k := range g.limits {
		for {
			from := g.beyond(k)
			if from == nil {
				break
			}
			var out *Conn
			var most int64
			for c := range g.conns {
				if c.from == from && kind(c.Known()) == int64(k) {
					if n := c.burden(); out == nil || n > most {
						out, most = c, n
					}
				}
			}
			if out == nil {
				break
			}
			g.cut(out, Heavy)
		}
	}
}

// beyond returns the address that holds too much, or else the one that holds most where all
// together do. It is nil where nothing is held beyond its limit. It needs mu.
func (g *Gate) beyond(k int) (heaviest *address) {
	for _, a := range g.addresses {
		if a.shares && a.held[k].Load() > g.limits[k]/2 {
			return a
		}
		if heaviest == nil || a.held[k].Load() > heaviest.held[k].Load() {
			heaviest = a
		}
	}
	if g.held[k].Load() <= g.limits[k] {
		return nil
	}
	return heaviest
}

// leaving changes what connections hold that were closed.
func (g *Gate) leaving(n int64) {
	if g.gone.Add(n) > g.mostGone() || n > 0 {
		return
	}
	g.waiting.Lock()
	defer g.waiting.Unlock()
	if g.less != nil {
		close(g.less)
		g.less = nil
	}
}

func (g *Gate) mostGone() int64 { return g.limits[strangers] / 3 }

// pause lets a stranger wait while connections that were closed hold much: who comes again
// as fast as it is closed would have the server hold any number of those.
func (g *Gate) pause(c *Conn) {
	for g.gone.Load() > g.mostGone() && !c.Known() {
		g.waiting.Lock()
		if g.less == nil {
			g.less = make(chan struct{})
		}
		less := g.less
		g.waiting.Unlock()
		if g.gone.Load() <= g.mostGone() {
			return
		}
		select {
		case <-less:
		case <-c.cutOff:
			return
		}
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
		g.lookAt(c, now)
	}
	for c, since := range g.dying {
		if c.dead(now-since >= int64(dies)) {
			delete(g.dying, c)
		}
	}
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
	case left != 0 && now-left >= int64(leaving):
		g.cut(c, Idle)
	case left != 0 || now-c.heardAt.Load() < int64(idle):
	case !c.began.Load(): // and never will
		g.cut(c, Idle)
	case c.writingAt.Load() == 0:
		go c.askToGo()
	}
}

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
