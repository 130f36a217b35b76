package coverage

import "slices"

// chunkSize is how many values of a vector are copied when one of them changes.
const chunkSize = 128

// A vector is a list of which a copy can be kept at no cost: what is set later is set
// in the vector alone, and the copy stays as it was. One goroutine at a time may
// change a vector; copies may be read by others meanwhile.
//
// A B-tree does the same for keys of any kind. Here the keys are 0, 1, 2 …, and all
// values are walked through for each new window, which is several times as fast in
// arrays.
type vector[T any] struct {
	chunks []*chunk[T]
	n      int
	// owner is what the chunks have that nobody else can see. It is nil while the list
	// of chunks itself may be shared.
	owner *ownership
}

type chunk[T any] struct {
	values [chunkSize]T
	owner  *ownership
}

// An ownership is only compared. It has a size, because pointers to values without
// one may be equal.
type ownership struct{ _ byte }

// len returns how many values there are.
func (v *vector[T]) len() int { return v.n }

// at returns the value i. A value that was never set is zero, also beyond the end.
func (v *vector[T]) at(i int32) T {
	if p := v.ref(i); p != nil {
		return *p
	}
	var zero T
	return zero
}

// ref returns where the value i is, to be read only. It is nil beyond the end.
func (v *vector[T]) ref(i int32) *T {
	if int(i) >= v.n {
		return nil
	}
	return &v.chunks[i/chunkSize].values[i%chunkSize]
}

// share returns a copy that stays as it is.
func (v *vector[T]) share() vector[T] {
	v.owner = nil
	return *v
}

// edit returns a copy that can be changed, of a vector that nobody changes any more.
func (v vector[T]) edit() vector[T] {
	v.owner = nil
	return v
}

// own returns where the value i is, to be changed, and makes the list longer where it
// ends before.
func (v *vector[T]) own(i int32) *T {
	if v.owner == nil {
		v.owner = new(ownership)
		v.chunks = slices.Clone(v.chunks)
	}
	for int(i) >= len(v.chunks)*chunkSize {
		v.chunks = append(v.chunks, &chunk[T]{owner: v.owner})
	}
	v.n = max(v.n, int(i)+1)
	c := &v.chunks[i/chunkSize]
	if (*c).owner != v.owner {
		*c = &chunk[T]{values: (*c).values, owner: v.owner}
	}
	return &(*c).values[i%chunkSize]
}

// set sets the value i, and makes the list longer where it ends before.
func (v *vector[T]) set(i int32, value T) { *v.own(i) = value }
