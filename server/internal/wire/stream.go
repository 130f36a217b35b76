package wire

import (
	"sync/atomic"
	"time"
)

// A Stream is one that holds something: it has not ended on the wire, or its method has not
// returned.
type Stream struct {
	conn *Conn

	// All below are guarded by conn.mu.
	id      uint32
	weight  int64
	unread  int64       // bytes of weight that came and were not taken
	whole   atomic.Bool // the caller has sent all
	ended   bool        // on the wire
	served  bool        // grpc has a method for it, which has not returned
	waits   int64       // since when its answer waits to be sent; 0 for never
	due     int64       // when end is called; 0 for never
	endWith func()
}

// Returned says that the stream's method has returned.
func (s *Stream) Returned() {
	if s == nil {
		return
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.served, s.waits = false, s.conn.gate.now.Load()
	if s.ended {
		s.conn.forget(s)
	}
}

// Took says that so many bytes of the stream were taken from grpc.
func (s *Stream) Took(n int) {
	if s == nil {
		return
	}
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[s.id] == s {
		taken := min(int64(n), s.unread)
		s.unread -= taken
		c.add(s, -taken)
	}
}

// Weigh adds to what the stream weighs, such as bytes that may wait to be sent.
func (s *Stream) Weigh(bytes int) {
	if s == nil {
		return
	}
	c := s.conn
	c.mu.Lock()
	if c.streams[s.id] == s {
		c.add(s, int64(bytes))
	}
	over := !c.closed && c.over()
	c.mu.Unlock()
	if over {
		c.gate.shed()
	}
}

// Whole reports whether the caller has sent all that it will send.
func (s *Stream) Whole() bool {
	if s == nil {
		return true
	}
	return s.whole.Load()
}

// Within calls end, in a goroutine of its own, unless Done is called within the time.
func (s *Stream) Within(d time.Duration, end func()) {
	if s == nil {
		return
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if !s.ended {
		s.due, s.endWith = s.conn.gate.now.Load()+int64(d), end
	}
}

// Done says that what Within waits for has come.
func (s *Stream) Done() {
	if s == nil {
		return
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.due, s.endWith = 0, nil
}
