package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A rawConn is a connection of somebody who speaks HTTP/2 by hand, and so can do what no
// gRPC client would. It keeps to the server's windows (RFC 9113 section 5.2), because a
// connection that does not is closed at once.
type rawConn struct {
	conn net.Conn
	// deaf tells that nothing that the server sends is read.
	deaf bool

	writing sync.Mutex // of what follows
	framer  *http2.Framer
	headers bytes.Buffer
	packer  *hpack.Encoder
	next    uint32

	mu      sync.Mutex
	changed *sync.Cond // that a window has grown, or a stream or the connection has ended
	window  int64      // bytes that may be sent on the connection
	initial int64      // and on a new stream
	streams map[uint32]int64
	err     error // why the connection has ended
}

// errReset means that the server has ended the stream.
var errReset = errors.New("the server has ended the stream")

// dialRaw opens a connection to the server from the local address.
func dialRaw(ctx context.Context, from net.IP, address string, deaf bool) (*rawConn, error) {
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &rawConn{conn: conn, deaf: deaf, framer: http2.NewFramer(conn, conn), next: 1, window: 65535, initial: 65535, streams: map[uint32]int64{}}
	c.framer.SetReuseFrames()
	c.packer = hpack.NewEncoder(&c.headers)
	c.changed = sync.NewCond(&c.mu)
	settings := []http2.Setting{}
	if deaf {
		settings = append(settings, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := c.framer.WriteSettings(settings...); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if deaf {
		err = c.framer.WriteWindowUpdate(0, 1<<30)
	} else {
		go c.listen()
	}
	return c, err
}

// close ends the connection.
func (c *rawConn) close() { c.fail(net.ErrClosed) }

func (c *rawConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.changed.Broadcast()
	_ = c.conn.Close() // there is nobody to tell
}

// listen reads what the server sends until the connection ends.
func (c *rawConn) listen() {
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			c.fail(err)
			return
		}
		c.mu.Lock()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
				for id := range c.streams {
					c.streams[id] += int64(v) - c.initial
				}
				c.initial = int64(v)
			}
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				c.window += int64(f.Increment)
			} else if _, open := c.streams[f.StreamID]; open {
				c.streams[f.StreamID] += int64(f.Increment)
			}
		case *http2.RSTStreamFrame:
			delete(c.streams, f.StreamID)
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				delete(c.streams, f.StreamID)
			}
		}
		c.changed.Broadcast()
		c.mu.Unlock()
		c.answer(f)
	}
}

// answer sends what the server expects after a frame, so that it goes on sending.
func (c *rawConn) answer(f http2.Frame) {
	c.writing.Lock()
	defer c.writing.Unlock()
	switch f := f.(type) { // an error is met again by whoever writes or reads next
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.framer.WritePing(true, f.Data)
		}
	case *http2.DataFrame:
		if n := uint32(len(f.Data())); n > 0 {
			_ = c.framer.WriteWindowUpdate(0, n)
			_ = c.framer.WriteWindowUpdate(f.StreamID, n)
		}
	}
}

// open opens a stream with a call of the method. The fields come in pairs of a name and a
// value.
func (c *rawConn) open(method string, end bool, fields ...string) (uint32, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.headers.Reset()
	all := slices.Concat([]string{":method", "POST", ":scheme", "http", ":path", method, ":authority", "bench", "content-type", "application/grpc", "te", "trailers"}, fields)
	for i := 0; i+1 < len(all); i += 2 {
		if err := c.packer.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]}); err != nil {
			return 0, err
		}
	}
	id := c.next
	c.next += 2
	c.mu.Lock()
	err := c.err
	c.streams[id] = c.initial
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return id, c.writeHeaders(id, end)
}

// writeHeaders sends the header block, in as many frames as it takes. It needs c.writing.
func (c *rawConn) writeHeaders(id uint32, end bool) error {
	const most = 16 << 10
	block := c.headers.Bytes()
	first := block[:min(len(block), most)]
	block = block[len(first):]
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(block) == 0}); err != nil {
		return err
	}
	for len(block) > 0 {
		part := block[:min(len(block), most)]
		block = block[len(part):]
		if err := c.framer.WriteContinuation(id, len(block) == 0, part); err != nil {
			return err
		}
	}
	return nil
}

// send sends the bytes on the stream, as the windows allow. It returns errReset once the
// server has ended the stream.
func (c *rawConn) send(id uint32, b []byte, end bool) error {
	for {
		n, err := c.room(id, len(b))
		if err != nil {
			return err
		}
		c.writing.Lock()
		err = c.framer.WriteData(id, end && n == len(b), b[:n])
		c.writing.Unlock()
		if b = b[n:]; err != nil || len(b) == 0 {
			return err
		}
	}
}

// room waits until some of n bytes may be sent on the stream, at most a frame's worth.
func (c *rawConn) room(id uint32, n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		window, open := c.streams[id]
		switch may := min(int64(n), window, c.window, 16<<10); {
		case c.err != nil:
			return 0, c.err
		case !open:
			return 0, errReset
		case may > 0 || n == 0:
			c.streams[id] -= may
			c.window -= may
			return int(may), nil
		}
		c.changed.Wait()
	}
}

// blocked reports whether nothing may be sent on the stream just now.
func (c *rawConn) blocked(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil && min(c.streams[id], c.window) <= 0
}

// alive reports whether the stream is open on a connection that is.
func (c *rawConn) alive(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, open := c.streams[id]
	return open && c.err == nil
}

// ended returns why the connection has ended, or nil.
func (c *rawConn) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// reset gives the stream up.
func (c *rawConn) reset(id uint32) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.framer.WriteRSTStream(id, http2.ErrCodeCancel)
}

// prefix is what goes before a message of so many bytes on the wire.
func prefix(size int, packed bool) []byte {
	out := binary.BigEndian.AppendUint32([]byte{0}, uint32(size))
	if packed {
		out[0] = 1
	}
	return out
}

// framed is a message as it is on the wire.
func framed(message []byte, packed bool) []byte {
	return append(prefix(len(message), packed), message...)
}
