package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func (c *call) create() (bson.D, error) {
	if c.collection(c.db, c.coll, false) != nil {
		return nil, fail(codeNamespaceExists, "Collection %s.%s already exists.", c.db, c.coll)
	}
	c.collection(c.db, c.coll, true)
	return nil, nil
}

func (c *call) drop() (bson.D, error) {
	c.mu.Lock()
	gone := c.databases[c.db][c.coll]
	delete(c.databases[c.db], c.coll)
	c.mu.Unlock()
	if gone == nil {
		return nil, fail(codeNoNamespace, "ns not found")
	}
	return nil, c.forgetShards(func(name string) bool { return name == c.db+"."+c.coll })
}

func (c *call) dropDatabase() (bson.D, error) {
	c.mu.Lock()
	delete(c.databases, c.db)
	c.mu.Unlock()
	return bson.D{{Key: "dropped", Value: c.db}}, c.forgetShards(func(name string) bool { return strings.HasPrefix(name, c.db+".") })
}

// createIndexes makes indexes of what is there.
func (c *call) createIndexes() (bson.D, error) {
	specs, err := documentsOf(c.cmd.Lookup("indexes"))
	if err != nil {
		return nil, err
	}
	coll := c.collection(c.db, c.coll, true)
	coll.mu.Lock()
	defer coll.mu.Unlock()
	before := len(coll.indexes)
	for _, spec := range specs {
		if err := coll.createIndex(spec); err != nil {
			return nil, err
		}
	}
	return bson.D{{Key: "numIndexesBefore", Value: int32(before)}, {Key: "numIndexesAfter", Value: int32(len(coll.indexes))}}, nil
}

func (c *collection) createIndex(spec bson.Raw) error {
	keys, ok := spec.Lookup("key").DocumentOK()
	if !ok {
		return fail(codeFailedToParse, "an index needs a key")
	}
	elements, err := keys.Elements()
	if err != nil {
		return err
	}
	x := &index{unique: truthy(spec.Lookup("unique"))}
	x.name, _ = spec.Lookup("name").StringValueOK()
	for _, e := range elements {
		if _, isNumber := e.Value().AsFloat64OK(); !isNumber {
			return fail(codeFailedToParse, "the stand-in has no such indexes: %s", e)
		}
		x.fields = append(x.fields, e.Key())
	}
	for _, there := range c.indexes {
		sameKeys := slices.Equal(there.fields, x.fields) && sameNumbers(there.spec.Lookup("key").Document(), keys)
		switch same := sameKeys && (there.unique == x.unique || there == c.indexes[0]); {
		case same && (there.name == x.name || there == c.indexes[0]):
			return nil
		case same:
			return fail(codeOptionsConflict, "Index already exists with a different name: %s", there.name)
		case sameKeys:
			return fail(codeOptionsConflict, "An equivalent index already exists with different options: %s", there.name)
		case there.name == x.name:
			return fail(codeKeySpecsConflict, "An existing index has the same name as the requested index: %s", there.name)
		}
	}
	if x.spec, err = bson.Marshal(append(bson.D{{Key: "v", Value: int32(2)}}, withoutVersion(spec)...)); err != nil {
		return err
	}
	return c.build(x)
}

// sameNumbers reports whether the directions of two indexes are the same.
func sameNumbers(a, b bson.Raw) bool {
	x, errA := a.Values()
	y, errB := b.Values()
	return errA == nil && errB == nil && slices.EqualFunc(x, y, func(a, b bson.RawValue) bool { return keyOf(a) == keyOf(b) })
}

func withoutVersion(spec bson.Raw) (out bson.D) {
	elements, _ := spec.Elements() // was read before
	for _, e := range elements {
		if e.Key() != "v" {
			out = append(out, bson.E{Key: e.Key(), Value: e.Value()})
		}
	}
	return out
}

// build adds an index with all that is there, or says what is in its way.
func (c *collection) build(x *index) error {
	c.addIndex(x)
	at := len(c.indexes) - 1
	for _, p := range c.parts {
		var err error
		p.trees[0].Scan(func(_ string, v *version) bool {
			key := string(x.keyIn(nil, v.raw))
			if other := p.taken(at, key, v); x.unique && v.until == forever && other != nil {
				err = c.duplicate(x, v.raw, other)
				return false
			}
			p.trees[at].Set(numbered(key, v), v)
			return true
		})
		if err != nil {
			c.dropIndex(at)
			return err
		}
	}
	return nil
}

func (c *collection) dropIndex(at int) {
	c.indexes = slices.Delete(c.indexes, at, at+1)
	for _, p := range c.parts {
		p.trees = slices.Delete(p.trees, at, at+1)
	}
}

func (c *call) dropIndexes() (bson.D, error) {
	coll := c.collection(c.db, c.coll, false)
	if coll == nil {
		return nil, fail(codeNoNamespace, "ns not found %s.%s", c.db, c.coll)
	}
	which, _ := c.cmd.Lookup("index").StringValueOK()
	coll.mu.Lock()
	defer coll.mu.Unlock()
	before, found := len(coll.indexes), which == "*"
	for i := before - 1; i > 0; i-- {
		if which == "*" || coll.indexes[i].name == which {
			coll.dropIndex(i)
			found = true
		}
	}
	if !found {
		return nil, fail(27, "index not found with name [%s]", which)
	}
	return bson.D{{Key: "nIndexesWas", Value: int32(before)}}, nil
}

// all answers with everything at once, as a cursor that is at its end.
func all(ns string, list bson.A) bson.D {
	return bson.D{{Key: "cursor", Value: bson.D{{Key: "firstBatch", Value: list}, {Key: "id", Value: int64(0)}, {Key: "ns", Value: ns}}}}
}

func (c *call) listIndexes() (bson.D, error) {
	coll := c.collection(c.db, c.coll, false)
	if coll == nil {
		return nil, fail(codeNoNamespace, "ns does not exist: %s.%s", c.db, c.coll)
	}
	coll.mu.RLock()
	defer coll.mu.RUnlock()
	list := bson.A{}
	for _, x := range coll.indexes {
		list = append(list, x.spec)
	}
	return all(coll.name, list), nil
}

func (c *call) listCollections() (bson.D, error) {
	f, err := newFilter(c.part("filter"))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	names := slices.Sorted(maps.Keys(c.databases[c.db]))
	c.mu.Unlock()
	list := bson.A{}
	for _, name := range names {
		d, err := bson.Marshal(bson.D{
			{Key: "name", Value: name}, {Key: "type", Value: "collection"},
			{Key: "options", Value: bson.D{}}, {Key: "info", Value: bson.D{{Key: "readOnly", Value: false}}},
		})
		if err != nil {
			return nil, err
		}
		if f.matches(d) {
			list = append(list, bson.Raw(d))
		}
	}
	return all(c.db+".$cmd.listCollections", list), nil
}

func (c *call) listDatabases() (bson.D, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := bson.A{}
	for _, name := range slices.Sorted(maps.Keys(c.databases)) {
		list = append(list, bson.D{{Key: "name", Value: name}, {Key: "sizeOnDisk", Value: int64(0)}, {Key: "empty", Value: false}})
	}
	return bson.D{{Key: "databases", Value: list}, {Key: "totalSize", Value: int64(0)}}, nil
}

func (c *call) collStats() (bson.D, error) {
	n, err := c.size()
	return bson.D{{Key: "ns", Value: c.db + "." + c.coll}, {Key: "count", Value: int32(n)}}, err
}

// shardCollection spreads a collection over all shards, and says so where a router
// does, in config.collections.
func (c *call) shardCollection() (bson.D, error) {
	if !c.sharded() {
		return nil, fail(codeCommandNotFound, "no such command: 'shardCollection'")
	}
	db, name, ok := strings.Cut(c.coll, ".")
	keys, isDocument := c.cmd.Lookup("key").DocumentOK()
	if !ok || !isDocument || first(keys) == "" {
		return nil, fail(codeBadValue, "shardCollection needs a name with the database, and a key")
	}
	coll := c.collection(db, name, true)
	coll.mu.Lock()
	defer coll.mu.Unlock()
	if coll.shardKey != "" {
		if coll.shardKey == first(keys) {
			return bson.D{{Key: "collectionsharded", Value: c.coll}}, nil
		}
		return nil, fail(23, "sharding already enabled for collection %s", c.coll)
	}
	coll.shardKey = first(keys)
	if err := c.spread(coll); err != nil {
		return nil, err
	}
	d, err := bson.Marshal(bson.D{
		{Key: "_id", Value: c.coll}, {Key: "lastmodEpoch", Value: bson.NewObjectID()}, {Key: "key", Value: keys},
		{Key: "unique", Value: truthy(c.cmd.Lookup("unique"))}, {Key: "noBalance", Value: false},
	})
	if err != nil {
		return nil, err
	}
	config := c.collection("config", "collections", true)
	config.mu.Lock()
	defer config.mu.Unlock()
	if _, err := config.add(config.parts[0], d, nil, c.now); err != nil {
		return nil, err
	}
	return bson.D{{Key: "collectionsharded", Value: c.coll}}, nil
}

// spread puts what lies on the first shard where it belongs. The collection is
// locked.
func (c *call) spread(coll *collection) error {
	var moved []*version
	first := coll.parts[0]
	first.trees[0].Scan(func(_ string, v *version) bool {
		if v.until == forever && c.place(coll, v.raw) != 0 {
			moved = append(moved, v)
		}
		return true
	})
	now := c.now()
	for _, v := range moved {
		first.end(v, now)
		if _, err := coll.add(coll.parts[c.place(coll, v.raw)], v.raw, nil, func() int64 { return v.until }); err != nil {
			return fmt.Errorf("moving a document: %w", err)
		}
	}
	return nil
}

// forgetShards removes from config.collections what is not there any more.
func (c *call) forgetShards(gone func(name string) bool) error {
	config := c.collection("config", "collections", false)
	if config == nil {
		return nil
	}
	config.mu.Lock()
	defer config.mu.Unlock()
	p, now := config.parts[0], c.now()
	for _, v := range config.find(p, query{filter: &filter{}}, latest) {
		if name, _ := v.raw.Lookup("_id").StringValueOK(); gone(name) {
			p.end(v, now)
		}
	}
	config.sweep(p, now)
	return nil
}
