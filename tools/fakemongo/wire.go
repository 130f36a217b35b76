package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The kinds of message of MongoDB's wire protocol.
const (
	opReply = 1
	opQuery = 2004 // only for the first hello
	opMsg   = 2013

	headerSize = 16
	maxMessage = 48_000_000

	flagChecksum   = 1 << 0
	flagMoreToCome = 1 << 1
)

// A message is a command as it comes.
type message struct {
	id, op, flags uint32
	body          bson.Raw
	// sequences are the documents that come beside the body, by their name.
	sequences map[string][]bson.Raw
}

// A client is a connection.
type client struct {
	conn   net.Conn
	in     *bufio.Reader
	waiter *waiter
}

// serve answers a client until it goes.
func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	w, err := newWaiter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakemongo:", err)
		return
	}
	defer w.close()
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), waiter: w}
	for {
		m, err := c.read()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				fmt.Fprintln(os.Stderr, "fakemongo: reading:", err)
			}
			return
		}
		reply, err := s.answer(c, m)
		if err != nil {
			return // there is nobody to answer
		}
		if m.flags&flagMoreToCome != 0 {
			continue
		}
		if _, err := conn.Write(m.frame(reply)); err != nil {
			return
		}
	}
}

// read reads the next message.
func (c *client) read() (*message, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size < headerSize || size > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	b := make([]byte, size-headerSize)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return nil, err
	}
	m := &message{id: binary.LittleEndian.Uint32(head[4:]), op: binary.LittleEndian.Uint32(head[12:])}
	switch m.op {
	case opMsg:
		return m, m.parse(b)
	case opQuery:
		return m, m.parseQuery(b)
	}
	return nil, fmt.Errorf("a message of kind %d", m.op)
}

var errMessage = errors.New("a message that cannot be read")

// parse reads the sections of an OP_MSG.
func (m *message) parse(b []byte) error {
	if len(b) < 4 {
		return errMessage
	}
	m.flags = binary.LittleEndian.Uint32(b)
	b = b[4:]
	if m.flags&flagChecksum != 0 && len(b) >= 4 {
		b = b[:len(b)-4]
	}
	for len(b) > 0 {
		kind := b[0]
		section, rest, ok := sized(b[1:])
		if !ok {
			return errMessage
		}
		b = rest
		switch kind {
		case 0:
			m.body = section
		case 1:
			name, documents, ok := bytes.Cut(section[4:], []byte{0})
			if !ok {
				return errMessage
			}
			if m.sequences == nil {
				m.sequences = map[string][]bson.Raw{}
			}
			for len(documents) > 0 {
				d, rest, ok := sized(documents)
				if !ok {
					return errMessage
				}
				m.sequences[string(name)] = append(m.sequences[string(name)], d)
				documents = rest
			}
		default:
			return errMessage
		}
	}
	if m.body == nil {
		return errMessage
	}
	return m.body.Validate()
}

// sized cuts off what begins with its size.
func sized(b []byte) (first, rest []byte, ok bool) {
	if len(b) < 5 {
		return nil, nil, false
	}
	n := binary.LittleEndian.Uint32(b)
	if n < 5 || uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// parseQuery reads an OP_QUERY: flags, the name of a collection, two numbers, and
// the command.
func (m *message) parseQuery(b []byte) error {
	if len(b) < 4 {
		return errMessage
	}
	_, rest, ok := bytes.Cut(b[4:], []byte{0})
	if !ok || len(rest) < 8 {
		return errMessage
	}
	if m.body, _, ok = sized(rest[8:]); !ok {
		return errMessage
	}
	return m.body.Validate()
}

// frame returns the message that answers with a document.
func (m *message) frame(reply bson.Raw) []byte {
	put := binary.LittleEndian.AppendUint32
	before := 5
	if m.op == opQuery {
		before = 20
	}
	size := headerSize + before + len(reply)
	b := make([]byte, 0, size)
	b = put(put(b, uint32(size)), m.id)
	b = put(b, m.id)
	if m.op == opQuery {
		b = put(b, opReply)
		b = append(b, make([]byte, 16)...) // flags, cursor, and where it begins
		b = put(b, 1)
	} else {
		b = put(put(b, opMsg), 0)
		b = append(b, 0)
	}
	return append(b, reply...)
}

// watch tells when the client goes while nothing is read from it. Stop ends that.
func (c *client) watch() (gone <-chan struct{}, stop func()) {
	left := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		_, err := c.in.Peek(1)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			close(left)
		}
	})
	return left, func() {
		_ = c.conn.SetReadDeadline(time.Now())
		watching.Wait()
		_ = c.conn.SetReadDeadline(time.Time{})
	}
}
