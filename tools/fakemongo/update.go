package main

import (
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A change is one of the updates or deletes of a command.
type change struct {
	query  query
	update *update // nil deletes
	multi  bool
	upsert bool
}

// A changed is what has come of a change.
type changed struct {
	written
	modified int
	before   bson.Raw // of the last document that was changed
	after    bson.Raw // the same
	id       *bson.RawValue
}

func (c *call) update() (bson.D, error) {
	list, err := c.documents("updates")
	if err != nil {
		return nil, err
	}
	var all written
	modified, upserted := 0, bson.A{}
	err = c.eachChange(list, &all, func(i int, d bson.Raw) (changed, error) {
		q, _ := d.Lookup("q").DocumentOK()
		u, err := newUpdate(d.Lookup("u"))
		if err != nil {
			return changed{}, err
		}
		f, err := newFilter(q)
		if err != nil {
			return changed{}, err
		}
		out, err := c.change(change{query{filter: f}, u, truthy(d.Lookup("multi")), truthy(d.Lookup("upsert"))})
		modified += out.modified
		if out.id != nil {
			upserted = append(upserted, bson.D{{Key: "index", Value: int32(i)}, {Key: "_id", Value: *out.id}})
		}
		return out, err
	})
	if err != nil {
		return nil, err
	}
	more := bson.D{{Key: "nModified", Value: int32(modified)}}
	if len(upserted) > 0 {
		more = append(more, bson.E{Key: "upserted", Value: upserted})
	}
	return c.finish(all, more)
}

func (c *call) delete() (bson.D, error) {
	list, err := c.documents("deletes")
	if err != nil {
		return nil, err
	}
	var all written
	err = c.eachChange(list, &all, func(_ int, d bson.Raw) (changed, error) {
		q, _ := d.Lookup("q").DocumentOK()
		f, err := newFilter(q)
		if err != nil {
			return changed{}, err
		}
		limit, _ := d.Lookup("limit").AsInt64OK()
		return c.change(change{query: query{filter: f}, multi: limit == 0})
	})
	if err != nil {
		return nil, err
	}
	return c.finish(all, nil)
}

// eachChange makes one change after another, and notes what has come of them.
func (c *call) eachChange(list []bson.Raw, all *written, do func(int, bson.Raw) (changed, error)) error {
	isOrdered := c.cmd.Lookup("ordered").IsZero() || truthy(c.cmd.Lookup("ordered"))
	for i, d := range list {
		out, err := do(i, d)
		all.join(out.written)
		var f *failure
		if errors.Is(err, errGone) || errors.As(err, &f) && f.code == codeMaxTimeExpired {
			return err
		}
		if err != nil {
			all.refuse(i, err)
			if isOrdered {
				break
			}
		}
	}
	return nil
}

// change changes what the query finds among the newest documents: all of them, or
// the first.
func (c *call) change(ch change) (out changed, err error) {
	coll := c.collection(c.db, c.coll, ch.upsert)
	if coll == nil {
		return out, nil
	}
	if !ch.multi {
		ch.query.limit = 1
	}
	coll.mu.RLock()
	targets := c.targets(coll, ch.query.filter)
	coll.mu.RUnlock()
	for _, t := range targets {
		if err := c.primary(t); err != nil {
			return out, err
		}
		coll.mu.Lock()
		err := c.changeOn(coll, t, ch, &out)
		coll.mu.Unlock()
		if err != nil {
			return out, err
		}
		if out.n > 0 && !ch.multi {
			return out, nil
		}
	}
	if out.n == 0 && ch.upsert {
		return c.upsert(coll, ch)
	}
	return out, nil
}

// changeOn changes what is found on one shard. The collection is locked.
func (c *call) changeOn(coll *collection, shard int, ch change, out *changed) error {
	now, p := c.now(), coll.parts[shard]
	coll.sweep(p, now)
	take := func() int64 { return c.shards[shard].take(now) }
	for _, v := range coll.find(p, ch.query, latest) {
		out.n++
		out.before = v.raw
		if ch.update == nil {
			p.end(v, take())
			out.until = max(out.until, v.until)
			continue
		}
		d, err := ch.update.apply(v.raw, false)
		if err != nil {
			return err
		}
		out.after = d
		out.until = max(out.until, v.from)
		if string(d) == string(v.raw) {
			continue
		}
		if keyOf(d.Lookup("_id")) != keyOf(v.raw.Lookup("_id")) || coll.shardKey != "" && c.place(coll, d) != shard {
			return fail(codeImmutableField, "Performing an update on the path '_id' or the shard key would modify it")
		}
		added, err := coll.add(p, d, v, take)
		if err != nil {
			return err
		}
		out.modified++
		out.until = max(out.until, added.from)
	}
	return nil
}

// upsert inserts what the query and the update come to. Where another has been
// quicker meanwhile, that one is changed.
func (c *call) upsert(coll *collection, ch change) (out changed, err error) {
	d, err := ch.update.seed(ch.query.filter)
	if err != nil {
		return out, err
	}
	coll.mu.RLock()
	shard := c.place(coll, d)
	coll.mu.RUnlock()
	if err := c.primary(shard); err != nil {
		return out, err
	}
	coll.mu.Lock()
	defer coll.mu.Unlock()
	if err := c.changeOn(coll, shard, ch, &out); err != nil || out.n > 0 {
		return out, err
	}
	v, err := coll.add(coll.parts[shard], d, nil, func() int64 { return c.shards[shard].take(c.now()) })
	if err != nil {
		return out, err
	}
	id := d.Lookup("_id")
	out.n, out.id, out.after, out.until = 1, &id, d, v.from
	return out, nil
}

func (c *call) findAndModify() (bson.D, error) {
	f, err := newFilter(c.part("query"))
	if err != nil {
		return nil, err
	}
	ch := change{query: query{filter: f}, upsert: truthy(c.cmd.Lookup("upsert"))}
	if ch.query.order, err = newOrder(c.part("sort")); err != nil {
		return nil, err
	}
	shape, err := newProjection(c.part("fields"))
	if err != nil {
		return nil, err
	}
	remove := truthy(c.cmd.Lookup("remove"))
	if !remove {
		if ch.update, err = newUpdate(c.cmd.Lookup("update")); err != nil {
			return nil, err
		}
	}
	out, err := c.change(ch)
	if err != nil {
		// One that collides with another waits for a majority, as an insert does.
		out.refuse(0, err)
		if _, waited := c.finish(out.written, nil); waited != nil {
			return nil, waited
		}
		return nil, err
	}
	last := bson.D{{Key: "n", Value: int32(out.n)}}
	if !remove {
		last = append(last, bson.E{Key: "updatedExisting", Value: out.n > 0 && out.id == nil})
	}
	if out.id != nil {
		last = append(last, bson.E{Key: "upserted", Value: *out.id})
	}
	answer := out.before
	if truthy(c.cmd.Lookup("new")) {
		answer = out.after
	}
	var value any
	if answer != nil {
		if value, err = shape.of(answer); err != nil {
			return nil, err
		}
	}
	done, err := c.finish(out.written, nil)
	if err != nil {
		return nil, err
	}
	return append(bson.D{{Key: "lastErrorObject", Value: last}, {Key: "value", Value: value}}, done[1:]...), nil
}
