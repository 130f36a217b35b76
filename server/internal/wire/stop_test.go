package wire

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// TestStop ensures that a gate which stops ends handshakes that are under way, and no
// connection with which grpc has begun.
func TestStop(t *testing.T) {
	w := newWorld(t, Config{})
	begun, half := w.mustConnect("192.0.2.1"), w.mustConnect("192.0.2.1")
	if err := begun.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	begun.arrive()
	half.arrive() // its preface
	silent := &rawConn{from: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:7"))}
	if _, err := w.Admit(silent); err != nil {
		t.Fatal(err)
	}
	w.Stop()
	if begun.raw.isClosed() || !half.raw.isClosed() || !silent.isClosed() {
		t.Errorf("closed: who has begun %t, who sent half %t, who sent nothing %t", begun.raw.isClosed(), half.raw.isClosed(), silent.isClosed())
	}
	if _, err := w.connect("192.0.2.1"); !errors.Is(err, errStopped) {
		t.Errorf("who comes later: got %v", err)
	}
}
