package main

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A call is a command that is being worked on.
type call struct {
	*server
	client *client
	cmd    bson.Raw
	// name is the command's, db and coll are what it is about.
	name, db, coll string
	sequences      map[string][]bson.Raw
	arrived        int64
	expires        int64 // when maxTimeMS ends; 0 is never

	watching sync.Once
	gone     <-chan struct{}
	leave    func() // ends watching whether the client goes; nil where nobody does
}

// handlers do what the commands ask for.
var handlers map[string]func(*call) (bson.D, error)

func init() {
	handlers = map[string]func(*call) (bson.D, error){
		"hello": (*call).hello, "isMaster": (*call).hello, "ismaster": (*call).hello,
		"ping": (*call).nothing, "endSessions": (*call).endSessions, "buildInfo": (*call).buildInfo, "buildinfo": (*call).buildInfo,
		"find": (*call).find, "getMore": (*call).getMore, "killCursors": (*call).killCursors,
		"count": (*call).count, "distinct": (*call).distinct, "aggregate": (*call).aggregate,
		"insert": (*call).insert, "update": (*call).update, "delete": (*call).delete, "findAndModify": (*call).findAndModify,
		"create": (*call).create, "drop": (*call).drop, "dropDatabase": (*call).dropDatabase,
		"createIndexes": (*call).createIndexes, "dropIndexes": (*call).dropIndexes, "listIndexes": (*call).listIndexes,
		"listCollections": (*call).listCollections, "listDatabases": (*call).listDatabases, "collStats": (*call).collStats,
		"enableSharding": (*call).nothing, "shardCollection": (*call).shardCollection,
		"standIn": (*call).standIn,
	}
}

// answer does what a message asks for and returns the answer. The error is errGone
// where nobody waits for one.
func (s *server) answer(from *client, m *message) (bson.Raw, error) {
	c := &call{server: s, client: from, cmd: m.body, sequences: m.sequences, arrived: s.now()}
	defer func() {
		if c.leave != nil {
			c.leave()
		}
	}()
	first, err := m.body.IndexErr(0)
	if err != nil {
		return nil, errGone
	}
	c.name = first.Key()
	c.coll, _ = first.Value().StringValueOK()
	c.db, _ = c.cmd.Lookup("$db").StringValueOK()
	if ms, ok := c.cmd.Lookup("maxTimeMS").AsInt64OK(); ok && ms > 0 {
		c.expires = c.arrived + ms*int64(time.Millisecond)
	}
	s.note(c.counted())
	out, err := c.once()
	if errors.Is(err, errGone) {
		return nil, err
	}
	if err != nil {
		out = append(bson.D{{Key: "ok", Value: 0.0}}, failureOf(err).fields()...)
	} else {
		out = append(out, bson.E{Key: "ok", Value: 1.0})
	}
	raw, err := bson.Marshal(out)
	if err != nil {
		raw, err = bson.Marshal(append(bson.D{{Key: "ok", Value: 0.0}}, failureOf(err).fields()...))
	}
	return raw, err
}

// counted is the name by which a call is counted.
func (c *call) counted() string {
	coll := c.coll
	if c.name == "getMore" {
		coll, _ = c.cmd.Lookup("collection").StringValueOK()
	}
	if coll == "" {
		return c.name
	}
	return c.name + " " + coll
}

// note counts something.
func (s *server) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

// A remembered is what came of the last write of a session that may be sent again.
type remembered struct {
	number int64
	done   chan struct{} // closed once the rest is known
	out    bson.D
	err    error
}

// once does what is asked for, unless it is a write that is sent again after the
// answer was lost: then that is what came of it before.
func (c *call) once() (bson.D, error) {
	handler := handlers[c.name]
	if handler == nil {
		return nil, fail(codeCommandNotFound, "no such command: '%s'", c.name)
	}
	number, ok := c.cmd.Lookup("txnNumber").AsInt64OK()
	if !ok {
		return handler(c)
	}
	id := keyOf(c.cmd.Lookup("lsid"))
	c.mu.Lock()
	r := c.sessions[id]
	again := r != nil && r.number == number
	if !again {
		r = &remembered{number: number, done: make(chan struct{})}
		c.sessions[id] = r
	}
	c.mu.Unlock()
	if again {
		<-r.done
		return slices.Clone(r.out), r.err
	}
	defer close(r.done)
	r.out, r.err = handler(c)
	if r.err != nil {
		// It was not done, and may be tried again.
		c.mu.Lock()
		if c.sessions[id] == r {
			delete(c.sessions, id)
		}
		c.mu.Unlock()
	}
	return slices.Clone(r.out), r.err
}

// part returns a part of the command: a document, empty where there is none.
func (c *call) part(name string) bson.Raw {
	d, _ := c.cmd.Lookup(name).DocumentOK()
	return d
}

// number returns a number of the command, 0 where there is none.
func (c *call) number(name string) int {
	n, _ := c.cmd.Lookup(name).AsInt64OK()
	return int(n)
}

// documents returns those that a write brings along, whichever way.
func (c *call) documents(name string) ([]bson.Raw, error) {
	if d, ok := c.sequences[name]; ok {
		return d, nil
	}
	return documentsOf(c.cmd.Lookup(name))
}

// travel waits as long as a command is on its way.
func (c *call) travel() error { return c.sleep(c.arrived + int64(c.options.rtt)) }

// sleep waits until the time. The goroutine that answers the client does so alone.
func (c *call) sleep(until int64) error {
	if d := until - c.now(); d > 0 {
		return c.client.waiter.wait(time.Duration(d))
	}
	return nil
}

// maxAbsence is how long a command waits for a primary.
const maxAbsence = 15 * time.Second

// primary waits until a shard has a primary.
func (c *call) primary(shard int) error {
	for {
		back := c.shards[shard].primary()
		if back == nil {
			return nil
		}
		left := maxAbsence - time.Duration(c.now()-c.arrived)
		err := fail(codeNoPrimary, "Could not find host matching read preference { mode: \"primary\" } for set shard%d", shard)
		if c.expires > 0 && c.expires-c.now() < int64(left) {
			left, err = time.Duration(c.expires-c.now()), fail(codeMaxTimeExpired, "operation exceeded time limit")
		}
		select {
		case <-back:
		case <-time.After(left):
			return err
		case <-c.watched():
			c.note("gone")
			return errGone
		}
	}
}

// watched returns what is closed when the client goes.
func (c *call) watched() <-chan struct{} {
	c.watching.Do(func() { c.gone, c.leave = c.client.watch() })
	return c.gone
}

// clone copies a document, which lies in the memory of its message.
func clone(d bson.Raw) bson.Raw { return bytes.Clone(d) }
