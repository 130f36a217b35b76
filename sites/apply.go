package sites

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"xuncha/internal/persistent"
	"xuncha/ledger"
)

// A change is what one entry of the roster's history does to the roster.
type change struct {
	event     Event
	sites     []*Site // as they are after it
	order     *ClosureOrder
	divisions []divisionChange
	effective time.Time // of the division changes
	// revoked is the change that it takes back, and undo what that restores; nil where it
	// does nothing.
	revoked ledger.Sequence
	undo    *undo
}

// rows is how many rows of the roster the change is about.
func (c *change) rows() int { return max(1, len(c.sites)+len(c.divisions)+c.undo.rows()) }

// An edit makes a new roster out of one that stays as it is.
type edit struct {
	*Roster
	own *persistent.Owner
}

// edit returns a roster that is like r and can be written to. Several goroutines
// may do so at once with one r: Copy writes to the tree that is copied, and this
// one is nobody else's.
func (r *Roster) edit() edit {
	n := *r
	n.listed = *n.listed.Copy()
	n.orders = *n.orders.Copy()
	n.orderNumbers = *n.orderNumbers.Copy()
	n.ordersOf = *n.ordersOf.Copy()
	return edit{&n, new(persistent.Owner)}
}

// apply returns the roster after the change.
func (r *Roster) apply(c change) *Roster {
	n := r.edit()
	event := c.event
	if event.Kind == ledger.KindSetAside {
		event.Time = later(event.Time, r.Time()) // what was set aside has none of its own
	}
	switch {
	case c.undo != nil:
		n.applyUndo(c.undo, &event)
	case c.divisions != nil:
		event.touched, event.named = n.applyDivisions(c.divisions, &moment{c.effective, event.Sequence})
	case c.order != nil:
		event.order = c.order
		event.touched = n.applyOrder(c.order, true, event.Sequence)
	default:
		event.touched = n.applySites(c.sites, event.Sequence)
	}
	*n.events.Edit(n.events.Len(), n.own) = &event
	return n.Roster
}

// preview returns the roster as it would be after changes of divisions, without
// an event of them.
func (r *Roster) preview(changes []divisionChange, effective time.Time) *Roster {
	n := r.edit()
	n.applyDivisions(changes, &moment{time: effective})
	return n.Roster
}

// seed makes the hashes of each process its own.
var seed = maphash.MakeSeed()

func hashOf[S ~string](s S) uint64 { return maphash.String(seed, string(s)) }

// number returns the number of the code, which it gets now if nothing named it
// before.
func (n edit) number(code DivisionCode) uint32 {
	if i := n.numberOf(code); i != 0 || code == "" {
		return i
	}
	return n.newNumber(DivisionCode(strings.Clone(string(code))))
}

// newNumber gives the code a number, and keeps its memory.
func (n edit) newNumber(code DivisionCode) uint32 {
	i := n.divisions.Len()
	n.divisions.Edit(i, n.own).code = code
	n.divisionNumber.add(i, hashOf(code), n.own)
	return i
}

// applySites puts the sites into the roster and returns their numbers. It takes them out of
// the list as it goes on: a country's sites would be in memory twice.
func (n edit) applySites(changed []*Site, seq ledger.Sequence) []uint32 {
	touched := make([]uint32, 0, len(changed))
	for k, s := range changed {
		changed[k] = nil
		i := n.siteNumberOf(s.ID)
		var old *Site
		var changes []ledger.Sequence
		if i != 0 {
			old = n.site(i)
			changes = old.changes
		} else {
			i = n.sites.Len()
		}
		n.putSite(i, old, n.compact(s, changes, seq))
		touched = append(touched, i)
	}
	if len(changed) > 1000 && len(changed) > n.NumSites()/2 {
		n.pack()
	}
	return touched
}

// putSite puts the site under the number, in place of the old one where there is one.
func (n edit) putSite(i uint32, old, site *Site) {
	*n.sites.Edit(i, n.own) = site
	if old == nil {
		n.siteNumber.add(i, hashOf(site.ID), n.own)
	} else if old.revoked {
		n.gone--
		old = nil // which is in no list
	}
	n.list(i, old, site)
}

// pack makes the lists of sites as small as they can be. A tree that has grown
// keeps nodes of which half is room; a copy of a node has none.
func (n edit) pack() {
	n.listed = *n.listed.Copy()
	n.listed.ScanMut(func(listing) bool { return true })
}

// A siteBlock is a site with room for what most sites have.
type siteBlock struct {
	Site
	place    [1]Place
	position Position
	change   [1]ledger.Sequence
}

// compact returns a copy of the site in few pieces of memory.
func (n edit) compact(s *Site, before []ledger.Sequence, seq ledger.Sequence) *Site {
	b := new(siteBlock)
	b.Site = *s
	size := len(s.ID) + len(s.RegistrationNo) + len(s.Name)
	for _, p := range s.Places {
		size += len(p.Address)
	}
	text := newText(size)
	b.ID, b.RegistrationNo, b.Name = SiteID(text.keep(string(s.ID))), text.keep(s.RegistrationNo), text.keep(s.Name)
	if len(s.Places) == 1 {
		b.Places = b.place[:]
	} else {
		b.Places = make([]Place, len(s.Places))
	}
	for i, p := range s.Places {
		p.Division = n.divisions.At(n.number(p.Division)).code // which all that stand there share
		p.Address = text.keep(p.Address)
		if p.Position != nil && i == 0 {
			b.position = *p.Position
			p.Position = &b.position
		}
		b.Places[i] = p
	}
	if len(before) == 0 {
		b.changes = b.change[:]
		b.changes[0] = seq
	} else {
		b.changes = append(slices.Clone(before), seq)
	}
	b.revision = 0
	return &b.Site
}

// A text keeps strings together in few pieces of memory.
type text struct {
	strings.Builder
	size int // of a piece
}

// newText returns a text for strings of about the size all together.
func newText(size int) *text { return &text{size: min(size, 1<<16)} }

// keep returns a copy of the string.
func (t *text) keep(s string) string {
	if t.Cap()-t.Len() < len(s) {
		t.Reset()
		t.Grow(max(t.size, len(s)))
	}
	at := t.Len()
	t.WriteString(s)
	return t.String()[at:]
}

// list brings the lists of sites from what they have of the site to what they are
// to have.
func (n edit) list(i uint32, old, site *Site) {
	from := 0
	if old != nil && old.RegistrationNo == site.RegistrationNo {
		for from < min(len(old.Places), len(site.Places)) && old.Places[from].Division == site.Places[from].Division {
			from++
		}
		if from < len(old.Places) {
			from = 0
		}
	}
	if from == 0 && old != nil {
		for _, d := range n.everAbove(nil, old.Places) {
			n.listed.Delete(listing{old.RegistrationNo, d, i})
		}
	}
	for _, d := range n.everAbove(nil, site.Places[from:]) {
		n.listed.Set(listing{site.RegistrationNo, d, i})
	}
}

// everAbove appends the numbers of the divisions in which the places lie, and of
// all that ever were above them, with 0 as the last. Each comes once.
func (n edit) everAbove(to []uint32, places []Place) []uint32 {
	for _, p := range places {
		to = n.climb(to, n.numberOf(p.Division))
	}
	if len(places) > 0 {
		to = append(to, 0)
	}
	return to
}

// maxAbove is how many divisions can ever have been above one.
const maxAbove = 1000

// climb appends the division and all that ever were above it, but 0.
func (n edit) climb(to []uint32, i uint32) []uint32 {
	if i == 0 || len(to) == maxAbove || slices.Contains(to, i) {
		return to
	}
	to = append(to, i)
	d := n.divisions.At(i)
	for v := range d.versions {
		to = n.climb(to, v.parent)
	}
	if d.rare != nil {
		for _, m := range d.rare.marks {
			to = n.climb(to, m.parent)
		}
	}
	return to
}

// applyOrder puts the order into the roster, as one that holds or as one that never was,
// and returns the numbers of the divisions that it names, or named before.
func (n edit) applyOrder(o *ClosureOrder, holds bool, seq ledger.Sequence) []uint32 {
	tree := n.byStart.tree
	tree = *tree.Copy()
	life := new(orderLife)
	var touched []uint32
	if before, ok := n.orders.Get(o.ID); ok {
		old := before.order
		life.changes = slices.Clone(before.changes)
		tree.Delete(old)
		if id, _ := n.orderNumbers.Get(old.Number); id == o.ID {
			n.orderNumbers.Delete(old.Number)
		}
		for _, code := range old.Divisions {
			i := n.number(code)
			n.editOrders(i, func(of *divisionOrders) {
				of.orders = slices.DeleteFunc(of.orders, func(x *ClosureOrder) bool { return x == old })
			})
			touched = append(touched, i)
		}
	}
	life.order, life.changes = o, append(life.changes, seq)
	for _, code := range o.Divisions {
		touched = append(touched, n.number(code))
	}
	slices.Sort(touched)
	touched = slices.Compact(touched)
	for _, code := range o.Divisions {
		n.editOrders(n.number(code), func(of *divisionOrders) {
			if at, found := slices.BinarySearchFunc(of.orders, o, compareOrders); holds && !found {
				of.orders = slices.Insert(of.orders, at, o)
			}
		})
	}
	for _, i := range touched {
		n.editOrders(i, func(of *divisionOrders) { of.events = append(of.events, seq) })
	}
	if holds {
		tree.Set(o)
		n.orderNumbers.Set(o.Number, o.ID)
	} else {
		life.revoked = seq
	}
	n.byStart = newOrderList(&tree)
	n.orders.Set(o.ID, life)
	return touched
}

// editOrders changes a copy of the division's orders.
func (n edit) editOrders(i uint32, change func(*divisionOrders)) {
	c := new(divisionOrders)
	if of, ok := n.ordersOf.Get(i); ok {
		c.orders, c.events = slices.Clone(of.orders), slices.Clone(of.events)
	}
	change(c)
	n.ordersOf.Set(i, c)
}

// applyDivisions ends or begins versions at the moment. A version that began at
// that very time is replaced, as if it had never been. Only where the code would
// have no version left does it stay, from the moment to the moment: sites may
// stand in the division, and stay under those above it.
//
// It returns the numbers of the divisions that were changed in more than their
// names, and those of the others.
func (n edit) applyDivisions(changes []divisionChange, at *moment) (touched, named []uint32) {
	children := map[uint32][]uint32{} // new ones, by parent
	size := 0
	for _, c := range changes {
		size += len(c.Code) + len(c.Name)
	}
	text := newText(size)
	for _, c := range changes {
		i := n.numberOf(c.Code)
		if i == 0 || !n.divisions.At(i).known() {
			if c.Op == endDivision {
				continue // what never was cannot end
			}
			if i == 0 {
				i = n.newNumber(DivisionCode(text.keep(string(c.Code))))
			}
		}
		if n.changeVersion(i, c, at, text) {
			touched = append(touched, i)
		} else {
			named = append(named, i)
		}
		if c.Op == beginDivision {
			parent := n.divisions.At(i).newest.parent
			children[parent] = append(children[parent], i)
		}
	}
	n.linkChildren(children)
	return touched, named
}

// changeVersion changes the versions of the division. It reports whether more
// than its name is another now.
func (n edit) changeVersion(i uint32, c divisionChange, at *moment, text *text) bool {
	parent := uint32(0)
	if c.Op == beginDivision {
		parent = n.number(c.Parent) // which may move the divisions
	}
	d := n.divisions.Edit(i, n.own)
	old := d.newest
	var rare rareDivision
	if d.rare != nil {
		rare.older, rare.marks, rare.revocations = slices.Clone(d.rare.older), slices.Clone(d.rare.marks), d.rare.revocations
		rare.lost = d.rare.lost
	}
	marked := func() { // the import leaves no trace in a version
		rare.marks = append(rare.marks, mark{sequence: at.sequence})
	}
	keep := old.from != nil // whether the old version stays
	if keep {
		switch begun := old.from.time.Equal(at.time); {
		case begun && (len(rare.older) > 0 || c.Op == beginDivision):
			keep = false
			rare.marks = append(rare.marks, mark{old.from.sequence, old.parent})
			if old.to != nil && old.to.sequence != old.from.sequence {
				rare.marks = append(rare.marks, mark{sequence: old.to.sequence})
			}
			if c.Op == endDivision {
				marked()
			}
		case old.to == nil:
			d.newest.to = at
		case c.Op == endDivision:
			marked()
		}
	}
	switch {
	case c.Op == beginDivision:
		if keep {
			rare.older = append(rare.older, d.newest)
		}
		name := old.name
		if name != c.Name || name == "" {
			name = text.keep(c.Name)
		}
		d.newest = version{name: name, from: at, parent: parent, level: uint8(c.Level)}
	case !keep:
		last := len(rare.older) - 1
		d.newest, rare.older = rare.older[last], rare.older[:last]
	}
	d.rare = nil
	if !rare.empty() {
		d.rare = new(rareDivision)
		*d.rare = rare
	}
	if parent != 0 && (old.from == nil || old.parent != parent) {
		n.listUnder(i, parent)
	}
	return c.Op == endDivision || old.from == nil || old.to != nil || old.parent != parent
}

// listUnder lists the sites of a division also in those above its new parent.
func (n edit) listUnder(i, parent uint32) {
	var all []listing
	n.listed.Ascend(listing{division: i}, func(l listing) bool {
		if l.division != i {
			return false
		}
		all = append(all, l)
		return true
	})
	if len(all) == 0 {
		return
	}
	for _, d := range n.climb(nil, parent) {
		for _, l := range all {
			n.listed.Set(listing{l.no, d, l.site})
		}
	}
}

// linkChildren adds divisions to the lists of their parents.
func (n edit) linkChildren(children map[uint32][]uint32) {
	for parent, numbers := range children {
		d := n.divisions.Edit(parent, n.own)
		if d.children != nil {
			numbers = append(slices.Clone(*d.children), numbers...)
		}
		slices.SortFunc(numbers, func(a, b uint32) int { return cmp.Compare(n.divisions.At(a).code, n.divisions.At(b).code) })
		numbers = slices.Clip(slices.Clone(slices.Compact(numbers)))
		d.children = &numbers
	}
}
