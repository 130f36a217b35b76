package mongostore

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A wire is between a store and its database. It knows the commands about photos that
// the store sends, and strikes at one of them.
type wire struct {
	mu   sync.Mutex
	sent []string
	at   int // how many commands come before the one that it strikes
	do   strike

	reached, released chan struct{} // of a halt
}

// A strike is what happens at a command.
type strike int

const (
	// nothing only counts.
	nothing strike = iota
	// death stops the command and all that follow, as if the server had died before.
	death
	// silence carries the command out and loses the answer.
	silence
	// halt holds the command and all that follow until they are released.
	halt
)

// arm has the wire forget what was sent, and strike once so many commands were.
func (w *wire) arm(do strike, at int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent, w.at, w.do = nil, at, do
	w.reached, w.released = make(chan struct{}), make(chan struct{})
}

// commands returns what was sent since it was armed.
func (w *wire) commands() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

// pass notes a command and says what becomes of it.
func (w *wire) pass(command string) strike {
	w.mu.Lock()
	w.sent = append(w.sent, command)
	n, at, do, released := len(w.sent)-1, w.at, w.do, w.released
	if do == halt && n == at {
		close(w.reached)
	}
	w.mu.Unlock()
	switch {
	case do == silence && n == at, do == death && n >= at:
		return do
	case do == halt && n >= at:
		<-released
	}
	return nothing
}

// DialContext implements options.ContextDialer.
func (w *wire) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &wireConn{Conn: c, w: w}, err
}

// A wireConn is one of its connections.
type wireConn struct {
	net.Conn
	w    *wire
	lose bool   // the next answer of the database
	said []byte // instead of it
}

// Write implements net.Conn. The driver writes a whole message at once.
func (c *wireConn) Write(b []byte) (int, error) {
	if command := commandOf(b); command != "" {
		switch c.w.pass(command) {
		case death:
			c.said = refusal(b)
			return len(b), nil
		case silence:
			c.lose, c.said = true, refusal(b)
		}
	}
	return c.Conn.Write(b)
}

// Read implements net.Conn.
func (c *wireConn) Read(b []byte) (int, error) {
	if c.lose {
		c.lose = false
		var size [4]byte
		if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
			return 0, err
		}
		if _, err := io.CopyN(io.Discard, c.Conn, int64(binary.LittleEndian.Uint32(size[:]))-4); err != nil {
			return 0, err
		}
	}
	if len(c.said) > 0 {
		n := copy(b, c.said)
		c.said = c.said[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// messageHeader is how long the header of a message is, with the flags and the kind of
// its first section.
const messageHeader = 16 + 4 + 1

// commandOf returns the name and the collection of a command about photos, and of every
// other message nothing.
func commandOf(message []byte) string {
	if len(message) < messageHeader || binary.LittleEndian.Uint32(message[12:]) != 2013 {
		return ""
	}
	first, err := bson.Raw(message[messageHeader:]).IndexErr(0)
	if err != nil {
		return ""
	}
	in, _ := first.Value().StringValueOK()
	if !strings.HasPrefix(in, "photo") && !strings.HasPrefix(in, "fs.") && in != "pictures" {
		return ""
	}
	return first.Key() + " " + in
}

// refusal answers a message with an error that passes.
func refusal(message []byte) []byte {
	body, err := bson.Marshal(bson.D{is("ok", 0), is("code", 50), is("errmsg", "it is away")})
	if err != nil {
		panic(err)
	}
	out := make([]byte, 16, messageHeader+len(body))
	binary.LittleEndian.PutUint32(out, uint32(messageHeader+len(body)))
	copy(out[8:12], message[4:8]) // what it answers
	binary.LittleEndian.PutUint32(out[12:], 2013)
	return append(append(out, 0, 0, 0, 0, 0), body...)
}

// wired opens the database with a wire.
func wired(tb testing.TB, uri string) (*Store, *wire) {
	tb.Helper()
	w := &wire{}
	return openWith(tb, uri, Options{dialer: w}), w
}
