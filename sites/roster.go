package sites

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"xuncha/internal/persistent"
	"xuncha/ledger"
)

// A Roster is what the roster's history adds up to at one revision. It never
// changes once made, so readers share it without a lock. One made from another
// shares with it all that is the same in both, so a small change makes little
// that is new.
//
// Divisions and sites are kept by numbers, which count them in the order in which
// the history named them first. The number 0 is that of none.
type Roster struct {
	events persistent.Vector[*Event] // by sequence, from 1 on

	divisions      persistent.Vector[division]
	divisionNumber lookup // by code

	sites      persistent.Vector[*Site]
	siteNumber lookup // by id
	gone       int    // how many sites there never were, since their registration was taken back
	// listed has each site in each division in which it ever stands, or that is
	// above one of those. In the division 0 it has every site.
	listed btree.BTreeG[listing]

	orders       btree.Map[OrderID, *orderLife]
	orderNumbers btree.Map[string, OrderID] // by the official number
	ordersOf     btree.Map[uint32, *divisionOrders]
	byStart      *orderList
}

// A division is the life of one code. It has no version where the code is only
// named by others.
type division struct {
	code DivisionCode
	// newest is the last version; its from is nil where there is none.
	newest version
	// children are the numbers of all that ever named this one as their parent, by
	// code. Those of the division 0 are the ones without a parent.
	children *[]uint32
	rare     *rareDivision
}

// rareDivision is what few divisions have.
type rareDivision struct {
	older []version // oldest first
	// marks are of the imports that touched the division of which no version tells
	// any more.
	marks []mark
	// revocations are the entries that took back imports which touched the division.
	revocations []ledger.Sequence
	// lost is the parent that the division had last where it has no version any more,
	// because the import that began it was taken back; 0 for none.
	lost uint32
}

func (d *rareDivision) empty() bool {
	return len(d.older)+len(d.marks)+len(d.revocations) == 0 && d.lost == 0
}

// A mark is an import that touched a division, with the parent of the version that
// was lost, or 0.
type mark struct {
	sequence ledger.Sequence
	parent   uint32
}

// A version is a Division without its code. Level is that of [Level].
type version struct {
	name     string
	from, to *moment // to is nil while it has no end
	parent   uint32
	level    uint8
}

// A moment is when what an import says takes effect.
type moment struct {
	time     time.Time
	sequence ledger.Sequence // of the import's entry
}

// A listing is a site in a division.
type listing struct {
	no             string // registration number
	division, site uint32
}

func (a listing) less(b listing) bool {
	if a.division != b.division {
		return a.division < b.division
	}
	if a.no != b.no {
		return a.no < b.no
	}
	return a.site < b.site
}

// An orderLife is a closure order, as it is now or was before it was taken back, with
// the entries that made or changed it.
type orderLife struct {
	order   *ClosureOrder
	changes []ledger.Sequence
	revoked ledger.Sequence // the entry since which there never was one; 0 for none
}

// divisionOrders are the orders that name a division.
type divisionOrders struct {
	orders []*ClosureOrder // as they are now, in the order of compareOrders
	events []ledger.Sequence
}

// compareOrders orders by the start, then by the number.
func compareOrders(a, b *ClosureOrder) int {
	return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Number, b.Number), cmp.Compare(a.ID, b.ID))
}

// An orderList is every order by its start. Its slice is made when it is asked for.
type orderList struct {
	tree  btree.BTreeG[*ClosureOrder]
	slice func() []*ClosureOrder
}

func newOrderList(tree *btree.BTreeG[*ClosureOrder]) *orderList {
	l := &orderList{tree: *tree}
	l.slice = sync.OnceValue(l.tree.Items)
	return l
}

func newRoster() *Roster {
	noLocks := btree.Options{NoLocks: true}
	r := &Roster{
		listed:  *btree.NewBTreeGOptions(listing.less, noLocks),
		byStart: newOrderList(btree.NewBTreeGOptions(func(a, b *ClosureOrder) bool { return compareOrders(a, b) < 0 }, noLocks)),
	}
	r.divisions.Edit(0, nil)
	r.sites.Edit(0, nil)
	return r
}

// Revision is the sequence of the newest entry that the roster holds; 0 for an
// empty roster.
func (r *Roster) Revision() ledger.Sequence { return ledger.Sequence(r.events.Len()) }

// Time is when the newest entry was received; zero for an empty roster.
func (r *Roster) Time() time.Time {
	if r.events.Len() == 0 {
		return time.Time{}
	}
	return r.event(r.Revision()).Time
}

// Site returns the site, or ErrSiteUnknown, also where its registration was taken back.
func (r *Roster) Site(id SiteID) (*Site, error) {
	s, err := r.SiteEver(id)
	if err == nil && s.revoked {
		return nil, siteUnknown(id)
	}
	return s, err
}

// SiteEver returns the site, also one whose registration was taken back, or
// ErrSiteUnknown. What was reported of such a site stays, and its places say whose it is.
func (r *Roster) SiteEver(id SiteID) (*Site, error) {
	n := r.siteNumberOf(id)
	if n == 0 {
		return nil, siteUnknown(id)
	}
	return r.site(n), nil
}

func siteUnknown(id SiteID) error {
	return fmt.Errorf("site %s: %w", clip(string(id)), ErrSiteUnknown)
}

func (r *Roster) siteNumberOf(id SiteID) uint32 {
	return r.siteNumber.find(hashOf(id), func(n uint32) bool { return r.site(n).ID == id })
}

func (r *Roster) site(n uint32) *Site { return *r.sites.At(n) }

// SiteByRegistration returns the site with the registration number, or
// ErrSiteUnknown.
func (r *Roster) SiteByRegistration(no string) (*Site, error) {
	var found *Site
	r.listed.Ascend(listing{no: no}, func(l listing) bool {
		if l.division == 0 && l.no == no {
			found = r.site(l.site)
		}
		return false
	})
	if found == nil {
		return nil, fmt.Errorf("site with registration number %q: %w", clip(no), ErrSiteUnknown)
	}
	return found, nil
}

// Sites gives every site that is or ever was on the roster, by registration
// number.
func (r *Roster) Sites() iter.Seq[*Site] { return r.listedFrom(listing{}) }

// NumSites is how many sites Sites gives.
func (r *Roster) NumSites() int { return max(int(r.sites.Len()), 1) - 1 - r.gone }

// SitesAfter gives the sites with a registration number greater than no, by
// registration number. Where divisions are named, it gives only those that
// SitesIn gives for one of them, each once. Its cost is that of the sites that are
// taken from it.
func (r *Roster) SitesAfter(no string, in ...DivisionCode) iter.Seq[*Site] {
	switch len(in) {
	case 0:
		return r.listedFrom(listing{no: no, site: math.MaxUint32})
	case 1:
		if n := r.numberOf(in[0]); n != 0 {
			return r.listedFrom(listing{division: n, no: no, site: math.MaxUint32})
		}
		return func(func(*Site) bool) {}
	}
	return func(yield func(*Site) bool) { r.mergeAfter(no, in, yield) }
}

// listedFrom gives the sites of a division, by registration number.
func (r *Roster) listedFrom(first listing) iter.Seq[*Site] {
	return func(yield func(*Site) bool) {
		r.listed.Ascend(first, func(l listing) bool {
			return l.division == first.division && yield(r.site(l.site))
		})
	}
}

// SitesIn gives every site that ever stands in the division, or in one below
// any that ever named it as its parent. Each comes once, in no order.
func (r *Roster) SitesIn(code DivisionCode) iter.Seq[*Site] {
	return func(yield func(*Site) bool) {
		if n := r.numberOf(code); n != 0 {
			r.listedFrom(listing{division: n})(yield)
		}
	}
}

// mergeAfter is SitesAfter of several divisions.
func (r *Roster) mergeAfter(no string, in []DivisionCode, yield func(*Site) bool) {
	type list struct {
		next func() (*Site, bool)
		head *Site
	}
	var lists []list
	for _, code := range in {
		next, stop := iter.Pull(r.SitesAfter(no, code))
		defer stop()
		if head, ok := next(); ok {
			lists = append(lists, list{next, head})
		}
	}
	for len(lists) > 0 {
		least := slices.MinFunc(lists, func(a, b list) int { return cmp.Compare(a.head.RegistrationNo, b.head.RegistrationNo) }).head
		if !yield(least) {
			return
		}
		for i := len(lists) - 1; i >= 0; i-- {
			if lists[i].head != least {
				continue
			}
			var ok bool
			if lists[i].head, ok = lists[i].next(); !ok {
				lists = slices.Delete(lists, i, i+1)
			}
		}
	}
}

// Order returns the closure order, or ErrOrderUnknown, also where it was taken back.
func (r *Roster) Order(id OrderID) (*ClosureOrder, error) {
	o, revoked, err := r.OrderEver(id)
	if err == nil && !revoked.IsZero() {
		return nil, orderUnknown(id)
	}
	return o, err
}

// OrderEver returns the closure order, also one that was taken back, with the time of
// that; it is zero of all others. The error is ErrOrderUnknown.
func (r *Roster) OrderEver(id OrderID) (o *ClosureOrder, revoked time.Time, err error) {
	l, ok := r.orders.Get(id)
	if !ok {
		return nil, time.Time{}, orderUnknown(id)
	}
	return l.order, r.revokedAt(l), nil
}

// OrdersEver gives every closure order by its id as OrderEver returns it.
func (r *Roster) OrdersEver() iter.Seq2[*ClosureOrder, time.Time] {
	return func(yield func(*ClosureOrder, time.Time) bool) {
		r.orders.Scan(func(_ OrderID, l *orderLife) bool { return yield(l.order, r.revokedAt(l)) })
	}
}

// revokedAt returns when the order was taken back; zero where it was not.
func (r *Roster) revokedAt(l *orderLife) time.Time {
	if l.revoked == 0 {
		return time.Time{}
	}
	return r.event(l.revoked).Time
}

func orderUnknown(id OrderID) error {
	return fmt.Errorf("closure order %s: %w", clip(string(id)), ErrOrderUnknown)
}

// Orders returns every closure order by its start, the ended ones included.
// The slice is the roster's own: do not change it.
func (r *Roster) Orders() []*ClosureOrder {
	if r.byStart == nil {
		return nil
	}
	return r.byStart.slice()
}

// OrdersBefore gives the closure orders that come before the one given in the
// order of Orders, the last one first; for nil all.
func (r *Roster) OrdersBefore(o *ClosureOrder) iter.Seq[*ClosureOrder] {
	return func(yield func(*ClosureOrder) bool) {
		switch {
		case r.byStart == nil:
		case o == nil:
			r.byStart.tree.Reverse(yield)
		default:
			r.byStart.tree.Descend(o, func(before *ClosureOrder) bool { return compareOrders(before, o) == 0 || yield(before) })
		}
	}
}

// appendImports appends the sequences of the imports that touched the division.
func (d *division) appendImports(to []ledger.Sequence) []ledger.Sequence {
	for v := range d.versions {
		to = append(to, v.from.sequence)
		if v.to != nil {
			to = append(to, v.to.sequence)
		}
	}
	if d.rare != nil {
		for _, m := range d.rare.marks {
			to = append(to, m.sequence)
		}
	}
	return to
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
