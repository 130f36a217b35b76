package wire

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What things weigh, in bytes of memory, with what grpc keeps for them.
const (
	// connWeight is the weight of a connection without streams.
	connWeight = 24 << 10
	// streamWeight is that of a stream whose method waits for a message.
	streamWeight = 12 << 10
	// fieldWeight is that of a name in a header list, and valueWeight that of each of its
	// values: a caller can repeat a field for one byte (RFC 7541, section 6.1).
	fieldWeight = 128
	valueWeight = 64

	// readBuffer is how many bytes of a connection are read ahead, and busyBuffer how many
	// while a known caller sends more.
	readBuffer = 4 << 10
	busyBuffer = 32 << 10
)

var busyBuffers = sync.Pool{New: func() any { return new([busyBuffer]byte) }}

// A Conn is a connection, as grpc reads and writes it. It follows the frames that pass in either
// direction, and changes none but the first: until the caller is known, a stream has the
// window StrangerWindow.
type Conn struct {
	net.Conn // what is encrypted; raw below TLS
	gate     *Gate
	raw      net.Conn
	from     *address

	// These belong to the goroutine that reads.
	in    follower
	small []byte            // the buffer
	large *[busyBuffer]byte // the buffer in its place; nil for none
	ahead []byte            // what was read into it and not given out
	calm  int               // reads of little since the last one of much
	begun bool              // a frame has come

	// mayWrite is held while something is written, and guards out.
	mayWrite sync.Mutex
	out      follower
	began    atomic.Bool

	settled   atomic.Bool   // grpc has taken the caller's first frame, and goes on by itself
	cutOff    chan struct{} // closed when the connection leaves the gate
	admitted  int64         // when, in Unix nanoseconds as the times below
	heardAt   atomic.Int64  // when the caller last sent what is no answer to a ping
	writingAt atomic.Int64  // since when a write waits; 0 for none
	leftAt    atomic.Int64  // when the caller was asked to go; 0 for not yet
	weight    atomic.Int64  // changed only with mu held, as known is
	known     atomic.Bool
	untold    int64        // what of weight the gate does not know of, guarded by mu
	frames    atomic.Int64 // that came since the last look

	mu      sync.Mutex
	closed  bool   // it is closed, or will be as soon as grpc learns of it
	freed   bool   // grpc has closed it
	insert  []byte // frames that are written after the next write
	newest  uint32
	streams map[uint32]*Stream
}

// Over lets the connection go on over inner, which is raw or what encrypts it. It must be
// called once, before anything is read or written.
func (c *Conn) Over(inner net.Conn) {
	c.Conn, c.small = inner, make([]byte, readBuffer)
	c.in.skip = prefaceLen
}

// Read implements net.Conn. It never reads beyond the end of a frame, so that Opened knows
// which stream grpc has come to.
func (c *Conn) Read(p []byte) (int, error) {
	if c.begun && !c.settled.Load() && c.in.between() {
		c.settled.Store(true)
	}
	c.gate.pause(c)
	c.gate.rest(c)
	p = p[:min(len(p), c.in.next())]
	if len(c.ahead) == 0 {
		if err := c.readAhead(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	c.in.follow(p[:n], c.heard)
	return n, nil
}

// calmReads is after how many reads in turn of little a connection gives its large buffer
// back.
const calmReads = 16

// readAhead reads what there is. It takes a large buffer only where a known caller has sent
// much at once, and gives it back once less comes.
func (c *Conn) readAhead() error {
	b := c.small
	if c.large != nil {
		b = c.large[:]
	}
	n, err := c.Conn.Read(b)
	c.ahead = b[:n]
	if n >= len(c.small) {
		c.calm = 0
		if c.large == nil && c.Known() {
			c.large = busyBuffers.Get().(*[busyBuffer]byte) // for the next time
		}
	} else if c.large != nil && n > 0 {
		if c.calm++; c.calm == calmReads {
			c.ahead = c.small[:copy(c.small, c.ahead)]
			busyBuffers.Put(c.large)
			c.large = nil
		}
	}
	if n > 0 {
		return nil // and the error comes again
	}
	return err
}

// heard takes note of a frame that the caller sends.
func (c *Conn) heard(f frame) {
	c.begun = true
	c.frames.Add(1)
	if f.kind != framePing || f.flags&flagAck == 0 {
		c.heardAt.Store(c.gate.now.Load())
	}
	switch f.kind {
	case frameHeaders, frameContinuation, frameData, frameReset:
	default:
		return
	}
	c.mu.Lock()
	s := c.streams[f.stream]
	switch {
	case f.kind == frameHeaders && f.stream > c.newest && !c.closed:
		s = &Stream{conn: c, id: f.stream}
		c.streams[f.stream], c.newest = s, f.stream
		c.add(s, streamWeight+2*int64(f.length))
	case s == nil || s.ended: // grpc passes the frame over
	case f.kind == frameReset:
		c.end(s)
	case f.kind == frameData:
		s.unread += int64(f.length)
		c.add(s, int64(f.length))
	default:
		c.add(s, 2*int64(f.length))
	}
	if s != nil && f.kind != frameReset && f.ends() {
		s.whole.Store(true)
	}
	over := !c.closed && c.over()
	c.mu.Unlock()
	if over {
		c.gate.shed()
	}
}

// Opened returns the stream whose headers, which are given, were read last, and whose method
// is called now. Returned must be called once the method has returned.
func (c *Conn) Opened(headers map[string][]string) *Stream {
	weight := len(headers) * fieldWeight
	if !c.Known() { // who is known has to answer for more
		for name, values := range headers {
			weight += len(values) * valueWeight
			if strings.HasSuffix(name, "-bin") { // each of which grpc has decoded
				for _, v := range values {
					weight += len(v)
				}
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[c.newest]
	if s != nil {
		s.served = true
		c.add(s, int64(weight)) // and the frames that come next see whether it is too much
	}
	return s
}

// add changes the weight of a stream, or of the connection where s is nil. It needs mu.
func (c *Conn) add(s *Stream, n int64) {
	if s != nil {
		s.weight += n
	}
	c.weight.Add(n)
	if c.closed {
		c.gate.addGone(n)
		return
	}
	c.untold += n
	if most := int64(tellKnown); !c.known.Load() || c.untold > most || c.untold < -most {
		c.tell()
	}
}

// tellKnown is by how many bytes the weight of a known caller's connection changes before the
// gate is told. Calls come and go on those, and all connections tell the same gate.
const tellKnown = 32 << 10

// tell tells the gate what it does not know of the weight. It needs mu.
func (c *Conn) tell() {
	k := kind(c.known.Load())
	c.gate.held[k].Add(c.untold)
	c.from.held[k].Add(c.untold)
	c.untold = 0
}

// end notes that the stream has ended on the wire. It needs mu.
func (c *Conn) end(s *Stream) {
	if s.ended = true; !s.served {
		c.forget(s)
	}
}

// forget takes out a stream that holds nothing any more. It needs mu.
func (c *Conn) forget(s *Stream) {
	if c.streams[s.id] == s {
		c.add(s, -s.weight)
		delete(c.streams, s.id)
	}
}

// over reports whether something is held beyond its limit. It needs mu.
func (c *Conn) over() bool {
	k := kind(c.known.Load())
	return c.gate.held[k].Load() > c.gate.limits[k] || c.from.shares && c.from.held[k].Load() > c.gate.limits[k]/2
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.mayWrite.Lock()
	defer c.mayWrite.Unlock()
	first := p
	if !c.began.Swap(true) {
		first = withWindow(p, StrangerWindow)
	}
	c.writingAt.Store(c.gate.now.Load())
	n, err := c.Conn.Write(first)
	c.writingAt.Store(0)
	var few [32]uint32
	ended := few[:0]
	c.out.follow(first[:n], func(f frame) {
		if f.ends() {
			ended = append(ended, f.stream)
		}
	})
	c.mu.Lock()
	for _, id := range ended {
		if s := c.streams[id]; s != nil {
			c.forget(s) // for its method has returned, or grpc has called none
		}
	}
	insert := c.insert
	if insert != nil && c.out.between() {
		c.insert = nil
	} else {
		insert = nil
	}
	c.mu.Unlock()
	if insert != nil && err == nil {
		if _, err := c.Conn.Write(insert); err != nil {
			return n, err
		}
	}
	return n, err
}

// Know says that a caller on the connection has shown a good token. The connection counts
// among those of known callers from then on, and its streams get the window KnownWindow.
func (c *Conn) Know() {
	if c.known.Load() {
		return
	}
	c.mu.Lock()
	if c.known.Load() || c.closed {
		c.mu.Unlock()
		return
	}
	c.tell()
	w := c.weight.Load()
	for _, k := range []struct{ kind, sign int64 }{{strangers, -1}, {acquainted, 1}} {
		c.gate.held[k.kind].Add(k.sign * w)
		c.from.held[k.kind].Add(k.sign * w)
	}
	c.known.Store(true)
	c.insert = appendWindow(nil, KnownWindow)
	over := c.over()
	c.mu.Unlock()
	if over || c.gate.waited.Load() {
		c.gate.shed()
	}
}

// Known reports whether Know was called.
func (c *Conn) Known() bool { return c.known.Load() }

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.gate.mu.Lock()
	c.leave()
	if c.free(); c.dead(false) {
		delete(c.gate.dying, c)
	}
	c.gate.letIn(false)
	c.gate.mu.Unlock()
	if c.Conn == nil {
		return c.raw.Close()
	}
	return c.Conn.Close()
}

// burden is what the connection weighs; a stranger's is multiplied by its age in seconds.
func (c *Conn) burden() int64 {
	if c.Known() {
		return c.weight.Load()
	}
	return c.weight.Load() * (1 + (c.gate.now.Load()-c.admitted)/int64(time.Second))
}

// leave takes the connection out of the gate, and reports whether it was there. What it
// holds counts as gone until grpc has closed it and its methods have returned. It needs the
// gate's mu.
func (c *Conn) leave() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.tell()
	w, k := c.weight.Load(), kind(c.known.Load())
	c.gate.held[k].Add(-w)
	c.from.held[k].Add(-w)
	c.gate.addGone(w)
	c.closed = true
	close(c.cutOff)
	for _, s := range c.streams {
		c.end(s)
	}
	c.gate.remove(c)
	return true
}

// free notes that grpc has closed the connection.
func (c *Conn) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.freed {
		c.freed = true
		c.add(nil, -connWeight)
	}
}

// dead reports whether a closed connection holds nothing any more. With must, it counts as
// such whatever it holds.
func (c *Conn) dead(must bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if must {
		for _, s := range c.streams {
			c.forget(s)
		}
		c.freed = true
		c.add(nil, -c.weight.Load())
	}
	return c.weight.Load() == 0
}

// askToGo asks the caller for another connection. What is under way goes on.
func (c *Conn) askToGo() {
	c.mayWrite.Lock()
	defer c.mayWrite.Unlock()
	if !c.out.between() {
		return // the next look comes
	}
	c.leftAt.Store(c.gate.now.Load())
	c.writingAt.Store(c.gate.now.Load())
	_, _ = c.Conn.Write(appendGoAway(nil))
	c.writingAt.Store(0)
}
