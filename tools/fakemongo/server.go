package main

import (
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A server is all that there is: shards, databases, and what clients are at.
type server struct {
	options options
	began   time.Time
	shards  []*shard

	mu         sync.Mutex
	databases  map[string]map[string]*collection
	counts     map[string]int64
	cursors    map[int64]*cursor
	lastCursor int64
	sessions   map[string]*remembered

	// loseReply tells that the next insert into entries is not answered.
	loseReply atomic.Bool
}

func newServer(o options) *server {
	s := &server{
		options: o, began: time.Now(),
		databases: map[string]map[string]*collection{}, counts: map[string]int64{},
		cursors: map[int64]*cursor{}, sessions: map[string]*remembered{},
	}
	for range o.shards {
		s.shards = append(s.shards, &shard{commit: o.commit, write: o.write})
	}
	return s
}

// now is the time in nanoseconds since the start.
func (s *server) now() int64 { return int64(time.Since(s.began)) }

// sharded reports whether this is a router.
func (s *server) sharded() bool { return len(s.shards) > 1 }

// collection returns a collection of a database, and makes it where it is wanted;
// nil where it is not there.
func (s *server) collection(db, name string, wanted bool) *collection {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.databases[db][name]
	if c == nil && wanted {
		if s.databases[db] == nil {
			s.databases[db] = map[string]*collection{}
		}
		c = newCollection(db+"."+name, len(s.shards))
		s.databases[db][name] = c
	}
	return c
}

// shardOf returns the shard on which documents with that shard key lie.
func (s *server) shardOf(key string) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	sum := h.Sum64()
	return int((sum>>32 ^ sum) % uint64(len(s.shards)))
}

// place returns the shard on which a document lies. The collection is locked.
func (s *server) place(c *collection, d bson.Raw) int {
	if c.shardKey == "" {
		return 0
	}
	return s.shardOf(keyOf(d.Lookup(c.shardKey)))
}

// targets returns the shards that may have what a filter lets through. The
// collection is locked.
func (s *server) targets(c *collection, f *filter) []int {
	if c.shardKey == "" {
		return []int{0}
	}
	wanted := make([]bool, len(s.shards))
	if !s.target(c, f, wanted) {
		for i := range wanted {
			wanted[i] = true
		}
	}
	var out []int
	for i, is := range wanted {
		if is {
			out = append(out, i)
		}
	}
	return out
}

// target marks the shards that a filter leads to, and reports false where it may be
// any of them.
func (s *server) target(c *collection, f *filter, wanted []bool) bool {
	if keys := pointsOf(c.shardKey, f.conditions); keys != nil {
		for _, key := range keys {
			wanted[s.shardOf(key)] = true
		}
		return true
	}
	for _, any := range f.anys {
		some, all := make([]bool, len(wanted)), true
		for _, one := range any {
			all = all && s.target(c, one, some)
		}
		if all {
			for i := range wanted {
				wanted[i] = wanted[i] || some[i]
			}
			return true
		}
	}
	return false
}

// A shard writes one document after another, and has a majority or not.
type shard struct {
	mu     sync.Mutex
	commit time.Duration // until a majority has what is written
	write  time.Duration // how long it is busy with a document
	free   int64         // when it is done with what it has to write
	newest int64         // when a majority has all of that
	// absent is closed when there is a primary again; nil while there is one.
	absent chan struct{}
}

// take takes a document at the time, and returns when a majority has it. A majority
// has writes in their order, as in a replica set, whose members follow one log.
func (h *shard) take(now int64) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free = max(h.free, now) + int64(h.write)
	h.newest = max(h.newest, h.free+int64(h.commit))
	return h.newest
}

// primary returns nil where there is one, or else what is closed once there is.
func (h *shard) primary() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.absent
}
