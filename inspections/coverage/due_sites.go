package coverage

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"time"

	"xuncha/sites"
)

// A SiteStatus says how one due site stands.
type SiteStatus struct {
	Site *sites.Site
	// Path is where it is counted, from the village up to the widest division.
	Path                                          []sites.DivisionCode
	Inspected, Overdue, NeverInspected, FoundOpen bool
	// LastCapture is that of the last visit before the as-of moment, in the
	// window or not; zero where there is none.
	LastCapture time.Time
	// DueSince and Order are those of the duty by which the site is judged. Of
	// orders that overlap, Order is the one with the shortest interval.
	DueSince time.Time
	Order    *sites.ClosureOrder
	// OverdueSince is when the interval had passed; zero where the site is not
	// overdue.
	OverdueSince time.Time
}

// A SiteRef names a place in a list of due sites.
type SiteRef struct {
	Village        sites.DivisionCode
	RegistrationNo string
}

// A SitePage is a part of a list of due sites.
type SitePage struct {
	Sites []SiteStatus
	// Total is how many sites the whole list has.
	Total int64
	// Next names the last of the Sites; it is zero at the end of the list.
	Next SiteRef
	Cost Cost
}

// Sites returns up to n of the due sites behind a figure: those in the state, or all
// for Due. They are ordered by village and registration number, and begin after the
// site given, which need not be in the list; the zero SiteRef begins at the first.
// The errors are those of Report.
func (x *Index) Sites(ctx context.Context, q Query, state State, after SiteRef, n int) (SitePage, error) {
	m := x.newMeter(ctx)
	defer m.rest()
	f, _, err := x.figures(q, m)
	if err != nil {
		return SitePage{Cost: m.cost}, err
	}
	l := siteLister{figures: f, meter: m, state: state | Due, after: after}
	page, err := l.page(f.layout.of(q.Division), n)
	page.Cost = m.cost
	return page, err
}

// A siteLister goes through the villages below some places in the order of their codes,
// and leaves out those that have no site in the state. So a page costs the same
// wherever it lies.
type siteLister struct {
	*figures
	meter *meter
	state State
	after SiteRef
	todo  branches
}

// A branch is a place whose sites, or those below it, are still to be listed.
type branch struct {
	place int32
	// first is the least village in which it may have sites.
	first village
	// own means that only the sites of the place itself are meant.
	own bool
}

// branches is a heap of them, the one with the least village on top. What may have
// villages below comes before the sites of the same village, so that those of all
// places with one code are on top together.
type branches []branch

func (s branches) Len() int { return len(s) }
func (s branches) Less(i, j int) bool {
	return s[i].first < s[j].first || s[i].first == s[j].first && !s[i].own && s[j].own
}
func (s branches) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *branches) Push(b any)   { *s = append(*s, b.(branch)) }
func (s *branches) Pop() any {
	last := len(*s) - 1
	b := (*s)[last]
	*s = (*s)[:last]
	return b
}

func (l *siteLister) page(places []int32, n int) (page SitePage, err error) {
	for _, p := range places {
		f, err := l.at(p, l.meter)
		if err != nil {
			return page, err
		}
		page.Total += f.Figures.count(l.state)
		if err := l.branch(p); err != nil {
			return page, err
		}
	}
	for len(l.todo) > 0 {
		top := heap.Pop(&l.todo).(branch)
		if !top.own {
			if err := l.open(top.place); err != nil {
				return page, err
			}
			continue
		}
		same := []int32{top.place}
		for len(l.todo) > 0 && l.todo[0].own && l.todo[0].first == top.first {
			same = append(same, heap.Pop(&l.todo).(branch).place)
		}
		more, err := l.village(&page, same, n)
		if err != nil {
			return page, err
		}
		if more {
			last := page.Sites[n-1]
			page.Next = SiteRef{last.Path[0], last.Site.RegistrationNo}
			return page, nil
		}
	}
	return page, nil
}

// branch adds a place to what is to be listed, if there is something.
func (l *siteLister) branch(p int32) error {
	at := l.layout.places.ref(p)
	first := max(at.low, villageOf(l.after.Village))
	if at.count == 0 || at.high < first {
		return nil
	}
	f, err := l.at(p, l.meter)
	if err == nil && f.Figures.count(l.state) > 0 {
		heap.Push(&l.todo, branch{place: p, first: first})
	}
	return err
}

// open replaces a place by its own sites and the places below it.
func (l *siteLister) open(p int32) error {
	at := l.layout.places.ref(p)
	if v := villageOf(at.code); len(at.sites) > 0 && v >= villageOf(l.after.Village) {
		heap.Push(&l.todo, branch{place: p, first: v, own: true})
	}
	for _, c := range at.children {
		if err := l.branch(c); err != nil {
			return err
		}
	}
	return l.meter.spend(len(at.children))
}

// village lists the sites of places that have one code. It reports whether there are
// more than the page takes.
func (l *siteLister) village(page *SitePage, places []int32, n int) (more bool, err error) {
	type candidate struct{ place, site int32 }
	var all []candidate
	for _, p := range places {
		at := l.layout.places.ref(p)
		list := at.sites
		if at.code == l.after.Village {
			i := l.layout.seek(list, l.after.RegistrationNo)
			if i < len(list) && l.layout.number(list[i]) == l.after.RegistrationNo {
				i++
			}
			list = list[i:]
		}
		for _, s := range list {
			all = append(all, candidate{p, s})
		}
	}
	if len(places) > 1 {
		slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(l.layout.number(a.site), l.layout.number(b.site)) })
	}
	for _, c := range all {
		s := l.share(c.site)
		if err := l.meter.spend(s.cost()); err != nil {
			return false, err
		}
		if s.place != c.place || s.state&l.state != l.state {
			continue
		}
		if len(page.Sites) == n {
			return true, nil
		}
		page.Sites = append(page.Sites, l.status(c.site, &s))
	}
	return false, nil
}

// status returns how a due site stands, of which s is what it adds to the figures.
func (f *figures) status(number int32, s *share) SiteStatus {
	site := f.layout.ofSite(number)
	final, _ := lastDuty(site.spans, f.start, f.end)
	d := f.duty(site.spans, final)
	out := SiteStatus{
		Site: site.site, Order: d.order, Path: f.layout.path(s.place), DueSince: moment(d.since),
		Inspected: s.state&Done != 0, Overdue: s.state&Overdue != 0,
		NeverInspected: s.state&NeverInspected != 0, FoundOpen: s.state&FoundOpen != 0,
	}
	// Of what does not matter to the figures, such as a name, the roster may know more.
	if newer, err := f.layout.roster.Site(site.site.ID); err == nil {
		out.Site = newer
	}
	if newer, err := f.layout.roster.Order(d.order.ID); err == nil {
		out.Order = newer
	}
	last, ok := f.visits.at(number).last(f.asOf, f.known)
	if ok {
		out.LastCapture = moment(last)
	} else {
		last = d.since
	}
	if out.Overdue {
		out.OverdueSince = moment(max(last, d.since)).Add(time.Duration(d.order.Interval))
	}
	return out
}
