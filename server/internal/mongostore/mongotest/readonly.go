package mongotest

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// writes are the commands that change what a database holds.
var writes = []string{
	"insert", "update", "delete", "findAndModify", "bulkWrite", "create", "createIndexes", "drop", "dropDatabase", "dropIndexes",
	"collMod", "renameCollection", "shardCollection", "enableSharding",
}

// ReadOnly returns the address of a database of the server, which must be one of StartOwn,
// as it is for a user who may only read. What writes is refused, and refused returns the
// commands that were.
func (s *Server) ReadOnly(tb testing.TB, database string) (uri string, refused func() []string) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{socket: s.socket}
	p.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(conn) })
		}
	})
	tb.Cleanup(func() {
		listener.Close()
		p.end()
	})
	name := database[strings.LastIndex(database, "/")+1:]
	out := url.URL{Scheme: "mongodb", Host: listener.Addr().String(), Path: "/" + name, RawQuery: "directConnection=true"}
	return out.String(), func() []string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return slices.Clone(p.refused)
	}
}

// A proxy stands before a server and refuses what writes.
type proxy struct {
	socket  string
	running sync.WaitGroup

	mu      sync.Mutex
	ended   bool
	conns   []net.Conn
	refused []string
}

func (p *proxy) end() {
	p.mu.Lock()
	p.ended = true
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// keep notes connections to be closed at the end, and reports whether that is to come.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conns...)
	return !p.ended
}

// serve passes messages on until either side ends.
func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.socket)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.keep(client, server) {
		return
	}
	var answering sync.Mutex // whoever writes to the client writes a whole message
	answer := func(message []byte) error {
		answering.Lock()
		defer answering.Unlock()
		_, err := client.Write(message)
		return err
	}
	p.running.Go(func() {
		defer client.Close()
		for {
			message, err := readMessage(server)
			if err != nil || answer(message) != nil {
				return
			}
		}
	})
	for {
		message, err := readMessage(client)
		if err != nil {
			return
		}
		if command := commandOf(message); slices.Contains(writes, command) {
			p.mu.Lock()
			p.refused = append(p.refused, command)
			p.mu.Unlock()
			err = answer(denial(message))
		} else {
			_, err = server.Write(message)
		}
		if err != nil {
			return
		}
	}
}

// A message of the wire protocol has its length, the request's id, the id of the request
// that it answers, and the kind, each in 4 bytes. Kind 2013 goes on with 4 bytes of flags,
// a byte of 0, and the command.
const (
	headerSize    = 16
	kindOfMessage = 2013
	commandAt     = headerSize + 5
)

func readMessage(r io.Reader) ([]byte, error) {
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	rest := int64(binary.LittleEndian.Uint32(header)) - headerSize
	body, err := io.ReadAll(io.LimitReader(r, rest))
	if err == nil && int64(len(body)) < rest {
		err = io.ErrUnexpectedEOF
	}
	return append(header, body...), err
}

// commandOf returns the name of the command in a message.
func commandOf(message []byte) string {
	if len(message) <= commandAt || binary.LittleEndian.Uint32(message[12:]) != kindOfMessage || message[commandAt-1] != 0 {
		return ""
	}
	size := int(binary.LittleEndian.Uint32(message[commandAt:]))
	first, err := bson.Raw(message[commandAt : commandAt+size]).IndexErr(0)
	if err != nil {
		return ""
	}
	return first.Key()
}

// denial answers a message as MongoDB answers a user without the privilege.
func denial(to []byte) []byte {
	doc, err := bson.Marshal(bson.D{
		{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: "not authorized to execute command"}, {Key: "code", Value: int32(13)}, {Key: "codeName", Value: "Unauthorized"},
	})
	if err != nil {
		panic(err) // texts and numbers can always be written
	}
	out := make([]byte, commandAt, commandAt+len(doc))
	binary.LittleEndian.PutUint32(out, uint32(commandAt+len(doc)))
	copy(out[8:12], to[4:8])
	binary.LittleEndian.PutUint32(out[12:], kindOfMessage)
	return append(out, doc...)
}
