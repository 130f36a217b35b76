package sites

import (
	"iter"
	"sort"
	"time"
)

// ChildrenAfter gives those of Children with a code greater than after. Its cost is
// that of the divisions that are taken from it, and of those between them that are not
// in force at t.
func (r *Roster) ChildrenAfter(parent, after DivisionCode, t time.Time) iter.Seq[Division] {
	below := r.childNumbers(parent)
	below = below[sort.Search(len(below), func(i int) bool { return r.divisions.at(below[i]).code > after }):]
	of := r.numberOf(parent)
	return func(yield func(Division) bool) {
		for _, n := range below {
			d := r.divisions.at(n)
			for v := range d.versions {
				if !v.in(t) {
					continue
				}
				if v.parent == of && !yield(r.out(d, v)) {
					return
				}
				break
			}
		}
	}
}
