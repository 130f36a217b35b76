package coverage

import "xuncha/internal/persistent"

// A vector is a persistent.Vector with the numbers and the habits of the index: what was
// never set is zero, and whoever wants a copy asks for one of the two kinds.
type vector[T any] struct {
	list persistent.Vector[T]
	own  *persistent.Owner // nil while all may be shared
}

// len returns how many values there are.
func (v *vector[T]) len() int { return int(v.list.Len()) }

// at returns the value i. A value that was never set is zero.
func (v *vector[T]) at(i int32) (value T) {
	if p := v.ref(i); p != nil {
		value = *p
	}
	return value
}

// ref returns where the value i is, to be read only. It is nil where none near it was
// ever set.
func (v *vector[T]) ref(i int32) *T { return v.list.Find(uint32(i)) }

// share returns a copy that stays as it is, of a vector that goes on to change.
func (v *vector[T]) share() vector[T] {
	v.own = nil
	return *v
}

// edit returns a copy that can be changed, of a vector that nobody changes any more.
func (v vector[T]) edit() vector[T] {
	v.own = nil
	return v
}

// change returns where the value i is, to be changed.
func (v *vector[T]) change(i int32) *T {
	if v.own == nil {
		v.own = new(persistent.Owner)
	}
	return v.list.Edit(uint32(i), v.own)
}

// set sets the value i.
func (v *vector[T]) set(i int32, value T) { *v.change(i) = value }
