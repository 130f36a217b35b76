package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/btree"
	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	// forever is until when the newest version of a document holds.
	forever = math.MaxInt64
	// latest is the time at which the newest versions are seen, also those that no
	// majority has.
	latest = forever - 1
)

// A version is a document as it is from a time on, when a majority has it, until
// another, when it is replaced or deleted. Times are in nanoseconds since the start.
type version struct {
	raw         bson.Raw
	from, until int64
	number      uint64 // of all versions of the collection
}

// seen reports whether a reader at the time sees the version.
func (v *version) seen(at int64) bool { return v.from <= at && at < v.until }

// An index finds documents by some of their fields. A field that is an array is
// one value there, so a query for one of its elements does not find it by an index.
type index struct {
	name   string
	fields []string
	unique bool
	spec   bson.Raw // as it was demanded
}

// A part is what lies on one shard of a collection: a tree for each index, in which
// the key of a version is that of its fields and its number.
type part struct {
	trees []*btree.Map[string, *version]
	// count is how many documents there are.
	count int
	// replaced are versions that nobody will see once they have ended.
	replaced []*version
}

// A collection has documents, on one shard or on all of them.
type collection struct {
	mu      sync.RWMutex
	name    string // with the database
	indexes []*index
	parts   []*part // by shard
	// shardKey is the field by which it is spread; empty, it lies on the first shard.
	shardKey string
	numbers  uint64
}

func newCollection(name string, shards int) *collection {
	c := &collection{name: name, parts: make([]*part, shards)}
	for i := range c.parts {
		c.parts[i] = &part{}
	}
	spec, err := bson.Marshal(bson.D{
		{Key: "v", Value: int32(2)}, {Key: "key", Value: bson.D{{Key: "_id", Value: int32(1)}}}, {Key: "name", Value: "_id_"},
	})
	if err != nil {
		panic(err) // strings and numbers can always be written
	}
	c.addIndex(&index{name: "_id_", fields: []string{"_id"}, unique: true, spec: spec})
	return c
}

// addIndex adds an empty index.
func (c *collection) addIndex(x *index) {
	c.indexes = append(c.indexes, x)
	for _, p := range c.parts {
		p.trees = append(p.trees, &btree.Map[string, *version]{})
	}
}

// keyIn writes what a document has in an index, without its version's number.
func (x *index) keyIn(b []byte, d bson.Raw) []byte {
	for _, f := range x.fields {
		b = appendKey(b, d.Lookup(f))
	}
	return b
}

// taken returns the newest version that has the key in an index, other than one.
func (p *part) taken(x int, key string, other *version) (found *version) {
	p.trees[x].Ascend(key, func(k string, v *version) bool {
		if !strings.HasPrefix(k, key) {
			return false
		}
		if v.until == forever && v != other {
			found = v
		}
		return found == nil
	})
	return found
}

// add adds a document, in place of an old version where that is not nil. The time
// from which on it is seen is asked for once nothing is in its way.
func (c *collection) add(p *part, d bson.Raw, old *version, when func() int64) (*version, error) {
	var room [1024]byte
	b := room[:0]
	ends := make([]int, len(c.indexes))
	for i, x := range c.indexes {
		begin := len(b)
		b = x.keyIn(b, d)
		if x.unique {
			if other := p.taken(i, string(b[begin:]), old); other != nil {
				return nil, c.duplicate(x, d, other)
			}
		}
		ends[i] = len(b)
	}
	c.numbers++
	v := &version{raw: d, from: when(), until: forever, number: c.numbers}
	if old != nil {
		p.end(old, v.from)
	}
	p.count++
	// The keys share one string, which is one piece of memory.
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], v.number)
	whole := make([]byte, 0, len(b)+8*len(ends))
	begin := 0
	for i, end := range ends {
		whole = append(append(whole, b[begin:end]...), number[:]...)
		begin, ends[i] = end, len(whole)
	}
	all, begin := string(whole), 0
	for i, end := range ends {
		p.trees[i].Set(all[begin:end], v)
		begin = end
	}
	return v, nil
}

// numbered is a key with the number of the version that has it.
func numbered(key string, v *version) string {
	return string(binary.BigEndian.AppendUint64([]byte(key), v.number))
}

// end deletes or replaces a version.
func (p *part) end(v *version, at int64) {
	v.until = max(at, v.from)
	p.count--
	p.replaced = append(p.replaced, v)
}

// sweep forgets versions that nobody sees any more.
func (c *collection) sweep(p *part, now int64) {
	n := 0
	for n < len(p.replaced) && p.replaced[n].until <= now {
		v := p.replaced[n]
		for i, x := range c.indexes {
			p.trees[i].Delete(numbered(string(x.keyIn(nil, v.raw)), v))
		}
		n++
	}
	p.replaced = slices.Delete(p.replaced, 0, n)
}

// A duplicate says that a key of a unique index is taken.
type duplicate struct {
	failure
	by *version
}

func (c *collection) duplicate(x *index, d bson.Raw, by *version) error {
	var value, pattern bson.D
	for _, f := range x.fields {
		v := d.Lookup(f)
		if v.IsZero() {
			v = bson.RawValue{Type: bson.TypeNull}
		}
		value = append(value, bson.E{Key: f, Value: v})
		pattern = append(pattern, bson.E{Key: f, Value: int32(1)})
	}
	text, err := bson.MarshalExtJSON(value, false, false)
	if err != nil {
		text = []byte("{}")
	}
	return &duplicate{failure{
		codeDuplicateKey, fmt.Sprintf("E11000 duplicate key error collection: %s index: %s dup key: %s", c.name, x.name, text),
		bson.D{{Key: "keyPattern", Value: pattern}, {Key: "keyValue", Value: value}},
	}, by}
}

// shardField is the field by which the collection is spread.
func (c *collection) shardField() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.shardKey
}
