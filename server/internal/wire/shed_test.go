package wire

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestHeadersWeigh ensures that fields which a caller repeats weigh what grpc keeps of them.
func TestHeadersWeigh(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.mustConnect("192.0.2.1")
	p.open(1, 0)
	before, _, _ := w.Held()
	p.Opened(map[string][]string{"a": make([]string, 900), "x-bin": {string(make([]byte, 3000)), string(make([]byte, 3000))}})
	if after, _, _ := w.Held(); after-before < 900*valueWeight+6000 {
		t.Errorf("900 values and two of 3,000 bytes weigh %d", after-before)
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
	for _, size := range []int{6, 12, 21, 35} {
		p := w.mustConnect("192.0.2.1")
		p.open(1, size*connWeight)
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
	for range 5 {
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
