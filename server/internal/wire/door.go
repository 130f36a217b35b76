package wire

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

// This file holds who is let in, and when. A connection costs its handshake, and for as long
// as that lasts it is a stranger's. If those that are amid it were closed for those that
// come, and came again, thousands of phones that all lost the same server would close each
// other. So they wait for each other.

const (
	// patience is the burden up to which no stranger's connection is closed so that another
	// one of the same address need not wait: that of a handshake and a first call for 5 s.
	patience = 5 * (connWeight + streamWeight)
	// longestWait is for how long one waits at most. grpc gives a handshake 20 s, of which
	// this is a part.
	longestWait = 10 * time.Second
)

// A newcomer is a connection that waits to be let in.
type newcomer struct {
	raw   net.Conn
	since int64
	in    chan admitted
}

// admitted is what Admit returns.
type admitted struct {
	conn *Conn
	err  error
}

// Admit lets a connection in. It may have to wait for others of its address. Where there are
// too many, another one is closed for it; its error means that all others have calls under
// way, that too many wait, or that the gate has stopped.
func (g *Gate) Admit(raw net.Conn) (*Conn, error) {
	g.mu.Lock()
	if g.stopped {
		g.mu.Unlock()
		return nil, errStopped
	}
	g.now.Store(g.config.Now().UnixNano())
	if g.mayCome(g.address(raw), g.largest(), true) {
		conn, err := g.let(raw)
		g.mu.Unlock()
		return conn, err
	}
	in := make(chan admitted, 1)
	g.queue = append(g.queue, &newcomer{raw, g.now.Load(), in})
	g.waited.Store(true)
	if len(g.queue) > g.mostWaiting() {
		g.turnAway()
	}
	g.mu.Unlock()
	out := <-in
	return out.conn, out.err
}

// let lets a connection in whatever waits. It needs mu.
func (g *Gate) let(raw net.Conn) (*Conn, error) {
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

// mostFrames is how many frames of a stranger's connection are read between two looks. A call
// with its answer has about four.
const mostFrames = 2000

// rest lets a stranger wait for the next look that has sent so many frames since the last
// one: pings, settings and whatever else costs its caller a few bytes. One that was closed
// would come again at once.
func (g *Gate) rest(c *Conn) {
	for c.frames.Load() > mostFrames && !c.Known() {
		g.waiting.Lock()
		looked := g.looked
		g.waiting.Unlock()
		if c.frames.Load() <= mostFrames {
			return
		}
		select {
		case <-looked:
		case <-c.cutOff:
			return
		}
	}
}

// mostWaiting is how many connections may wait. Each takes a quarter of what one takes
// that was let in.
func (g *Gate) mostWaiting() int { return int(g.limits[strangers] / connWeight * 2) }

// roomy reports whether one more of the address leaves room for the first calls of all
// strangers that are there. It needs mu.
func (g *Gate) roomy(from *address) bool {
	limit := g.limits[strangers] / 2
	return g.held[strangers].Load()+connWeight <= limit && (!from.shares || from.held[strangers].Load()+connWeight <= limit/2)
}

// largest returns what the strangers of that address hold whose hold most. It needs mu.
func (g *Gate) largest() (most int64) {
	for _, a := range g.addresses {
		most = max(most, a.held[strangers].Load())
	}
	return most
}

// full reports whether one more of the address would have another one closed. It needs mu.
func (g *Gate) full(from *address) bool {
	limit := g.limits[strangers]
	return g.held[strangers].Load()+connWeight > limit || from.shares && from.held[strangers].Load()+connWeight > limit/2
}

// mayCome reports whether one more of the address need not wait: there is room, another
// address, which holds the largest share, has twice as much, or look is true and one that was a burden for long is closed
// for it, of this address or one that holds more. It needs mu.
func (g *Gate) mayCome(from *address, largest int64, look bool) bool {
	if g.roomy(from) {
		return true
	}
	own := from.held[strangers].Load() + connWeight
	alone := from.shares && own > g.limits[strangers]/4 // it has used up its own share
	if !alone && largest >= 2*own {
		return true
	}
	if !look {
		return false
	}
	var out *Conn
	var most int64
	for c := range g.conns {
		if c.Known() || c.from != from && (alone || c.from.held[strangers].Load() < own) {
			continue
		}
		if n := c.burden(); n > most {
			out, most = c, n
		}
	}
	if out == nil {
		return true
	}
	if most <= patience {
		return false
	}
	g.cut(out, Heavy)
	return true
}

// letIn lets in those that need not wait any more. Where look is true, it also looks who was a
// burden for long, and who has waited for long. It needs mu.
func (g *Gate) letIn(look bool) {
	if len(g.queue) == 0 {
		return
	}
	now := g.now.Load()
	largest := g.largest()
	blocked := map[netip.Addr]bool{} // the addresses of which none may come now
	g.queue = slices.DeleteFunc(g.queue, func(w *newcomer) bool {
		from := g.address(w.raw)
		if blocked[from.block] || !g.mayCome(from, largest, look) {
			blocked[from.block] = true
			if now-w.since < int64(longestWait) {
				return false
			}
			if g.full(from) {
				g.closed[Crowded]++
				w.in <- admitted{nil, errCrowded}
				return true
			}
		}
		conn, err := g.let(w.raw)
		w.in <- admitted{conn, err}
		return true
	})
	g.waited.Store(len(g.queue) > 0)
}

// turnAway refuses the newest that waits of the address of which most wait. It needs mu.
func (g *Gate) turnAway() {
	count := map[netip.Addr]int{}
	var most netip.Addr
	for _, w := range g.queue {
		block := g.address(w.raw).block
		if count[block]++; count[block] >= count[most] {
			most = block
		}
	}
	for i, w := range slices.Backward(g.queue) {
		if g.address(w.raw).block == most {
			g.queue = slices.Delete(g.queue, i, i+1)
			g.closed[Crowded]++
			w.in <- admitted{nil, errCrowded}
			return
		}
	}
}

// Stop lets nobody in any more, and closes the connections with which grpc has not begun:
// before it tells the others that the server stops, it waits for the end of every
// handshake, and who says nothing would let it wait for long.
func (g *Gate) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	for _, w := range g.queue {
		w.in <- admitted{nil, errStopped}
	}
	g.queue = nil
	for c := range g.conns {
		if !c.settled.Load() && c.leave() {
			c.abort()
		}
	}
}
