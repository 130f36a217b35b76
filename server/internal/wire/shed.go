package wire

import "net"

// This file says which connection goes when there are too many, or they hold too much.

// makeRoom closes one connection of the address, or, where that is nil, of the address with
// most strangers. It takes the oldest one of a stranger, or else the one of a known caller that
// has no call under way and was silent for longest. It needs mu.
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
	if c.leave() {
		g.closed[reason]++
		c.abort()
	}
}

// abort closes a connection that has left.
func (c *Conn) abort() {
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
	g.letIn(false)
}

// shedLocked is shed for callers that hold mu.
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

// addGone adds to what closed connections still hold, or takes from it.
func (g *Gate) addGone(n int64) {
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

// mostGone is how much closed connections may hold before strangers wait.
func (g *Gate) mostGone() int64 { return g.limits[strangers] / 3 }

// pause lets a stranger wait while closed connections hold much. A caller that comes again as
// fast as it is closed would otherwise have the server hold any number of them.
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
