package sites

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"xuncha/ledger"
)

// An undo is what a roster is to have again when a change is taken back: what all the
// other changes that hold say of whatever that one touched. So the roster becomes as if
// the change had never been.
type undo struct {
	of *Event
	// sites are those that the change touched, in the order of its touched. A site that no
	// other change made is nil.
	sites []*Site
	// order is that of an order's entry; nil where no other change made it.
	order *ClosureOrder
	// divisions are the changes of each division that the change touched, oldest first.
	divisions []divisionLife
}

// A divisionLife is all that imports say of one division.
type divisionLife struct {
	number  uint32
	changes []datedChange
}

// A datedChange is a row of an import's changes, with when it takes effect.
type datedChange struct {
	divisionChange
	at *moment
}

// rows is how many rows of the roster an undo is about; 0 for none.
func (u *undo) rows() int {
	if u == nil {
		return 0
	}
	return len(u.sites) + len(u.divisions)
}

// revocable reports whether a change of the kind can be taken back.
func revocable(k ledger.Kind) bool {
	switch k {
	case ledger.KindRepaired, ledger.KindSetAside, KindChangeRevoked:
		return false
	}
	return true
}

// holds reports whether the change with the sequence can be taken back and was not.
func (r *Roster) holds(q ledger.Sequence) bool {
	e := r.event(q)
	return revocable(e.Kind) && e.RevokedBy == 0
}

// newestOf returns the newest of the changes that holds, other than one; 0 where there is
// none. Changes of a newer roster do not count.
func (r *Roster) newestOf(changes []ledger.Sequence, other ledger.Sequence) ledger.Sequence {
	for _, q := range slices.Backward(changes) {
		if q != other && q <= r.Revision() && r.holds(q) {
			return q
		}
	}
	return 0
}

// undo returns what taking back the change with the sequence restores. It is nil where
// that is no change which holds, as after a repair has set it aside: then nothing happens.
// It costs what reading the entries costs that touched the same before.
func (s *Service) undo(ctx context.Context, r *Roster, q ledger.Sequence) (*undo, error) {
	if q < 1 || q > r.Revision() || !r.holds(q) {
		return nil, nil
	}
	u := &undo{of: r.event(q)}
	var err error
	switch {
	case ofOrder(u.of.Kind):
		u.order = r.orderBefore(u.of)
	case u.of.Kind == KindDivisionsImported:
		u.divisions, err = s.divisionsWithout(ctx, r, u.of)
	default:
		u.sites, err = s.sitesWithout(ctx, r, u.of)
	}
	if err != nil {
		return nil, fmt.Errorf("what was before revision %d: %w", q, err)
	}
	return u, nil
}

// orderBefore returns the order of the entry as the newest other change of it that holds
// says; nil where none does.
func (r *Roster) orderBefore(of *Event) *ClosureOrder {
	life, _ := r.orders.Get(of.order.ID)
	if before := r.newestOf(life.changes, of.Sequence); before != 0 {
		return r.event(before).order
	}
	return nil
}

// readAtOnce is how many entries an undo reads at once.
const readAtOnce = 500

// sitesWithout returns the sites that the entry touched as the newest other change of each
// says, which names the whole site. A site that no other change made is nil.
func (s *Service) sitesWithout(ctx context.Context, r *Roster, of *Event) ([]*Site, error) {
	out := make([]*Site, len(of.touched))
	single := map[ledger.Sequence]int{} // index into out
	imported := map[ledger.Sequence]map[SiteID]int{}
	for i, n := range of.touched {
		site := r.site(n)
		q := r.newestOf(site.changes, of.Sequence)
		switch {
		case q == 0:
		case r.event(q).Kind != KindSitesImported:
			single[q] = i
		default:
			if imported[q] == nil {
				imported[q] = map[SiteID]int{}
			}
			imported[q][site.ID] = i
		}
	}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(single)), readAtOnce) {
		keys := make([]ledger.Key, len(some))
		for i, q := range some {
			keys[i] = ledger.Key{History: ledger.Roster, Sequence: q}
		}
		entries, err := s.Ledger.Entries(ctx, keys)
		if err != nil {
			return nil, err
		}
		for i, e := range entries {
			c, err := ParseContent(e)
			if err != nil {
				return nil, err
			}
			if c.Site == nil {
				return nil, fmt.Errorf("%w: %s at sequence %d is of no site", ledger.ErrBadRecord, e.History, e.Sequence)
			}
			out[single[some[i]]] = c.Site
		}
	}
	for _, q := range slices.Sorted(maps.Keys(imported)) {
		c, err := s.readEntry(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, site := range c.sites {
			if i, ok := imported[q][site.ID]; ok {
				out[i] = site
			}
		}
	}
	return out, nil
}

// divisionsWithout returns what all other imports say of the divisions that the entry
// touched.
func (s *Service) divisionsWithout(ctx context.Context, r *Roster, of *Event) ([]divisionLife, error) {
	out := make([]divisionLife, 0, len(of.touched)+len(of.named))
	at := map[uint32]int{} // index into out, by number
	imports := map[ledger.Sequence]bool{}
	var touched []ledger.Sequence
	for _, n := range slices.Concat(of.touched, of.named) {
		if _, twice := at[n]; twice {
			continue
		}
		at[n] = len(out)
		out = append(out, divisionLife{number: n})
		touched = r.divisions.At(n).appendImports(touched[:0])
		for _, q := range touched {
			imports[q] = q != of.Sequence && r.holds(q)
		}
	}
	for _, q := range slices.Sorted(maps.Keys(imports)) {
		if !imports[q] {
			continue
		}
		c, err := s.readEntry(ctx, q)
		if err != nil {
			return nil, err
		}
		effect := &moment{c.effective, q}
		for _, d := range c.divisions {
			if i, ok := at[r.numberOf(d.Code)]; ok {
				out[i].changes = append(out[i].changes, datedChange{d, effect})
			}
		}
	}
	return out, nil
}

// readEntry reads an entry of the roster's history with its rows.
func (s *Service) readEntry(ctx context.Context, q ledger.Sequence) (change, error) {
	e, err := s.projection.Entry(ctx, q)
	if err != nil {
		return change{}, err
	}
	return readChange(ctx, s.Rows, e)
}

// applyUndo makes the roster as if the change had never been, and lets the event tell of
// it.
func (n edit) applyUndo(u *undo, event *Event) {
	of := u.of
	n.tell(of, event)
	switch {
	case ofOrder(of.Kind):
		if u.order != nil {
			n.applyOrder(u.order, true, event.Sequence)
		} else {
			n.applyOrder(of.order, false, event.Sequence)
		}
	case of.Kind == KindDivisionsImported:
		n.undoDivisions(u.divisions, event.Sequence)
	default:
		for i, site := range of.touched {
			n.undoSite(site, u.sites[i], event.Sequence)
		}
	}
}

// tell lets each of two events tell that the second takes back the first.
func (n edit) tell(of, event *Event) {
	revoked := *of
	revoked.RevokedBy, event.Revokes = event.Sequence, of.Sequence
	*n.events.Edit(uint32(of.Sequence-1), n.own) = &revoked
	event.touched, event.named = of.touched, of.named
}

// undoSite puts the site as it was before in place of what it is; where it is nil, there
// never was one.
func (n edit) undoSite(i uint32, before *Site, seq ledger.Sequence) {
	old := n.site(i)
	if before != nil {
		site := n.compact(before, old.changes, seq)
		site.revision = n.newestOf(old.changes, 0)
		n.putSite(i, old, site)
		return
	}
	never := *old
	never.changes = append(slices.Clone(old.changes), seq)
	never.revision, never.revoked = 0, true
	*n.sites.Edit(i, n.own) = &never
	if !old.revoked {
		n.gone++
		n.unlist(i, old)
	}
}

// unlist takes the site out of all lists.
func (n edit) unlist(i uint32, site *Site) {
	for _, d := range n.everAbove(nil, site.Places) {
		n.listed.Delete(listing{site.RegistrationNo, d, i})
	}
}

// undoDivisions makes the versions of divisions anew.
func (n edit) undoDivisions(lives []divisionLife, seq ledger.Sequence) {
	below := map[uint32]bool{} // the sites that ever stand in one of them
	for _, l := range lives {
		n.listed.Ascend(listing{division: l.number}, func(o listing) bool {
			if o.division == l.number {
				below[o.site] = true
			}
			return o.division == l.number
		})
	}
	for site := range below {
		n.unlist(site, n.site(site))
	}
	size := 0
	for _, l := range lives {
		for _, c := range l.changes {
			size += len(c.Name)
		}
	}
	text := newText(size)
	first := []ledger.Sequence{seq}   // which most of them share
	children := map[uint32][]uint32{} // by parent
	for _, l := range lives {
		n.remake(l, first, text)
		for v := range n.divisions.At(l.number).versions {
			children[v.parent] = append(children[v.parent], l.number)
		}
	}
	n.linkChildren(children)
	for site := range below {
		s := n.site(site)
		for _, d := range n.everAbove(nil, s.Places) {
			n.listed.Set(listing{s.RegistrationNo, d, site})
		}
	}
}

// remake makes the versions and marks of a division anew from all its changes.
func (n edit) remake(l divisionLife, revocation []ledger.Sequence, text *text) {
	d := n.divisions.Edit(l.number, n.own)
	rare := rareDivision{revocations: revocation}
	if d.rare != nil {
		rare.revocations = slices.Concat(d.rare.revocations, revocation)
		rare.lost = d.rare.lost
	}
	if d.known() {
		rare.lost = d.newest.parent
	}
	d.newest, d.rare = version{}, &rare
	for _, c := range l.changes {
		if c.Op == beginDivision || n.divisions.At(l.number).known() {
			n.changeVersion(l.number, c.divisionChange, c.at, text)
		}
	}
}
