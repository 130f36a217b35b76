package main

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A cursor is what is left of an answer.
type cursor struct {
	ns      string
	shape   *projection
	left    []bson.Raw
	touched time.Time
}

const (
	// firstBatch is how many documents come first where nobody says how many.
	firstBatch = 101
	// maxBytes is how much one answer has at most, beside one document.
	maxBytes = 16 << 20
	// idle is when a cursor that nobody asks for is closed.
	idle = 10 * time.Minute
)

// found returns the documents of a query that a majority has, in their order.
func (c *call) found(q query) ([]bson.Raw, error) {
	coll := c.collection(c.db, c.coll, false)
	if coll == nil {
		return nil, nil
	}
	coll.mu.RLock()
	targets := c.targets(coll, q.filter)
	coll.mu.RUnlock()
	for _, t := range targets {
		if err := c.primary(t); err != nil {
			return nil, err
		}
	}
	coll.mu.RLock()
	defer coll.mu.RUnlock()
	now := c.now()
	var all []*version
	for _, t := range targets {
		all = append(all, coll.find(coll.parts[t], q, now)...)
	}
	all = cut(q, all, len(targets) > 1)
	out := make([]bson.Raw, len(all))
	for i, v := range all {
		out[i] = v.raw
	}
	return out, nil
}

func (c *call) find() (bson.D, error) {
	if err := c.travel(); err != nil {
		return nil, err
	}
	f, err := newFilter(c.part("filter"))
	if err != nil {
		return nil, err
	}
	order, err := newOrder(c.part("sort"))
	if err != nil {
		return nil, err
	}
	shape, err := newProjection(c.part("projection"))
	if err != nil {
		return nil, err
	}
	skip, limit, single := c.number("skip"), c.number("limit"), truthy(c.cmd.Lookup("singleBatch"))
	if limit < 0 {
		limit, single = -limit, true
	}
	q := query{filter: f, order: order}
	if limit > 0 {
		q.limit = skip + limit
	}
	all, err := c.found(q)
	if err != nil {
		return nil, err
	}
	all = all[min(skip, len(all)):]
	return c.begin(all, shape, c.cmd.Lookup("batchSize"), single)
}

// begin answers with the first documents, and keeps the others for getMore.
func (c *call) begin(all []bson.Raw, shape *projection, batchSize bson.RawValue, single bool) (bson.D, error) {
	n := firstBatch
	if size, ok := batchSize.AsInt64OK(); ok {
		n = int(size)
	}
	k := &cursor{ns: c.db + "." + c.coll, shape: shape, left: all}
	batch, err := k.next(n)
	if err != nil {
		return nil, err
	}
	id := int64(0)
	if len(k.left) > 0 && !single {
		id = c.keep(k)
	}
	return bson.D{{Key: "cursor", Value: bson.D{
		{Key: "firstBatch", Value: batch}, {Key: "id", Value: id}, {Key: "ns", Value: k.ns},
	}}}, nil
}

// next takes up to n documents.
func (k *cursor) next(n int) ([]bson.Raw, error) {
	out, size := []bson.Raw{}, 0
	for _, d := range k.left {
		if len(out) == n || len(out) > 0 && size+len(d) > maxBytes {
			break
		}
		d, err := k.shape.of(d)
		if err != nil {
			return nil, err
		}
		out, size = append(out, d), size+len(d)
	}
	k.left = k.left[len(out):]
	return out, nil
}

// keep keeps a cursor, closes those that nobody has asked for, and returns its id.
func (s *server) keep(k *cursor) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.touched = time.Now()
	for id, other := range s.cursors {
		if k.touched.Sub(other.touched) > idle {
			delete(s.cursors, id)
		}
	}
	s.lastCursor++
	s.cursors[s.lastCursor] = k
	return s.lastCursor
}

func (c *call) getMore() (bson.D, error) {
	if err := c.travel(); err != nil {
		return nil, err
	}
	id, _ := c.cmd.Lookup("getMore").AsInt64OK()
	c.mu.Lock()
	k := c.cursors[id]
	delete(c.cursors, id) // so that nobody else works on it
	c.mu.Unlock()
	if k == nil {
		return nil, fail(codeCursorNotFound, "cursor id %d not found", id)
	}
	n := c.number("batchSize")
	if n == 0 {
		n = len(k.left)
	}
	batch, err := k.next(n)
	if err != nil {
		return nil, err
	}
	if len(k.left) == 0 {
		id = 0
	} else {
		c.mu.Lock()
		k.touched = time.Now()
		c.cursors[id] = k
		c.mu.Unlock()
	}
	return bson.D{{Key: "cursor", Value: bson.D{
		{Key: "nextBatch", Value: batch}, {Key: "id", Value: id}, {Key: "ns", Value: k.ns},
	}}}, nil
}

func (c *call) killCursors() (bson.D, error) {
	ids, err := valuesOf(c.cmd.Lookup("cursors"))
	if err != nil {
		return nil, err
	}
	killed, unknown := bson.A{}, bson.A{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range ids {
		id, _ := v.AsInt64OK()
		if c.cursors[id] == nil {
			unknown = append(unknown, id)
			continue
		}
		delete(c.cursors, id)
		killed = append(killed, id)
	}
	return bson.D{
		{Key: "cursorsKilled", Value: killed}, {Key: "cursorsNotFound", Value: unknown},
		{Key: "cursorsAlive", Value: bson.A{}}, {Key: "cursorsUnknown", Value: bson.A{}},
	}, nil
}

func (c *call) count() (bson.D, error) {
	if err := c.travel(); err != nil {
		return nil, err
	}
	f, err := newFilter(c.part("query"))
	if err != nil {
		return nil, err
	}
	skip, limit := c.number("skip"), max(c.number("limit"), -c.number("limit"))
	n := 0
	if len(f.conditions)+len(f.anys)+len(f.nors) == 0 {
		// MongoDB has this number at hand too.
		n, err = c.size()
	} else {
		var all []bson.Raw
		all, err = c.found(query{filter: f})
		n = len(all)
	}
	if err != nil {
		return nil, err
	}
	n = max(0, n-skip)
	if limit > 0 {
		n = min(n, limit)
	}
	return bson.D{{Key: "n", Value: int32(n)}}, nil
}

// size returns how many documents the collection has, without looking at them.
func (c *call) size() (n int, err error) {
	coll := c.collection(c.db, c.coll, false)
	if coll == nil {
		return 0, nil
	}
	for i := range c.shards {
		if i > 0 && coll.shardField() == "" {
			break
		}
		if err := c.primary(i); err != nil {
			return 0, err
		}
	}
	coll.mu.RLock()
	defer coll.mu.RUnlock()
	for _, p := range coll.parts {
		n += p.count
	}
	return n, nil
}

func (c *call) distinct() (bson.D, error) {
	if err := c.travel(); err != nil {
		return nil, err
	}
	f, err := newFilter(c.part("query"))
	if err != nil {
		return nil, err
	}
	field, _ := c.cmd.Lookup("key").StringValueOK()
	all, err := c.found(query{filter: f, order: []orderBy{{field, false}}})
	if err != nil {
		return nil, err
	}
	values, known := bson.A{}, map[string]bool{}
	for _, d := range all {
		v := d.Lookup(field)
		if key := keyOf(v); !v.IsZero() && !known[key] {
			known[key] = true
			values = append(values, v)
		}
	}
	return bson.D{{Key: "values", Value: values}}, nil
}
