package sites

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sort"
	"time"

	"xuncha/ledger"
)

// A Roster is what the roster's history adds up to at one revision. It never
// changes once made, so readers share it without a lock.
type Roster struct {
	events []Event

	divisions map[DivisionCode]*division
	roots     []DivisionCode

	sites        map[SiteID]*Site
	registration map[string]SiteID
	listed       []*Site // by registration number

	orders    map[OrderID]*ClosureOrder
	byNumber  map[string]OrderID
	orderList []*ClosureOrder // by start, then number
}

// division is the life of one code.
type division struct {
	versions []Division     // oldest first
	children []DivisionCode // every code that ever named this one as its parent, sorted
}

// An Event is an entry of the roster's history, without its record.
type Event struct {
	Sequence ledger.Sequence
	ID       string
	Kind     ledger.Kind
	Time     time.Time

	order *ClosureOrder             // of an order's entry
	codes map[DivisionCode]struct{} // of a division import's entry: the codes that it touched
}

func newRoster() *Roster {
	return &Roster{
		divisions:    map[DivisionCode]*division{},
		sites:        map[SiteID]*Site{},
		registration: map[string]SiteID{},
		orders:       map[OrderID]*ClosureOrder{},
		byNumber:     map[string]OrderID{},
	}
}

// Revision is the sequence of the newest entry that the roster holds; 0 for an
// empty roster.
func (r *Roster) Revision() ledger.Sequence { return ledger.Sequence(len(r.events)) }

// Time is when that entry was received; zero for an empty roster.
func (r *Roster) Time() time.Time {
	if len(r.events) == 0 {
		return time.Time{}
	}
	return r.events[len(r.events)-1].Time
}

// Site returns the site, or ErrSiteUnknown.
func (r *Roster) Site(id SiteID) (*Site, error) {
	s, ok := r.sites[id]
	if !ok {
		return nil, fmt.Errorf("site %s: %w", clip(string(id)), ErrSiteUnknown)
	}
	return s, nil
}

// SiteByRegistration returns the site with the registration number, or
// ErrSiteUnknown.
func (r *Roster) SiteByRegistration(no string) (*Site, error) {
	id, ok := r.registration[no]
	if !ok {
		return nil, fmt.Errorf("site with registration number %q: %w", clip(no), ErrSiteUnknown)
	}
	return r.sites[id], nil
}

// Sites gives every site that is or ever was on the roster, by registration
// number.
func (r *Roster) Sites() iter.Seq[*Site] { return slices.Values(r.listed) }

// NumSites is how many sites Sites gives.
func (r *Roster) NumSites() int { return len(r.listed) }

// SitesAfter gives the sites with a registration number greater than no, by
// registration number. Where divisions are named, it gives only those that
// SitesIn gives for one of them, each once.
func (r *Roster) SitesAfter(no string, in ...DivisionCode) iter.Seq[*Site] {
	return func(yield func(*Site) bool) {
		var within map[SiteID]bool
		if len(in) > 0 {
			within = map[SiteID]bool{}
			for _, code := range in {
				for s := range r.SitesIn(code) {
					within[s.ID] = true
				}
			}
		}
		from := sort.Search(len(r.listed), func(i int) bool { return r.listed[i].RegistrationNo > no })
		for _, s := range r.listed[from:] {
			if (within == nil || within[s.ID]) && !yield(s) {
				return
			}
		}
	}
}

// SitesIn gives every site that ever stands in the division, or in one below
// any that ever named it as its parent. Each comes once, in no order.
func (r *Roster) SitesIn(code DivisionCode) iter.Seq[*Site] {
	return func(yield func(*Site) bool) {
		below := map[DivisionCode]bool{}
		var descend func(DivisionCode)
		descend = func(c DivisionCode) {
			if below[c] {
				return
			}
			below[c] = true
			if d, ok := r.divisions[c]; ok {
				for _, child := range d.children {
					descend(child)
				}
			}
		}
		descend(code)
		for _, s := range r.listed {
			if slices.ContainsFunc(s.Places, func(p Place) bool { return below[p.Division] }) && !yield(s) {
				return
			}
		}
	}
}

// Touched gives the sites that the roster's entries after the revision since
// may have changed. It promises this: a site is among them if its Registered,
// Deregistered, Placements or Closures differ between r and the roster at that
// revision, also if one of the two rosters does not have it. Others may be among
// them too. Each comes once, in no order.
func (r *Roster) Touched(since ledger.Sequence) iter.Seq[SiteID] {
	return func(yield func(SiteID) bool) {
		if since >= r.Revision() {
			return
		}
		for _, s := range r.listed {
			if !yield(s.ID) {
				return
			}
		}
	}
}

// Order returns the closure order, or ErrOrderUnknown.
func (r *Roster) Order(id OrderID) (*ClosureOrder, error) {
	o, ok := r.orders[id]
	if !ok {
		return nil, fmt.Errorf("closure order %s: %w", clip(string(id)), ErrOrderUnknown)
	}
	return o, nil
}

// Orders returns every closure order by its start, the ended ones included.
// The slice is the roster's own: do not change it.
func (r *Roster) Orders() []*ClosureOrder { return r.orderList }

// Division returns the division as it is in force at t. The error is
// ErrDivisionUnknown for a code that never was and ErrDivisionEnded for one
// that is not in force then.
func (r *Roster) Division(code DivisionCode, t time.Time) (Division, error) {
	d, ok := r.divisions[code]
	if !ok {
		return Division{}, fmt.Errorf("division %s: %w", clip(string(code)), ErrDivisionUnknown)
	}
	for _, v := range d.versions {
		if v.In(t) {
			return v, nil
		}
	}
	return Division{}, fmt.Errorf("division %s: %w", code, ErrDivisionEnded)
}

// LastDivision returns the division as it is in force at t, or, where it is
// not, as it last was before, or else as it first was after. A site whose
// village ended keeps a path through the hierarchy by this rule until it is
// moved. The error is ErrDivisionUnknown.
func (r *Roster) LastDivision(code DivisionCode, t time.Time) (Division, error) {
	d, ok := r.divisions[code]
	if !ok {
		return Division{}, fmt.Errorf("division %s: %w", clip(string(code)), ErrDivisionUnknown)
	}
	best := d.versions[0]
	for _, v := range d.versions[1:] {
		if !v.From.After(t) {
			best = v
		}
	}
	return best, nil
}

// Versions returns every version of a division, oldest first; none for a code
// that never was. The slice is the roster's own: do not change it.
func (r *Roster) Versions(code DivisionCode) []Division {
	if d, ok := r.divisions[code]; ok {
		return d.versions
	}
	return nil
}

// Children returns the divisions in force at t whose parent is code, ordered
// by code; for an empty code the cities.
func (r *Roster) Children(code DivisionCode, t time.Time) []Division {
	codes := r.roots
	if code != "" {
		d, ok := r.divisions[code]
		if !ok {
			return nil
		}
		codes = d.children
	}
	var out []Division
	for _, c := range codes {
		if d, err := r.Division(c, t); err == nil && d.Parent == code {
			out = append(out, d)
		}
	}
	return out
}

// Path returns the codes from the division up to its city as they lie above
// one another at t, by the rule of LastDivision.
func (r *Roster) Path(code DivisionCode, t time.Time) []DivisionCode {
	path := make([]DivisionCode, 0, 4)
	for code != "" && len(path) < 8 {
		d, err := r.LastDivision(code, t)
		if err != nil {
			break
		}
		path = append(path, code)
		code = d.Parent
	}
	return path
}

// Within reports whether code is above, or is, the division below at t.
func (r *Roster) Within(below, code DivisionCode, t time.Time) bool {
	return slices.Contains(r.Path(below, t), code)
}

// A Placement is a time during which a site stands under the same divisions.
type Placement struct {
	// From is the placement's first moment; the zero time in the first one.
	From time.Time
	// To is the first moment after it; zero in the last one.
	To time.Time
	// Path leads from the village up to the city.
	Path []DivisionCode
}

// Placements returns where the site stood through all time, oldest first and
// without gaps, with a new placement at each moment when the site moved or the
// hierarchy above it changed. Registration does not matter here.
func (r *Roster) Placements(s *Site) []Placement {
	cuts := []time.Time{{}}
	for i, p := range s.Places {
		if i > 0 {
			cuts = append(cuts, p.From)
		}
		cuts = r.appendCuts(cuts, p.Division, 0)
	}
	slices.SortFunc(cuts, time.Time.Compare)
	var out []Placement
	for _, t := range cuts {
		path := r.Path(s.PlaceAt(t).Division, t)
		if n := len(out); n > 0 {
			if slices.Equal(out[n-1].Path, path) {
				continue
			}
			if out[n-1].From.Equal(t) {
				out[n-1].Path = path
				continue
			}
			out[n-1].To = t
		}
		out = append(out, Placement{From: t, Path: path})
	}
	return out
}

// appendCuts appends the moments at which the path above code may change.
func (r *Roster) appendCuts(cuts []time.Time, code DivisionCode, depth int) []time.Time {
	d, ok := r.divisions[code]
	if !ok || depth > 8 {
		return cuts
	}
	for i, v := range d.versions {
		if i > 0 && v.Parent != d.versions[i-1].Parent {
			cuts = append(cuts, v.From)
		}
		if i == 0 || v.Parent != d.versions[i-1].Parent {
			cuts = r.appendCuts(cuts, v.Parent, depth+1)
		}
	}
	return cuts
}

// A Closure is a time during which one order closes one site, which is
// registered and has one placement meanwhile.
type Closure struct {
	Order *ClosureOrder
	// From and To bound the time, [From, To).
	From, To time.Time
	// Path is the placement's.
	Path []DivisionCode
}

// Closures returns when and under which orders the site is closed, by From.
// The site is due at exactly the moments that lie in one of them.
func (r *Roster) Closures(s *Site) []Closure {
	var out []Closure
	for _, p := range r.Placements(s) {
		for _, o := range r.orderList {
			if !o.covers(p.Path) {
				continue
			}
			from := later(later(p.From, o.Start), s.Registered)
			to := o.End
			for _, t := range []time.Time{p.To, s.Deregistered} {
				if !t.IsZero() && t.Before(to) {
					to = t
				}
			}
			if from.Before(to) {
				out = append(out, Closure{Order: o, From: from, To: to, Path: p.Path})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Closure) int { return a.From.Compare(b.From) })
	return out
}

// OrderAt returns the order that closes the site at t, the one that started
// first where there are several, or nil where none does.
func (r *Roster) OrderAt(s *Site, t time.Time) *ClosureOrder {
	if !s.RegisteredAt(t) {
		return nil
	}
	var path []DivisionCode
	for _, o := range r.orderList {
		if !o.InForce(t) {
			continue
		}
		if path == nil {
			path = r.Path(s.PlaceAt(t).Division, t)
		}
		if o.covers(path) {
			return o
		}
	}
	return nil
}

// Concerning returns the events that concern the site, oldest first: those
// that made or changed it, the closure orders that close it, and the division
// imports that touched a division on its path.
func (r *Roster) Concerning(s *Site) []Event {
	var out []Event
	own := s.changes
	placements := r.Placements(s)
	for _, e := range r.events {
		switch {
		case len(own) > 0 && own[0] == e.Sequence:
			own = own[1:]
			out = append(out, e)
		case e.order != nil:
			if slices.ContainsFunc(placements, func(p Placement) bool {
				return e.order.covers(p.Path) && p.From.Before(e.order.PlannedEnd) && (p.To.IsZero() || p.To.After(e.order.Start))
			}) {
				out = append(out, e)
			}
		case e.codes != nil:
			if slices.ContainsFunc(placements, func(p Placement) bool {
				return slices.ContainsFunc(p.Path, func(c DivisionCode) bool { _, ok := e.codes[c]; return ok })
			}) {
				out = append(out, e)
			}
		}
	}
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// A change is what one entry of the roster's history does to the roster.
type change struct {
	event     Event
	sites     []*Site // as they are after it
	order     *ClosureOrder
	divisions []divisionChange
	effective time.Time // of the division changes
}

// apply returns the roster after the change. Maps that the change does not
// touch are shared with r.
func (r *Roster) apply(c change) *Roster {
	n := *r
	if len(c.divisions) > 0 {
		c.event.codes = make(map[DivisionCode]struct{}, len(c.divisions))
		for _, d := range c.divisions {
			c.event.codes[d.Code] = struct{}{}
		}
		n.applyDivisions(c.divisions, c.effective)
	}
	if len(c.sites) > 0 {
		n.applySites(c.sites, c.event.Sequence)
	}
	if c.order != nil {
		c.event.order = c.order
		n.orders = maps.Clone(r.orders)
		n.orders[c.order.ID] = c.order
		n.byNumber = maps.Clone(r.byNumber)
		n.byNumber[c.order.Number] = c.order.ID
		n.orderList = slices.SortedFunc(maps.Values(n.orders), func(a, b *ClosureOrder) int {
			return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Number, b.Number))
		})
	}
	// Each roster is applied to once at most, so the array may be shared.
	n.events = append(r.events, c.event)
	return &n
}

// preview returns the roster as it would be after changes of divisions, without
// an event of them.
func (r *Roster) preview(changes []divisionChange, effective time.Time) *Roster {
	n := *r
	n.applyDivisions(changes, effective)
	return &n
}

func (r *Roster) applySites(changed []*Site, seq ledger.Sequence) {
	r.sites = maps.Clone(r.sites)
	r.registration = maps.Clone(r.registration)
	for _, s := range changed {
		s := *s
		if old, ok := r.sites[s.ID]; ok {
			s.changes = slices.Clone(old.changes)
			delete(r.registration, old.RegistrationNo)
		}
		s.changes = append(s.changes, seq)
		r.sites[s.ID] = &s
		r.registration[s.RegistrationNo] = s.ID
	}
	r.listed = slices.SortedFunc(maps.Values(r.sites), func(a, b *Site) int {
		return cmp.Compare(a.RegistrationNo, b.RegistrationNo)
	})
}

// applyDivisions ends or begins versions at the time effective. A version that
// began at that very time is replaced, as if it had never been. Only where the
// code would have no version left does it stay, from effective to effective:
// sites may stand in the division, and stay under those above it.
func (r *Roster) applyDivisions(changes []divisionChange, effective time.Time) {
	r.divisions = maps.Clone(r.divisions)
	parents := map[DivisionCode]struct{}{}
	for _, c := range changes {
		n := &division{}
		if old, ok := r.divisions[c.Code]; ok {
			n.versions = slices.Clone(old.versions)
			n.children = old.children
		} else if c.Op == endDivision {
			continue // what never was cannot end
		}
		if k := len(n.versions); k > 0 {
			last := &n.versions[k-1]
			switch begun := last.From.Equal(effective); {
			case begun && (k > 1 || c.Op == beginDivision):
				n.versions = n.versions[:k-1]
			case last.To.IsZero():
				last.To = effective
			}
		}
		if c.Op == beginDivision {
			n.versions = append(n.versions, Division{Code: c.Code, Name: c.Name, Level: c.Level, Parent: c.Parent, From: effective})
			parents[c.Parent] = struct{}{}
		}
		r.divisions[c.Code] = n
	}
	r.linkChildren(changes, parents)
}

// linkChildren adds the codes that begin to the lists of their parents.
func (r *Roster) linkChildren(changes []divisionChange, parents map[DivisionCode]struct{}) {
	lists := make(map[DivisionCode][]DivisionCode, len(parents))
	for p := range parents {
		if p == "" {
			lists[p] = slices.Clone(r.roots)
		} else if d, ok := r.divisions[p]; ok {
			lists[p] = slices.Clone(d.children)
		}
	}
	for _, c := range changes {
		if c.Op == beginDivision {
			lists[c.Parent] = append(lists[c.Parent], c.Code)
		}
	}
	for p, codes := range lists {
		slices.Sort(codes)
		codes = slices.Compact(codes)
		if p == "" {
			r.roots = codes
		} else if d, ok := r.divisions[p]; ok {
			r.divisions[p] = &division{versions: d.versions, children: codes}
		}
	}
}
