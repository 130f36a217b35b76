package wire

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// A world has a gate whose clock stands still.
type world struct {
	*Gate
	t   testing.TB
	now time.Time
	// closed is what the gate has reported.
	closed map[string]int
}

func newWorld(t testing.TB, c Config) *world {
	w := &world{t: t, now: time.Unix(1_000_000, 0), closed: map[string]int{}}
	c.Now, c.Ticks = func() time.Time { return w.now }, make(chan time.Time)
	c.Report = func(closed map[string]int) {
		for reason, n := range closed {
			w.closed[reason] += n
		}
	}
	w.Gate = New(c)
	return w
}

// pass lets the time pass, and looks.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.Look()
}

// A peer is the caller's end of a connection.
type peer struct {
	*Conn
	raw *rawConn
	*http2.Framer
	t testing.TB
}

// A rawConn is a connection on which what the caller sends is there at once.
type rawConn struct {
	from   net.Addr
	sent   bytes.Buffer // by the caller
	mu     sync.Mutex
	got    bytes.Buffer // by the caller
	closed bool
	block  chan struct{} // not nil: writes wait until it is closed
}

func (r *rawConn) Read(p []byte) (int, error) { return r.sent.Read(p) }

func (r *rawConn) Write(p []byte) (int, error) {
	if r.block != nil {
		<-r.block
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, net.ErrClosed
	}
	return r.got.Write(p)
}

func (r *rawConn) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

func (r *rawConn) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

func (r *rawConn) RemoteAddr() net.Addr             { return r.from }
func (r *rawConn) LocalAddr() net.Addr              { return r.from }
func (r *rawConn) SetDeadline(time.Time) error      { return nil }
func (r *rawConn) SetReadDeadline(time.Time) error  { return nil }
func (r *rawConn) SetWriteDeadline(time.Time) error { return nil }

// connect connects from an address.
func (w *world) connect(from string) (*peer, error) {
	raw := &rawConn{from: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 7))}
	c, err := w.Admit(raw)
	if err != nil {
		return nil, err
	}
	c.Over(raw)
	w.t.Cleanup(func() { c.Close() })
	raw.sent.WriteString(http2.ClientPreface)
	p := &peer{Conn: c, raw: raw, Framer: http2.NewFramer(&raw.sent, &raw.got), t: w.t}
	server := http2.NewFramer(c, nil)
	if err := server.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: KnownWindow}); err != nil {
		return nil, err
	}
	return p, nil
}

func (w *world) mustConnect(from string) *peer {
	w.t.Helper()
	p, err := w.connect(from)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// arrive lets the server read all that was sent.
func (p *peer) arrive() {
	p.t.Helper()
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{p.Conn}); err != nil {
		p.t.Fatal(err)
	}
}

// open opens a stream and sends so many bytes of data on it.
func (p *peer) open(id uint32, size int) *Stream {
	p.t.Helper()
	if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: make([]byte, 100), EndHeaders: true}); err != nil {
		p.t.Fatal(err)
	}
	p.arrive()
	s := p.Opened(nil)
	for sent := 0; sent < size; {
		n := min(size-sent, 16<<10)
		if err := p.WriteData(id, false, make([]byte, n)); err != nil {
			p.t.Fatal(err)
		}
		sent += n
	}
	p.arrive()
	return s
}

// answer ends the stream from the server.
func (p *peer) answer(id uint32) {
	p.t.Helper()
	if err := http2.NewFramer(p.Conn, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true}); err != nil {
		p.t.Fatal(err)
	}
}

func (w *world) wantHeld(strange, known int64, conns int) {
	w.t.Helper()
	if s, k, n := w.Held(); s != strange || k != known || n != conns {
		w.t.Errorf("got %d and %d bytes of %d connections, want %d and %d of %d", s, k, n, strange, known, conns)
	}
}

// TestIdle ensures that connections go on which nothing happens, and that phones which ping
// stay.
func TestIdle(t *testing.T) {
	for _, test := range []struct {
		name      string
		known     bool
		each      func(p *peer) error // every 15 s
		want      time.Duration       // until it is asked to go; 0 for never
		thenStays bool
	}{
		{"Stranger", false, func(*peer) error { return nil }, idleStranger, false},
		{"Known", true, func(*peer) error { return nil }, idleKnown, false},
		{"OnlyAnswersPings", true, func(p *peer) error { return p.WritePing(true, [8]byte{}) }, idleKnown, false},
		{"Pings", true, func(p *peer) error { return p.WritePing(false, [8]byte{}) }, 0, true},
		{"StrangerPings", false, func(p *peer) error { return p.WritePing(false, [8]byte{}) }, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				p := w.mustConnect("192.0.2.1")
				if test.known {
					p.Know()
				}
				p.arrive()
				var asked, closed time.Duration
				for at := time.Duration(0); at < 10*time.Minute; at += 15 * time.Second {
					if p.raw.isClosed() {
						closed = at
						break
					}
					if err := test.each(p); err != nil {
						t.Fatal(err)
					}
					p.arrive()
					w.pass(15 * time.Second)
					synctest.Wait()
					if asked == 0 && slices.Contains(frames(t, p), http2.FrameGoAway) {
						asked = at + 15*time.Second
					}
				}
				if asked != test.want || (closed == 0) != test.thenStays {
					t.Errorf("it was asked to go after %s and closed after %s, want %s", asked, closed, test.want)
				}
				p.Close()
			})
		})
	}
}

// frames returns the kinds of the frames that the caller has got since.
func frames(t testing.TB, p *peer) (out []http2.FrameType) {
	t.Helper()
	for {
		f, err := p.ReadFrame()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f.Header().Type)
	}
}

// TestBusyIsNotIdle ensures that a connection stays on which something is under way, however
// long nothing comes.
func TestBusyIsNotIdle(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.mustConnect("192.0.2.1")
	p.open(1, 0)
	for range 100 {
		w.pass(time.Minute)
	}
	if p.raw.isClosed() || p.leftAt.Load() != 0 {
		t.Error("it was closed")
	}
}

// TestSlow ensures that a connection goes whose caller takes nothing, and one stays that
// takes little.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		for _, takesAfter := range []time.Duration{slow - time.Second, slow} {
			p := w.mustConnect("192.0.2.1")
			p.raw.block = make(chan struct{})
			go func() { _, _ = p.Write([]byte("anything")) }()
			synctest.Wait()
			w.pass(takesAfter)
			if got := p.raw.isClosed(); got != (takesAfter == slow) {
				t.Errorf("after %s, closed is %t", takesAfter, got)
			}
			close(p.raw.block)
			synctest.Wait()
			p.raw.block = nil
			p.Close()
		}
	})
}

// TestDeafStreams ensures that a stranger goes who does not take an answer, and a known caller
// stays, whose connection may be that of many.
func TestDeafStreams(t *testing.T) {
	w := newWorld(t, Config{})
	for _, known := range []bool{false, true} {
		p := w.mustConnect("192.0.2.1")
		p.open(1, 0).Returned()
		p.open(3, 0) // its method goes on
		if known {
			p.Know()
		}
		w.pass(slow - time.Second)
		if p.raw.isClosed() {
			t.Error("it was closed too early")
		}
		w.pass(time.Second)
		if p.raw.isClosed() == known {
			t.Errorf("known is %t, and closed is %t", known, p.raw.isClosed())
		}
	}
}

// TestWithin ensures that a stream ends whose time is over, unless it was done before.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.mustConnect("192.0.2.1")
		var ended []uint32
		for id := uint32(1); id <= 7; id += 2 {
			s := p.open(id, 1)
			s.Within(20*time.Second, func() { ended = append(ended, id) })
			switch id {
			case 3:
				s.Done()
			case 5:
				p.answer(id)
			case 7:
				s.Within(time.Minute, func() { ended = append(ended, id) })
			}
		}
		for range 3 {
			w.pass(10 * time.Second)
			synctest.Wait()
		}
		if !slices.Equal(ended, []uint32{1}) {
			t.Errorf("%d ended, want 1 alone", ended)
		}
		p.Close()
	})
}
