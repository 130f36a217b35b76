package wire

import (
	"bytes"
	"errors"
	"fmt"
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
	s := p.Opened(0)
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

// TestWeights ensures that what is held is what came and was not taken, for as long as its
// stream lasts.
func TestWeights(t *testing.T) {
	w := newWorld(t, Config{})
	const stream = streamWeight + 200
	p := w.mustConnect("192.0.2.1")
	w.wantHeld(connWeight, 0, 1)
	s := p.open(1, 40_000)
	w.wantHeld(connWeight+stream+40_000, 0, 1)
	s.Took(30_000)
	w.wantHeld(connWeight+stream+10_000, 0, 1)
	s.Took(30_000)
	w.wantHeld(connWeight+stream, 0, 1)
	s.Weigh(1000)
	w.wantHeld(connWeight+stream+1000, 0, 1)
	p.Know()
	w.wantHeld(0, connWeight+stream+1000, 1)
	p.answer(1)
	w.wantHeld(0, connWeight, 1)
	s.Took(1)
	s.Weigh(1) // it has ended
	s = p.open(3, 10)
	p.open(5, 10)
	if err := errors.Join(p.WriteRSTStream(3, http2.ErrCodeCancel), p.WriteData(3, true, []byte("late"))); err != nil {
		t.Fatal(err)
	}
	p.arrive()
	w.wantHeld(0, connWeight+2*stream+20, 1) // for the method of 3 does not know yet
	s.Returned()
	w.wantHeld(0, connWeight+stream+10, 1)
	if got := p.Opened(0); got.id != 5 || got.Whole() {
		t.Errorf("got %+v", got)
	}
	if err := p.WriteData(5, true, nil); err != nil {
		t.Fatal(err)
	}
	p.arrive()
	if !p.Opened(0).Whole() {
		t.Error("the end of the request was not seen")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	w.wantHeld(0, 0, 0)
	if got := w.gone.Load(); got != stream+10 {
		t.Errorf("%d bytes are on their way, want those of the method that has not returned", got)
	}
	p.Opened(0)
	w.mustConnect("192.0.2.2") // so that somebody looks
	w.pass(dies)
	if got := w.gone.Load(); got != 0 || len(w.dying) != 0 {
		t.Errorf("%d bytes of %d connections are on their way for ever", got, len(w.dying))
	}
}

// TestStrangersWait ensures that strangers wait, and known callers do not, while connections
// that were closed hold much, and go on once they do not.
func TestStrangersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Strangers: 20 * connWeight, BehindProxy: true})
		slow := w.mustConnect("192.0.2.1")
		var served []*Stream
		for id := uint32(1); id < 60; id += 2 {
			served = append(served, slow.open(id, connWeight/2))
			if slow.raw.isClosed() {
				break
			}
		}
		stranger, known := w.mustConnect("192.0.2.1"), w.mustConnect("192.0.2.1")
		known.Know()
		known.arrive()
		done := make(chan error, 1)
		go func() { _, err := stranger.Read(make([]byte, 10)); done <- err }()
		synctest.Wait()
		if len(done) > 0 {
			t.Fatalf("the stranger does not wait while %d bytes are on their way", w.gone.Load())
		}
		for _, s := range served {
			s.Returned()
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, p := range []*peer{slow, stranger, known} {
			p.Close()
		}
	})
}

// TestHeaviestGoes ensures that strangers hold no more than their budget, that the one goes
// who holds most, and that known callers and newcomers stay.
func TestHeaviestGoes(t *testing.T) {
	w := newWorld(t, Config{Strangers: 100 * connWeight})
	known, small := w.mustConnect("192.0.2.9"), w.mustConnect("192.0.2.9")
	known.open(1, 5*connWeight)
	known.Know()
	var hostile []*peer
	for i := range 4 {
		p := w.mustConnect("192.0.2.1")
		p.open(1, (i+1)*7*connWeight)
		hostile = append(hostile, p)
	}
	if s, _, _ := w.Held(); s > 100*connWeight {
		t.Errorf("strangers hold %d", s)
	}
	for i, p := range hostile {
		if got, want := p.raw.isClosed(), i >= 2; got != want { // for an address has half of all
			t.Errorf("connection %d: closed is %t, want %t", i, got, want)
		}
	}
	if known.raw.isClosed() || small.raw.isClosed() {
		t.Error("others were closed")
	}
	w.pass(reportEvery)
	if w.closed[Heavy] != 2 {
		t.Errorf("got %v reported", w.closed)
	}
}

// TestNoRoomForOne ensures that a gate whose limits leave no room for a single connection
// closes each that comes, and goes on.
func TestNoRoomForOne(t *testing.T) {
	w := newWorld(t, Config{Strangers: connWeight - 1})
	for range 2 {
		raw := &rawConn{from: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7)}}
		if _, err := w.Admit(raw); err != nil || !raw.isClosed() {
			t.Errorf("got %v, want the connection closed", err)
		}
		w.wantHeld(0, 0, 0)
	}
}

// TestStrangersForLongGo ensures that callers who have a token get in beside many who hold
// little, from the same address, and for long.
func TestStrangersForLongGo(t *testing.T) {
	w := newWorld(t, Config{Strangers: 10 * connWeight, BehindProxy: true})
	for range 6 {
		w.mustConnect("192.0.2.1")
	}
	w.pass(7 * time.Second)
	for i := range 30 {
		p := w.mustConnect("192.0.2.1")
		p.open(1, 1000)
		if p.raw.isClosed() {
			t.Fatalf("newcomer %d was closed", i)
		}
		p.Know()
	}
	if s, _, conns := w.Held(); s > 10*connWeight || conns < 30 {
		t.Errorf("%d connections, of which strangers hold %d", conns, s)
	}
}

// TestCrowds ensures how many connections there may be, and who goes.
func TestCrowds(t *testing.T) {
	t.Run("OfAnAddress", func(t *testing.T) {
		w := newWorld(t, Config{PerAddress: 3})
		first, second := w.mustConnect("2001:db8::1"), w.mustConnect("2001:db8::2")
		first.Know()
		w.pass(time.Second)
		w.mustConnect("2001:db8::ffff")
		w.mustConnect("2001:db8:0:1::1") // another network
		for range 5 {
			w.mustConnect("127.0.0.1")
		}
		w.mustConnect("2001:db8::4")
		if first.raw.isClosed() || !second.raw.isClosed() {
			t.Error("who is known went, or the older stranger did not")
		}
	})
	t.Run("InAll", func(t *testing.T) {
		w := newWorld(t, Config{Connections: 6})
		var office, crowd []*peer
		for i := range 3 {
			office = append(office, w.mustConnect(fmt.Sprint("192.0.2.", i)))
			office[i].Know()
			crowd = append(crowd, w.mustConnect("198.51.100.1"))
			w.pass(time.Second)
		}
		for i := range 3 {
			w.mustConnect("203.0.113.1").Know()
			if !crowd[i].raw.isClosed() {
				t.Errorf("of the address with most strangers, connection %d stays", i)
			}
		}
		for _, p := range office[1:] {
			p.open(1, 1) // and so it was heard now
		}
		w.mustConnect("203.0.113.2")
		if !office[0].raw.isClosed() || office[1].raw.isClosed() {
			t.Error("not the one went that is idle for longest")
		}
	})
	t.Run("AllAreBusy", func(t *testing.T) {
		w := newWorld(t, Config{Connections: 2})
		for i := range 2 {
			p := w.mustConnect(fmt.Sprint("192.0.2.", i))
			p.Know()
			p.open(1, 1)
		}
		if _, err := w.connect("192.0.2.3"); !errors.Is(err, errCrowded) {
			t.Errorf("got %v", err)
		}
	})
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

// TestWindows ensures which window streams have, before the caller is known and afterwards,
// and that a frame is put only between others.
func TestWindows(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.mustConnect("192.0.2.1")
	window := func() (size uint32) {
		f, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		size, _ = f.(*http2.SettingsFrame).Value(http2.SettingInitialWindowSize)
		return size
	}
	if got := window(); got != StrangerWindow {
		t.Errorf("a stranger has a window of %d", got)
	}
	p.Know()
	var answer bytes.Buffer
	if err := http2.NewFramer(&answer, nil).WriteData(1, false, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{answer.Bytes()[:4], answer.Bytes()[4:50], answer.Bytes()[50:]} {
		if _, err := p.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := p.ReadFrame(); err != nil || f.Header().Type != http2.FrameData {
		t.Fatalf("got %v and %v", f, err)
	}
	if got := window(); got != KnownWindow {
		t.Errorf("a known caller has a window of %d", got)
	}
	p.Know() // says nothing new
	p.answer(1)
	if got := frames(t, p); len(got) != 1 {
		t.Errorf("got %v, want the answer alone", got)
	}
}

// TestReadsMuch ensures that what comes is what was sent, whatever is read ahead.
func TestReadsMuch(t *testing.T) {
	for _, known := range []bool{false, true} {
		w := newWorld(t, Config{})
		p := w.mustConnect("192.0.2.1")
		if known {
			p.Know()
		}
		for i := range 200 {
			if err := p.WriteData(1, false, bytes.Repeat([]byte{byte(i)}, i*i%16_000)); err != nil {
				t.Fatal(err)
			}
		}
		want := bytes.Clone(p.raw.sent.Bytes())
		got, err := io.ReadAll(struct{ io.Reader }{p.Conn})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("known is %t: got %d other bytes of %d, and %v", known, len(got), len(want), err)
		}
	}
}

// FuzzFollower compares the frames found in bytes that come in pieces with those of bytes
// that come at once, and ensures that whatever a caller sends is followed.
func FuzzFollower(f *testing.F) {
	var b bytes.Buffer
	framer := http2.NewFramer(&b, nil)
	if err := errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("h")}),
		framer.WriteContinuation(1, true, []byte("c")), framer.WriteData(1, true, []byte("data")), framer.WriteRSTStream(1, 0), framer.WritePing(true, [8]byte{})); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), uint8(1))
	f.Add(b.Bytes(), uint8(7))
	f.Add([]byte{0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 1}, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		var want, got []frame
		var whole, parts follower
		whole.follow(b, func(f frame) { want = append(want, f) })
		for part := range slices.Chunk(b, max(1, int(piece))) {
			parts.follow(part, func(f frame) { got = append(got, f) })
		}
		if !slices.Equal(got, want) || whole.next() != parts.next() || whole.between() != parts.between() {
			t.Errorf("got %v, want %v", got, want)
		}
		w := newWorld(t, Config{Strangers: 1 << 20})
		p := w.mustConnect("192.0.2.1")
		p.raw.sent.Write(b)
		p.arrive()
		if s, _, _ := w.Held(); s > 1<<20 {
			t.Errorf("%d bytes are held", s)
		}
		p.Close()
		w.wantHeld(0, 0, 0)
	})
}
