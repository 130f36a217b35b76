package sites

import "slices"

// An owner marks the parts of a persistent structure that one change has made
// itself, and may therefore still write to. All other parts are shared with the
// states before and are copied first.
type owner struct{ _ byte } // not empty, so that no two have the same address

// A vector is a list that one can copy by copying the struct. A copy shares
// whatever is not written to later, so a write costs a few small blocks.
type vector[T any] struct {
	n      uint32
	owner  *owner // of blocks
	blocks []*vectorBlock[T]
}

// Blocks and leaves have 64 children each, which are found by 6 bits of an index.
type (
	vectorBlock[T any] struct {
		owner  *owner
		leaves [64]*vectorLeaf[T]
	}
	vectorLeaf[T any] struct {
		owner *owner
		items [64]T
	}
)

// at returns the item at i, which must be less than n. It is only to be read.
func (v *vector[T]) at(i uint32) *T {
	return &v.blocks[i>>12].leaves[i>>6&63].items[i&63]
}

// edit returns the item at i, to write to while own's change goes on. It grows the
// vector up to i.
func (v *vector[T]) edit(i uint32, own *owner) *T {
	if v.owner != own {
		v.blocks, v.owner = slices.Clone(v.blocks), own
	}
	v.n = max(v.n, i+1)
	for len(v.blocks) <= int(i>>12) {
		v.blocks = append(v.blocks, &vectorBlock[T]{owner: own})
	}
	block := &v.blocks[i>>12]
	if (*block).owner != own {
		b := **block
		b.owner = own
		*block = &b
	}
	leaf := &(*block).leaves[i>>6&63]
	switch {
	case *leaf == nil:
		*leaf = &vectorLeaf[T]{owner: own}
	case (*leaf).owner != own:
		l := **leaf
		l.owner = own
		*leaf = &l
	}
	return &(*leaf).items[i&63]
}

// A lookup finds things by a hash, of which it keeps only the numbers. A number is
// not 0 and never leaves. One can copy it by copying the struct.
type lookup struct {
	n int
	// slots has 0, or 32 bits of a hash above the number, in the first free slot from
	// the hash on. The count of slots is a power of two.
	slots vector[uint64]
}

// find returns the number with the hash that is the one, or 0.
func (l *lookup) find(hash uint64, is func(uint32) bool) uint32 {
	if l.n == 0 {
		return 0
	}
	for i := uint32(hash); ; i++ {
		slot := *l.slots.at(i & (l.slots.n - 1))
		if slot == 0 || uint32(slot>>32) == uint32(hash) && is(uint32(slot)) {
			return uint32(slot)
		}
	}
}

// add adds a number that is not there.
func (l *lookup) add(number uint32, hash uint64, own *owner) {
	if size := l.slots.n; l.n >= int(size)*2/3 {
		old := l.slots
		l.slots = vector[uint64]{}
		l.reserve(int(size), own)
		for i := range size {
			if slot := *old.at(i); slot != 0 {
				l.put(slot, own)
			}
		}
	}
	l.put(hash<<32|uint64(number), own)
	l.n++
}

// reserve makes an empty lookup large enough for so many numbers, and some more.
func (l *lookup) reserve(n int, own *owner) {
	size := uint32(64)
	for int(size)*2/3 <= n {
		size *= 2
	}
	for i := range size / 64 {
		l.slots.edit(i*64+63, own)
	}
}

func (l *lookup) put(slot uint64, own *owner) {
	mask := l.slots.n - 1
	i := uint32(slot>>32) & mask
	for *l.slots.at(i) != 0 {
		i = (i + 1) & mask
	}
	*l.slots.edit(i, own) = slot
}
