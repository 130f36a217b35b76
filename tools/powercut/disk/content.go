package disk

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// A content is what is in a file.
type content struct {
	data    []byte
	durable []byte
	dirty   map[int]bool // the pages that may differ in both
}

// setSize cuts the content, or adds zeros.
func (c *content) setSize(size int) {
	before := len(c.data)
	if size < before {
		clear(c.data[size:])
		c.data = c.data[:size]
	} else {
		c.data = append(c.data, make([]byte, size-before)...)
	}
	c.touch(min(size, before), max(size, before))
}

// writeAt writes at a place, also behind the end.
func (c *content) writeAt(b []byte, at int) {
	if end := at + len(b); end > len(c.data) {
		c.setSize(end)
	}
	copy(c.data[at:], b)
	c.touch(at, at+len(b))
}

// touch notes that what lies there may differ from what is durable. An empty range
// stands for the size alone.
func (c *content) touch(from, to int) {
	if c.dirty == nil {
		c.dirty = map[int]bool{}
	}
	for page := from / pageSize; page <= max(from, to-1)/pageSize; page++ {
		c.dirty[page] = true
	}
}

// dirtyPages returns the dirty pages in their order.
func (c *content) dirtyPages() []int { return slices.Sorted(maps.Keys(c.dirty)) }

// flush makes all of the content durable.
func (c *content) flush() {
	c.durable = resized(c.durable, len(c.data))
	for page := range c.dirty {
		copy(part(c.durable, page), part(c.data, page))
	}
	c.dirty = nil
}

// write makes one page durable, and the size with it where that has grown. The page
// stays dirty where the file was cut, because the size may still be the old one.
func (c *content) write(page int) {
	from, to := page*pageSize, min((page+1)*pageSize, len(c.data))
	if from >= to {
		return
	}
	if to > len(c.durable) {
		c.durable = resized(c.durable, to)
	}
	copy(c.durable[from:to], c.data[from:to])
	if len(c.data) >= len(c.durable) {
		delete(c.dirty, page)
		if len(c.dirty) == 0 && len(c.data) != len(c.durable) {
			c.dirty = map[int]bool{page: true}
		}
	}
}

// A fate is what becomes of what was not flushed.
type fate int

const (
	lostFate fate = iota
	keptFate
	mixedFate
)

// survivors returns the content after a power cut, and how many dirty pages are in it in
// whole and in part.
func (c *content) survivors(random *rand.Rand, f fate) (out []byte, kept, torn int) {
	switch {
	case f == lostFate || len(c.dirty) == 0:
		return slices.Clone(c.durable), 0, 0
	case f == keptFate:
		return slices.Clone(c.data), len(c.dirty), 0
	}
	least, most := min(len(c.data), len(c.durable)), max(len(c.data), len(c.durable))
	size := []int{len(c.data), len(c.durable), least + random.IntN(most-least+1)}[random.IntN(3)]
	out = resized(slices.Clone(c.durable), size)
	for _, page := range c.dirtyPages() {
		old, fresh := part(out, page), part(c.data, page)
		switch random.IntN(3) {
		case 0:
			copy(old, fresh)
			kept++
		case 1:
			for at := 0; at < min(len(old), len(fresh)); at += sectorSize {
				if random.IntN(2) == 0 {
					copy(old[at:min(at+sectorSize, len(old))], fresh[at:])
				}
			}
			torn++
		}
	}
	return out, kept, torn
}

// part returns a page of a content, as much as there is of it.
func part(b []byte, page int) []byte {
	from := min(page*pageSize, len(b))
	return b[from:min(from+pageSize, len(b))]
}

// resized cuts b, or adds zeros.
func resized(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-len(b))...)
}
