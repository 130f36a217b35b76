package sites

import (
	"fmt"
	"iter"
	"slices"
	"sort"
	"time"
)

// numberOf returns the number of the code, or 0 where nothing ever named it.
func (r *Roster) numberOf(code DivisionCode) uint32 {
	if code == "" {
		return 0
	}
	return r.divisionNumber.find(hashOf(code), func(n uint32) bool { return r.divisions.At(n).code == code })
}

// division returns the division with the code, or ErrDivisionUnknown.
func (r *Roster) division(code DivisionCode) (*division, error) {
	if n := r.numberOf(code); n != 0 {
		if d := r.divisions.At(n); d.known() {
			return d, nil
		}
	}
	return nil, fmt.Errorf("division %s: %w", clip(string(code)), ErrDivisionUnknown)
}

// known reports whether the division has a version.
func (d *division) known() bool { return d.newest.from != nil }

// versions gives the versions, oldest first.
func (d *division) versions(yield func(*version) bool) {
	if d.rare != nil {
		for i := range d.rare.older {
			if !yield(&d.rare.older[i]) {
				return
			}
		}
	}
	if d.known() {
		yield(&d.newest)
	}
}

// lastAt returns the version that holds at t by the rule of LastDivision. The
// division must be known.
func (d *division) lastAt(t time.Time) *version {
	if d.rare != nil && d.newest.from.time.After(t) {
		older := d.rare.older
		for i := len(older) - 1; i >= 0; i-- {
			if i == 0 || !older[i].from.time.After(t) {
				return &older[i]
			}
		}
	}
	return &d.newest
}

// out returns the version for others to have.
func (r *Roster) out(d *division, v *version) Division {
	n := Division{Code: d.code, Name: v.name, Level: Level(v.level), Parent: r.divisions.At(v.parent).code, From: v.from.time}
	if v.to != nil {
		n.To = v.to.time
	}
	return n
}

// Division returns the division as it is in force at t. The error is
// ErrDivisionUnknown for a code that never was and ErrDivisionEnded for one
// that is not in force then.
func (r *Roster) Division(code DivisionCode, t time.Time) (Division, error) {
	d, err := r.division(code)
	if err != nil {
		return Division{}, err
	}
	if v := d.at(t); v != nil {
		return r.out(d, v), nil
	}
	return Division{}, fmt.Errorf("division %s: %w", code, ErrDivisionEnded)
}

// at returns the version that is in force at t, or nil.
func (d *division) at(t time.Time) *version {
	for v := range d.versions {
		if !t.Before(v.from.time) && (v.to == nil || t.Before(v.to.time)) {
			return v
		}
	}
	return nil
}

// LastDivision returns the division as it is in force at t, or, where it is
// not, as it last was before, or else as it first was after. A site whose
// village ended keeps a path through the hierarchy by this rule until it is
// moved. The error is ErrDivisionUnknown.
func (r *Roster) LastDivision(code DivisionCode, t time.Time) (Division, error) {
	d, err := r.division(code)
	if err != nil {
		return Division{}, err
	}
	return r.out(d, d.lastAt(t)), nil
}

// Versions returns every version of a division, oldest first; none for a code
// that never was.
func (r *Roster) Versions(code DivisionCode) []Division {
	d, err := r.division(code)
	if err != nil {
		return nil
	}
	out := make([]Division, 0, 1)
	for v := range d.versions {
		out = append(out, r.out(d, v))
	}
	return out
}

// Knows reports whether the roster has the division, whether in force now, before or only
// from later on.
func (r *Roster) Knows(code DivisionCode) bool {
	_, err := r.division(code)
	return err == nil
}

// HasDivisions reports whether the roster has any division at all.
func (r *Roster) HasDivisions() bool {
	return slices.ContainsFunc(r.childNumbers(""), func(n uint32) bool { return r.divisions.At(n).known() })
}

// open returns the version of the code that has no end.
func (r *Roster) open(code DivisionCode) (Division, bool) {
	d, err := r.division(code)
	if err != nil || d.newest.to != nil {
		return Division{}, false
	}
	return r.out(d, &d.newest), true
}

// childNumbers returns the numbers of all that ever named the code as their parent.
func (r *Roster) childNumbers(code DivisionCode) []uint32 {
	n := r.numberOf(code)
	if n == 0 && code != "" || n >= r.divisions.Len() {
		return nil
	}
	if c := r.divisions.At(n).children; c != nil {
		return *c
	}
	return nil
}

// Children returns the divisions in force at t whose parent is code, ordered
// by code; for an empty code those without a parent.
func (r *Roster) Children(code DivisionCode, t time.Time) []Division {
	return slices.Collect(r.ChildrenAfter(code, "", t))
}

// ChildrenAfter gives those of Children with a code greater than after. Its cost is
// that of the divisions that are taken from it, and of those between them that are not
// in force at t.
func (r *Roster) ChildrenAfter(code, after DivisionCode, t time.Time) iter.Seq[Division] {
	parent, children := r.numberOf(code), r.childNumbers(code)
	from := sort.Search(len(children), func(i int) bool { return r.divisions.At(children[i]).code > after })
	return func(yield func(Division) bool) {
		for _, n := range children[from:] {
			d := r.divisions.At(n)
			if v := d.at(t); v != nil && v.parent == parent && !yield(r.out(d, v)) {
				return
			}
		}
	}
}

// maxPath is how many divisions can lie above one another.
const maxPath = 8

// pathFrom appends the numbers of the division and those above it at t.
func (r *Roster) pathFrom(path []uint32, n uint32, t time.Time) []uint32 {
	for n != 0 && len(path) < maxPath {
		d := r.divisions.At(n)
		if !d.known() {
			break
		}
		path = append(path, n)
		n = d.lastAt(t).parent
	}
	return path
}

// codes returns the codes of the divisions.
func (r *Roster) codes(path []uint32) []DivisionCode {
	out := make([]DivisionCode, len(path))
	for i, n := range path {
		out[i] = r.divisions.At(n).code
	}
	return out
}

// Path returns the codes from the division up to the widest as they lie above
// one another at t, by the rule of LastDivision.
func (r *Roster) Path(code DivisionCode, t time.Time) []DivisionCode {
	var path [maxPath]uint32
	return r.codes(r.pathFrom(path[:0], r.numberOf(code), t))
}

// Within reports whether code is above, or is, the division below at t.
func (r *Roster) Within(below, code DivisionCode, t time.Time) bool {
	var path [maxPath]uint32
	n := r.numberOf(code)
	return n != 0 && slices.Contains(r.pathFrom(path[:0], r.numberOf(below), t), n)
}

// WithinAny reports whether one of the codes is above, or is, the division below at t. A
// division that was taken back lies where it lay last, so that whoever was responsible for
// it can see to what is left of it, such as accounts.
func (r *Roster) WithinAny(below DivisionCode, codes []DivisionCode, t time.Time) bool {
	n := r.numberOf(below)
	for i := 0; i < maxPath && n != 0; i++ {
		d := r.divisions.At(n)
		if d.known() || d.rare == nil {
			break
		}
		if slices.Contains(codes, d.code) {
			return true
		}
		n = d.rare.lost
	}
	var path [maxPath]uint32
	for _, n := range r.pathFrom(path[:0], n, t) {
		if slices.Contains(codes, r.divisions.At(n).code) {
			return true
		}
	}
	return false
}
