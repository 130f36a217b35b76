package main

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A writeError is what became of one document, or one change, of a command.
type writeError struct {
	at  int
	err *failure
}

// written is what has come of a write so far.
type written struct {
	n      int
	until  int64 // when a majority has all of it
	errors []writeError
}

// join adds what has come of another part.
func (w *written) join(other written) {
	w.n += other.n
	w.until = max(w.until, other.until)
	w.errors = append(w.errors, other.errors...)
}

func (c *call) insert() (bson.D, error) {
	documents, err := c.documents("documents")
	if err != nil {
		return nil, err
	}
	if err := validate(documents); err != nil {
		return nil, err
	}
	coll := c.collection(c.db, c.coll, true)
	isOrdered := c.cmd.Lookup("ordered").IsZero() || truthy(c.cmd.Lookup("ordered"))
	groups := c.groups(coll, documents, isOrdered)
	if c.coll == "entries" && c.loseReply.CompareAndSwap(true, false) {
		defer c.client.conn.Close()
	}
	var all written
	if isOrdered || len(groups) == 1 {
		for _, g := range groups {
			// The shard before has answered, so a majority has what it wrote.
			if err := c.sleep(all.until); err != nil {
				return nil, err
			}
			one, err := c.insertGroup(coll, documents, g, isOrdered)
			if err != nil {
				return nil, err
			}
			all.join(one)
			if isOrdered && len(all.errors) > 0 {
				break
			}
		}
	} else if all, err = c.insertTogether(coll, documents, groups); err != nil {
		return nil, err
	}
	return c.finish(all, nil)
}

func validate(documents []bson.Raw) error {
	for _, d := range documents {
		if err := d.Validate(); err != nil {
			return fail(codeBadValue, "a document: %v", err)
		}
	}
	return nil
}

// A group are documents that go to one shard together.
type group struct {
	shard int
	at    []int // among all documents
}

// groups returns what goes to which shard: in their order, with a new group at each
// change of shard, or one group for each shard.
func (c *call) groups(coll *collection, documents []bson.Raw, isOrdered bool) (out []group) {
	coll.mu.RLock()
	defer coll.mu.RUnlock()
	for i, d := range documents {
		shard := c.place(coll, d)
		at := slices.IndexFunc(out, func(g group) bool { return g.shard == shard })
		if isOrdered && at != len(out)-1 {
			at = -1
		}
		if at < 0 {
			out = append(out, group{shard: shard})
			at = len(out) - 1
		}
		out[at].at = append(out[at].at, i)
	}
	return out
}

// insertTogether sends each group to its shard at the same time.
func (c *call) insertTogether(coll *collection, documents []bson.Raw, groups []group) (all written, err error) {
	parts, failed := make([]written, len(groups)), make([]error, len(groups))
	var sent sync.WaitGroup
	for i, g := range groups {
		sent.Go(func() { parts[i], failed[i] = c.insertGroup(coll, documents, g, false) })
	}
	sent.Wait()
	for _, p := range parts {
		all.join(p)
	}
	return all, errors.Join(failed...)
}

// insertGroup stores the documents of a group. The error ends the whole command.
func (c *call) insertGroup(coll *collection, documents []bson.Raw, g group, isOrdered bool) (out written, err error) {
	if err := c.primary(g.shard); err != nil {
		var f *failure
		if !errors.As(err, &f) || f.code == codeMaxTimeExpired {
			return out, err
		}
		for _, i := range g.at {
			out.errors = append(out.errors, writeError{i, f})
			if isOrdered {
				break
			}
		}
		return out, nil
	}
	coll.mu.Lock()
	defer coll.mu.Unlock()
	now, p := c.now(), coll.parts[g.shard]
	coll.sweep(p, now)
	for _, i := range g.at {
		v, err := coll.add(p, withID(documents[i]), nil, func() int64 { return c.shards[g.shard].take(now) })
		if err != nil {
			out.refuse(i, err)
			if isOrdered {
				break
			}
			continue
		}
		out.n++
		out.until = max(out.until, v.from)
	}
	return out, nil
}

// refuse notes that a document or a change is not stored. What it collides with may
// not be with a majority yet; like any answer to a write, this one waits for that.
func (w *written) refuse(at int, err error) {
	var d *duplicate
	if errors.As(err, &d) {
		w.until = max(w.until, d.by.from)
		w.errors = append(w.errors, writeError{at, &d.failure})
		return
	}
	w.errors = append(w.errors, writeError{at, failureOf(err)})
}

// withID returns a copy of the document, with an id where it has none.
func withID(d bson.Raw) bson.Raw {
	if !d.Lookup("_id").IsZero() {
		return clone(d)
	}
	id := bson.NewObjectID()
	out := append(make(bson.Raw, 4, len(d)+17), byte(bson.TypeObjectID))
	out = append(append(out, "_id\x00"...), id[:]...)
	return closed(append(out, d[4:len(d)-1]...))
}

// finish waits until a majority has what was written, and returns the answer.
func (c *call) finish(w written, more bson.D) (bson.D, error) {
	until := max(w.until, c.arrived) + int64(c.options.rtt)
	out := append(bson.D{{Key: "n", Value: int32(w.n)}}, more...)
	if c.expires > 0 && c.expires < until {
		// It is written and goes on its way to a majority.
		until = c.expires
		out = append(out, bson.E{Key: "writeConcernError", Value: bson.D{
			{Key: "code", Value: int32(codeMaxTimeExpired)}, {Key: "codeName", Value: codeNames[codeMaxTimeExpired]},
			{Key: "errmsg", Value: "operation exceeded time limit"},
		}})
	}
	if err := c.sleep(until); err != nil {
		return nil, err
	}
	if len(w.errors) > 0 {
		slices.SortFunc(w.errors, func(a, b writeError) int { return cmp.Compare(a.at, b.at) })
		list := make(bson.A, len(w.errors))
		for i, e := range w.errors {
			list[i] = append(bson.D{{Key: "index", Value: int32(e.at)}}, e.err.fields()...)
		}
		out = append(out, bson.E{Key: "writeErrors", Value: list})
	}
	return out, nil
}
