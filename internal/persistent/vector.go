// Package persistent holds lists of which a copy can be kept at no cost.
package persistent

import "slices"

// An Owner marks the parts of a vector that one writer has made itself, and may
// therefore still write to. All other parts are shared with the states before and are
// copied first.
type Owner struct{ _ byte } // not empty, so that no two have the same address

// A Vector is a list that one can copy by copying the struct. A copy shares whatever is
// not written to later, so a write costs a few small blocks. One goroutine at a time may
// write to a vector; copies may be read by others meanwhile.
//
// A B-tree with numbers for keys does the same, but has to search for each of them, and
// keeps each number beside its item.
type Vector[T any] struct {
	n      uint32
	owner  *Owner // of blocks
	blocks []*block[T]
}

// Blocks and leaves have 64 children each, which are found by 6 bits of an index.
type (
	block[T any] struct {
		owner  *Owner
		leaves [64]*leaf[T]
	}
	leaf[T any] struct {
		owner *Owner
		items [64]T
	}
)

// Len returns how many items there are.
func (v *Vector[T]) Len() uint32 { return v.n }

// At returns the item at i, only to be read. One of the items with the same i/64 must
// have been edited.
func (v *Vector[T]) At(i uint32) *T {
	return &v.blocks[i>>12].leaves[i>>6&63].items[i&63]
}

// Find returns the item at i, only to be read. It is nil beyond the end, and where no
// item near it was ever edited.
func (v *Vector[T]) Find(i uint32) *T {
	if i >= v.n {
		return nil
	}
	l := v.blocks[i>>12].leaves[i>>6&63]
	if l == nil {
		return nil
	}
	return &l.items[i&63]
}

// Edit returns the item at i, to write to while own's change goes on. It grows the
// vector up to i.
func (v *Vector[T]) Edit(i uint32, own *Owner) *T {
	if v.owner != own {
		v.blocks, v.owner = slices.Clone(v.blocks), own
	}
	v.n = max(v.n, i+1)
	for len(v.blocks) <= int(i>>12) {
		v.blocks = append(v.blocks, &block[T]{owner: own})
	}
	b := &v.blocks[i>>12]
	if (*b).owner != own {
		c := **b
		c.owner = own
		*b = &c
	}
	l := &(*b).leaves[i>>6&63]
	switch {
	case *l == nil:
		*l = &leaf[T]{owner: own}
	case (*l).owner != own:
		c := **l
		c.owner = own
		*l = &c
	}
	return &(*l).items[i&63]
}
