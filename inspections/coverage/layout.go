package coverage

import (
	"cmp"
	"maps"
	"slices"

	"github.com/tidwall/btree"

	"xuncha/ledger"
	"xuncha/sites"
)

// A layout is a roster laid out for counting: when each site is due, and the places
// where sites can be counted. It never changes once made. The layout of a later roster
// is made of it by laying out anew the sites that differ.
type layout struct {
	roster *sites.Roster
	sites  vector[laidOut] // by the site's number
	places vector[place]
	byCode *btree.Map[sites.DivisionCode, []int32] // the places of a division
	counts int32                                   // how many places have figures of their own
}

// A laidOut is one site. It is zero where the roster does not have the site.
type laidOut struct {
	site  *sites.Site
	spans []span
	// stays say from when on the site stands at which place, the first for all time
	// before too. There is at least one.
	stays []stay
}

type stay struct {
	from  int64
	place int32
}

// A place is a division under one line of parents. A division that got another parent
// has two, so that what was counted before and after stay apart. Places are named by
// their numbers; 0 is no place.
type place struct {
	code     sites.DivisionCode
	parent   int32
	children []int32
	// sites are those that stand here at some time, by registration number.
	sites []int32
	// count is how many sites stand here or below at some time. One that moved within
	// the division counts more than once.
	count int32
	// own is the number of the figures that views keep of this place, or -1. Those of
	// the others are counted when they are asked for, of a few sites.
	own int32
	// low and high are the least and the greatest village in which a site stands, here
	// or below. Both are 0 where there is none.
	low, high village
}

// A village is a division's code as a number, filled up with zeros to 12 digits, so
// that codes and numbers have the same order.
type village uint64

func villageOf(code sites.DivisionCode) village {
	var n village
	for i := range 12 {
		n *= 10
		if i < len(code) {
			n += village(code[i]-'0') % 10
		}
	}
	return n
}

// few says which places are counted when they are asked for, and have no figures of
// their own.
type few struct {
	// places is how many places have figures of their own, however few sites they have.
	places int
	// sites is how many sites a place of a larger roster has, at least, for figures of
	// its own to be kept. To count as many takes some microseconds.
	sites int32
}

// noLayout is the layout of an empty roster.
func noLayout() *layout {
	l := &layout{roster: new(sites.Roster), byCode: new(btree.Map[sites.DivisionCode, []int32])}
	l.places.set(0, place{own: -1})
	return l
}

func (l *layout) revision() ledger.Sequence { return l.roster.Revision() }

// ofSite returns how the site with the number is laid out.
func (l *layout) ofSite(i int32) *laidOut {
	if s := l.sites.ref(i); s != nil {
		return s
	}
	return &laidOut{}
}

// placeAt returns where the site stands at t.
func (s *laidOut) placeAt(t int64) int32 {
	i := len(s.stays) - 1
	for i > 0 && t < s.stays[i].from {
		i--
	}
	return s.stays[i].place
}

// path returns the codes from the place up.
func (l *layout) path(p int32) []sites.DivisionCode {
	var out []sites.DivisionCode
	for p != 0 {
		at := l.places.ref(p)
		out = append(out, at.code)
		p = at.parent
	}
	return out
}

// within reports whether the place is, or lies below, the division.
func (l *layout) within(p int32, code sites.DivisionCode) bool {
	for p != 0 {
		at := l.places.ref(p)
		if at.code == code {
			return true
		}
		p = at.parent
	}
	return false
}

// of returns the places of a division.
func (l *layout) of(code sites.DivisionCode) []int32 {
	p, _ := l.byCode.Get(code)
	return p
}

// A relayout makes the layout of another roster from a layout.
type relayout struct {
	*layout
	// fresh are the places whose list of sites nobody else has.
	fresh map[int32]struct{}
	few   few
	// whole means that all sites are laid out, and settleAll is called at the end.
	whole bool
}

// relayoutFor begins the layout of the roster. The layout that it is made of is not
// changed, but only one goroutine at a time may begin with the same one.
func (l *layout) relayoutFor(r *sites.Roster, f few) *relayout {
	return &relayout{
		layout: &layout{roster: r, sites: l.sites.edit(), places: l.places.edit(), byCode: l.byCode.Copy(), counts: l.counts},
		fresh:  map[int32]struct{}{},
		few:    f,
	}
}

// site lays out the site with the number as the roster has it; nil where it does not.
func (l *relayout) site(number int32, s *sites.Site) {
	var is laidOut
	if s != nil {
		is = laidOut{site: s, spans: spansOf(l.roster.Closures(s), l.intern)}
		for _, p := range l.roster.Placements(s) {
			n := stay{place: l.intern(p.Path)}
			if len(is.stays) > 0 {
				n.from = nanos(p.From)
			}
			is.stays = append(is.stays, n)
		}
	}
	was := *l.ofSite(number)
	before, after := was.standing(), is.standing()
	for _, p := range before {
		if !slices.Contains(after, p) {
			l.leave(number, p)
		}
	}
	l.sites.set(number, is)
	for _, p := range after {
		if !slices.Contains(before, p) {
			l.join(number, p)
		}
	}
}

// standing returns the places where the site ever stands, each once.
func (s *laidOut) standing() []int32 {
	var out []int32
	for _, n := range s.stays {
		if !slices.Contains(out, n.place) {
			out = append(out, n.place)
		}
	}
	return out
}

// seek returns how many of the sites, which are by registration number, have one that
// is less than no.
func (l *layout) seek(list []int32, no string) int {
	// Most come in this order.
	if n := len(list); n == 0 || l.number(list[n-1]) < no {
		return n
	}
	i, _ := slices.BinarySearchFunc(list, no, func(i int32, no string) int { return cmp.Compare(l.number(i), no) })
	return i
}

// number returns the registration number of a site.
func (l *layout) number(i int32) string { return l.ofSite(i).site.RegistrationNo }

// ownSites returns a place whose list of sites may be changed.
func (l *relayout) ownSites(p int32) *place {
	at := l.places.change(p)
	if _, fresh := l.fresh[p]; !fresh {
		at.sites = slices.Clone(at.sites)
		l.fresh[p] = struct{}{}
	}
	return at
}

func (l *relayout) join(number, p int32) {
	at := l.ownSites(p)
	at.sites = slices.Insert(at.sites, l.seek(at.sites, l.number(number)), number)
	v := villageOf(at.code)
	for ; p != 0; p = l.places.ref(p).parent {
		at := l.places.change(p)
		at.count++
		if at.low == 0 || v < at.low {
			at.low = v
		}
		at.high = max(at.high, v)
		if !l.whole {
			l.settle(at)
		}
	}
}

// settle gives a place figures of its own where it should have some.
func (l *relayout) settle(at *place) {
	if at.own < 0 && (l.places.len() <= l.few.places || at.count > l.few.sites) {
		at.own = l.counts
		l.counts++
	}
}

// settleAll is settle for all places, once it is known how many there are.
func (l *relayout) settleAll() {
	for p := int32(1); int(p) < l.places.len(); p++ {
		l.settle(l.places.change(p))
	}
}

// leave takes a site out of a place. The bounds of the villages stay as wide as they
// were: they only say where it is of no use to look.
func (l *relayout) leave(number, p int32) {
	at := l.ownSites(p)
	if i := slices.Index(at.sites, number); i >= 0 {
		at.sites = slices.Delete(at.sites, i, i+1)
	}
	for ; p != 0; p = l.places.ref(p).parent {
		l.places.change(p).count--
	}
}

// intern returns the place at the end of a path that leads from a village up.
func (l *relayout) intern(path []sites.DivisionCode) int32 {
	if len(path) == 0 {
		return 0
	}
	known := l.of(path[0])
	for _, p := range known {
		if l.lies(p, path) {
			return p
		}
	}
	above := l.intern(path[1:])
	p := int32(l.places.len())
	l.places.set(p, place{code: path[0], parent: above, own: -1})
	l.byCode.Set(path[0], append(slices.Clip(known), p))
	parent := l.places.change(above)
	parent.children = append(slices.Clip(parent.children), p)
	return p
}

// lies reports whether the place is the one at the end of the path.
func (l *layout) lies(p int32, path []sites.DivisionCode) bool {
	for _, code := range path {
		at := l.places.ref(p)
		if p == 0 || at.code != code {
			return false
		}
		p = at.parent
	}
	return p == 0
}

// sitesUnder returns the sites that stand in one of the places, or below, at some time,
// each once. Places of which skip says so are left out, with all below them.
func (l *layout) sitesUnder(places []int32, skip func(place int32) bool) []int32 {
	seen := map[int32]struct{}{}
	var descend func(places []int32)
	descend = func(places []int32) {
		for _, p := range places {
			if skip != nil && skip(p) {
				continue
			}
			at := l.places.ref(p)
			for _, i := range at.sites {
				seen[i] = struct{}{}
			}
			descend(at.children)
		}
	}
	descend(places)
	return slices.Collect(maps.Keys(seen))
}
