package sites

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"xuncha/ledger"
)

// snapshotVersion begins a snapshot. It gets another number with every change of
// what follows, and of what a roster makes of its history.
const snapshotVersion = "xuncha roster 2\n"

// errSnapshot means that a snapshot cannot be read.
var errSnapshot = errors.New("not a snapshot of a roster that this version reads")

// Snapshot writes the roster as it is now. It is a cache for Restore and nothing
// else: another version may not read it.
//
// After the version come two parts, each after its length in 8 bytes: the texts of
// the roster one after the other, and its numbers, which are varints. A text is
// found by its length, which is among the numbers. Times are seconds and
// nanoseconds. Divisions and sites are named by the numbers that the roster has for
// them.
func (s *Service) Snapshot(w io.Writer) error {
	text, numbers := s.Roster().marshal()
	for _, part := range [][]byte{[]byte(snapshotVersion), length(text), text, length(numbers), numbers} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("writing a snapshot of the roster: %w", err)
		}
	}
	return nil
}

func length(b []byte) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(len(b))) }

// Restore puts the roster that Snapshot wrote in place of the empty one. It must
// come before Refresh, and before anybody uses the service. After an error the
// roster is as empty as before. It tells a snapshot that is cut short; that no byte
// of it was changed, the caller ensures.
func (s *Service) Restore(r io.Reader) error {
	version := make([]byte, len(snapshotVersion))
	if _, err := io.ReadFull(r, version); err != nil || string(version) != snapshotVersion {
		return errors.Join(errSnapshot, err)
	}
	text, err := readPart(r)
	if err != nil {
		return err
	}
	numbers, err := readPart(r)
	if err != nil {
		return err
	}
	roster, err := unmarshalRoster(string(text), numbers)
	if err != nil {
		return err
	}
	s.pastMu.Lock()
	defer s.pastMu.Unlock()
	s.projection.Begin(roster, roster.Revision())
	s.kept, s.restored = []keptRoster{{roster, 0}}, true
	return nil
}

// readPart reads bytes behind their length. It takes no more memory than there are
// bytes.
func readPart(r io.Reader) ([]byte, error) {
	var size [8]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, errors.Join(errSnapshot, err)
	}
	n := binary.LittleEndian.Uint64(size[:])
	if n > math.MaxInt64 {
		return nil, errSnapshot
	}
	var b bytes.Buffer
	b.Grow(int(min(n, 1<<23)))
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return nil, errors.Join(errSnapshot, err)
	}
	return b.Bytes(), nil
}

// A packer writes the parts of a snapshot.
type packer struct {
	text, numbers []byte
}

func (p *packer) uint(n uint64) { p.numbers = binary.AppendUvarint(p.numbers, n) }
func (p *packer) count(n int)   { p.uint(uint64(n)) }
func (p *packer) int(n int64)   { p.numbers = binary.AppendVarint(p.numbers, n) }

func (p *packer) flag(b bool) {
	if b {
		p.uint(1)
	} else {
		p.uint(0)
	}
}

func (p *packer) string(s string) {
	p.count(len(s))
	p.text = append(p.text, s...)
}

func (p *packer) time(t time.Time) {
	p.int(t.Unix())
	p.count(t.Nanosecond())
}

func (p *packer) float(f float64) {
	p.numbers = binary.LittleEndian.AppendUint64(p.numbers, math.Float64bits(f))
}

func (p *packer) sequences(list []ledger.Sequence) {
	p.count(len(list))
	for _, q := range list {
		p.uint(uint64(q))
	}
}

// marshal returns the parts of the roster's snapshot.
func (r *Roster) marshal() (text, numbers []byte) {
	p := &packer{}
	moments := map[*moment]int{}
	var list []*moment
	p.count(int(r.divisions.Len()))
	for i := range r.divisions.Len() {
		for v := range r.divisions.At(i).versions {
			for _, m := range []*moment{v.from, v.to} {
				if _, ok := moments[m]; !ok && m != nil {
					list = append(list, m)
					moments[m] = len(list) // 0 is none
				}
			}
		}
	}
	p.count(len(list))
	for _, m := range list {
		p.time(m.time)
		p.uint(uint64(m.sequence))
	}
	for i := uint32(1); i < r.divisions.Len(); i++ {
		d := r.divisions.At(i)
		p.string(string(d.code))
		count := 0
		for range d.versions {
			count++
		}
		p.count(count)
		for v := range d.versions {
			p.string(v.name)
			p.uint(uint64(v.level))
			p.uint(uint64(v.parent))
			p.count(moments[v.from])
			p.count(moments[v.to])
		}
		var marks []mark
		if d.rare != nil {
			marks = d.rare.marks
		}
		p.count(len(marks))
		for _, m := range marks {
			p.uint(uint64(m.sequence))
			p.uint(uint64(m.parent))
		}
		var revocations []ledger.Sequence
		if d.rare != nil {
			revocations = d.rare.revocations
		}
		p.sequences(revocations)
		if len(revocations) > 0 {
			p.uint(uint64(d.rare.lost))
		}
	}
	p.count(int(r.sites.Len()))
	for i := uint32(1); i < r.sites.Len(); i++ {
		r.packSite(p, r.site(i))
	}
	r.listed.Ascend(listing{}, func(l listing) bool {
		if l.division == 0 {
			p.uint(uint64(l.site))
		}
		return l.division == 0
	})
	p.count(int(r.events.Len()))
	for q := ledger.Sequence(1); q <= r.Revision(); q++ {
		r.event(q).pack(p)
	}
	return p.text, p.numbers
}

func (r *Roster) packSite(p *packer, s *Site) {
	p.string(string(s.ID))
	p.string(s.RegistrationNo)
	p.string(s.Name)
	p.time(s.Registered)
	p.time(s.Deregistered)
	p.flag(s.revoked)
	p.uint(uint64(s.revision))
	p.sequences(s.changes)
	p.count(len(s.Places))
	for _, place := range s.Places {
		p.time(place.From)
		p.uint(uint64(r.numberOf(place.Division)))
		p.string(place.Address)
		if place.Position == nil {
			p.uint(0)
			continue
		}
		p.uint(1)
		p.float(place.Position.Latitude)
		p.float(place.Position.Longitude)
	}
}

// pack writes the event, and what follows only from it.
func (e *Event) pack(p *packer) {
	p.string(e.ID)
	p.string(string(e.Kind))
	p.time(e.Time)
	p.uint(uint64(e.Revokes))
	if e.Revokes != 0 {
		return // it touches what that change did
	}
	if o := e.order; o != nil {
		p.uint(1)
		for _, s := range []string{string(o.ID), o.Number, o.Title, o.IssuingAuthority, o.LegalBasis} {
			p.string(s)
		}
		p.count(len(o.Divisions))
		for _, code := range o.Divisions {
			p.string(string(code))
		}
		p.time(o.Start)
		p.time(o.End)
		p.time(o.PlannedEnd)
		p.int(int64(o.Interval))
		return
	}
	p.uint(0)
	p.ascending(e.touched)
	p.ascending(e.named)
}

// ascending writes numbers that mostly grow.
func (p *packer) ascending(list []uint32) {
	p.count(len(list))
	before := uint32(0)
	for _, n := range list {
		p.int(int64(n) - int64(before))
		before = n
	}
}

// An unpacker reads the parts of a snapshot. Once something is wrong it gives only
// zeros.
type unpacker struct {
	text    string
	numbers []byte
	failed  bool
}

func (u *unpacker) fail() {
	u.failed, u.text, u.numbers = true, "", nil
}

func (u *unpacker) uint() uint64 {
	n, size := binary.Uvarint(u.numbers)
	if size <= 0 {
		u.fail()
		return 0
	}
	u.numbers = u.numbers[size:]
	return n
}

func (u *unpacker) int() int64 {
	n := u.uint()
	return int64(n>>1) ^ -int64(n&1)
}

// below returns a number that is less than the limit.
func (u *unpacker) below(limit uint32) uint32 {
	n := u.uint()
	if n >= uint64(limit) {
		u.fail()
		return 0
	}
	return uint32(n)
}

// count returns how many things follow, each of which takes a byte at least.
func (u *unpacker) count() int {
	n := u.uint()
	if n > uint64(len(u.numbers)) || n > math.MaxInt32 {
		u.fail()
		return 0
	}
	return int(n)
}

func (u *unpacker) string() string {
	n := u.uint()
	if n > uint64(len(u.text)) {
		u.fail()
		return ""
	}
	s := u.text[:n]
	u.text = u.text[n:]
	return s
}

func (u *unpacker) time() time.Time {
	seconds, nanos := u.int(), u.below(1e9)
	return time.Unix(seconds, int64(nanos)).UTC()
}

func (u *unpacker) float() float64 {
	if len(u.numbers) < 8 {
		u.fail()
		return 0
	}
	f := math.Float64frombits(binary.LittleEndian.Uint64(u.numbers))
	u.numbers = u.numbers[8:]
	return f
}

func (u *unpacker) sequences() []ledger.Sequence {
	out := make([]ledger.Sequence, u.count())
	for i := range out {
		out[i] = ledger.Sequence(u.uint())
	}
	return out
}

// unmarshalRoster returns the roster whose snapshot has the parts.
func unmarshalRoster(text string, numbers []byte) (*Roster, error) {
	u := &unpacker{text: text, numbers: numbers}
	n := newRoster().edit()
	n.unpackDivisions(u)
	n.unpackSites(u)
	n.unpackEvents(u)
	if u.failed || len(u.text)+len(u.numbers) > 0 {
		return nil, errSnapshot
	}
	return n.Roster, nil
}

func (n edit) unpackDivisions(u *unpacker) {
	count := uint32(u.count())
	moments := make([]*moment, 1+u.count())
	for i := range moments[1:] {
		moments[i+1] = &moment{u.time(), ledger.Sequence(u.uint())}
	}
	n.divisionNumber.reserve(int(count), n.own)
	var links []link
	for i := uint32(1); i < count && !u.failed; i++ {
		d := n.divisions.Edit(i, n.own)
		d.code = DivisionCode(u.string())
		var rare rareDivision
		for versions := u.count(); versions > 0; versions-- {
			if d.known() {
				rare.older = append(rare.older, d.newest)
			}
			d.newest = version{name: u.string(), level: uint8(u.below(math.MaxUint8)), parent: u.below(count)}
			d.newest.from, d.newest.to = moments[u.below(uint32(len(moments)))], moments[u.below(uint32(len(moments)))]
			if !d.known() {
				u.fail()
				return
			}
			links = append(links, link{d.newest.parent, i})
		}
		for marks := u.count(); marks > 0; marks-- {
			m := mark{ledger.Sequence(u.uint()), u.below(count)}
			if m.parent != 0 {
				links = append(links, link{m.parent, i})
			}
			rare.marks = append(rare.marks, m)
		}
		if rare.revocations = u.sequences(); len(rare.revocations) > 0 {
			rare.lost = u.below(count)
		}
		if !rare.empty() {
			d.rare = new(rareDivision)
			*d.rare = rare
		}
		if d.code == "" || n.numberOf(d.code) != 0 {
			u.fail()
			return
		}
		n.divisionNumber.add(i, hashOf(d.code), n.own)
	}
	if u.failed {
		return
	}
	n.unpackChildren(links)
	// What lies above itself would never come to an end.
	var path [maxPath]uint32
	for i := range n.divisions.Len() {
		if above := n.pathFrom(path[:0], i, farFuture); len(above) == maxPath && n.divisions.At(above[maxPath-1]).newest.parent != 0 {
			u.fail()
			return
		}
	}
}

// farFuture is when the newest version of each division holds.
var farFuture = time.Unix(1<<60, 0)

// A link is a division below a parent that it ever had.
type link struct{ parent, child uint32 }

// unpackChildren makes the lists of children.
func (n edit) unpackChildren(links []link) {
	sizes := make([]uint32, n.divisions.Len()+1)
	for _, l := range links {
		sizes[l.parent+1]++
	}
	for i := range n.divisions.Len() {
		sizes[i+1] += sizes[i] // by now where the children of each begin
	}
	children := make([]uint32, len(links))
	at := slices.Clone(sizes)
	for _, l := range links {
		children[at[l.parent]] = l.child
		at[l.parent]++
	}
	for i := range n.divisions.Len() {
		if own := children[sizes[i]:sizes[i+1]:sizes[i+1]]; len(own) > 0 {
			slices.SortFunc(own, func(a, b uint32) int { return cmp.Compare(n.divisions.At(a).code, n.divisions.At(b).code) })
			own = slices.Compact(own)
			n.divisions.Edit(i, n.own).children = &own
		}
	}
}

func (n edit) unpackSites(u *unpacker) {
	count := uint32(u.count())
	n.siteNumber.reserve(int(count), n.own)
	for i := uint32(1); i < count && !u.failed; i++ {
		s := n.unpackSite(u)
		if n.siteNumberOf(s.ID) != 0 {
			u.fail()
			return
		}
		*n.sites.Edit(i, n.own) = s
		if s.revoked {
			n.gone++
		}
		n.siteNumber.add(i, hashOf(s.ID), n.own)
	}
	order := make([]uint32, 0, n.NumSites())
	for range n.NumSites() {
		if u.failed {
			return
		}
		site := u.below(count)
		if site == 0 || len(order) > 0 && cmp.Or(cmp.Compare(n.site(order[len(order)-1]).RegistrationNo, n.site(site).RegistrationNo), cmp.Compare(order[len(order)-1], site)) >= 0 {
			u.fail()
			return
		}
		order = append(order, site)
	}
	if !u.failed {
		n.relist(order)
	}
}

func (n edit) unpackSite(u *unpacker) *Site {
	b := new(siteBlock)
	b.ID, b.RegistrationNo, b.Name = SiteID(u.string()), u.string(), u.string()
	b.Registered, b.Deregistered = u.time(), u.time()
	b.revoked, b.revision = u.below(2) == 1, ledger.Sequence(u.uint())
	b.changes = u.sequences()
	if len(b.changes) == 1 {
		b.change[0] = b.changes[0]
		b.changes = b.change[:]
	}
	count := u.count()
	if count == 0 {
		u.fail()
	}
	b.Places = b.place[:]
	if count > 1 {
		b.Places = make([]Place, count)
	}
	for i := range b.Places {
		place := Place{From: u.time(), Division: n.divisions.At(u.below(n.divisions.Len())).code, Address: u.string()}
		if u.below(2) == 1 {
			place.Position = new(Position)
			if i == 0 {
				place.Position = &b.position
			}
			*place.Position = Position{u.float(), u.float()}
		}
		b.Places[i] = place
	}
	return &b.Site
}

// relist makes the lists of sites. The order is that of the registration numbers.
func (n edit) relist(order []uint32) {
	sizes := make([]uint32, n.divisions.Len()+1)
	above := make([]uint32, 0, len(order)*(maxPath-2)) // of all sites
	ends := make([]int, len(order))
	for i, site := range order {
		from := len(above)
		above = append(above, n.everAbove(above[from:from], n.site(site).Places)...)
		ends[i] = len(above)
		for _, d := range above[from:] {
			sizes[d+1]++
		}
	}
	for i := range n.divisions.Len() {
		sizes[i+1] += sizes[i] // by now where the sites of each begin
	}
	sites := make([]uint32, sizes[n.divisions.Len()])
	at := slices.Clone(sizes)
	from := 0
	for i, site := range order {
		for _, d := range above[from:ends[i]] {
			sites[at[d]] = site
			at[d]++
		}
		from = ends[i]
	}
	for d := range n.divisions.Len() {
		for _, site := range sites[sizes[d]:sizes[d+1]] {
			n.listed.Load(listing{n.site(site).RegistrationNo, d, site})
		}
	}
	n.pack()
}

func (n edit) unpackEvents(u *unpacker) {
	kinds := map[string]ledger.Kind{}
	for i, count := 0, u.count(); i < count && !u.failed; i++ {
		e := &Event{Sequence: ledger.Sequence(i + 1), ID: u.string()}
		kind := u.string()
		if _, ok := kinds[kind]; !ok {
			kinds[kind] = ledger.Kind(kind)
		}
		e.Kind, e.Time = kinds[kind], u.time()
		revokes := ledger.Sequence(u.uint())
		if revokes != 0 {
			n.unpackRevocation(u, e, revokes)
		} else {
			n.unpackEvent(u, e)
		}
		*n.events.Edit(uint32(i), n.own) = e
	}
}

// unpackEvent reads what the event touches.
func (n edit) unpackEvent(u *unpacker, e *Event) {
	if (u.below(2) == 1) != ofOrder(e.Kind) {
		u.fail()
		return
	}
	if ofOrder(e.Kind) {
		e.order = u.order()
		e.touched = n.applyOrder(e.order, true, e.Sequence)
		return
	}
	limit := n.divisions.Len()
	if n.ofSites(e) {
		limit = n.sites.Len()
	}
	e.touched, e.named = u.ascending(limit), u.ascending(n.divisions.Len())
}

// unpackRevocation lets the event take another back. What that does to sites and divisions
// is in the snapshot; what it does to an order follows.
func (n edit) unpackRevocation(u *unpacker, e *Event, revokes ledger.Sequence) {
	if e.Kind != KindChangeRevoked || revokes < 1 || revokes >= e.Sequence || !n.holds(revokes) {
		u.fail()
		return
	}
	of := n.event(revokes)
	undo := &undo{of: of}
	if ofOrder(of.Kind) {
		undo.order = n.orderBefore(of)
		n.applyUndo(undo, e)
		return
	}
	n.tell(of, e)
}

// ascending reads what packer.ascending writes of numbers below the limit.
func (u *unpacker) ascending(limit uint32) []uint32 {
	out := make([]uint32, u.count())
	before := int64(0)
	for i := range out {
		before += u.int()
		if before <= 0 || before >= int64(limit) {
			u.fail()
			return nil
		}
		out[i] = uint32(before)
	}
	return out
}

func (u *unpacker) order() *ClosureOrder {
	o := &ClosureOrder{ID: OrderID(u.string()), Number: u.string(), Title: u.string(), IssuingAuthority: u.string(), LegalBasis: u.string()}
	o.Divisions = make([]DivisionCode, u.count())
	for i := range o.Divisions {
		o.Divisions[i] = DivisionCode(u.string())
	}
	o.Start, o.End, o.PlannedEnd = u.time(), u.time(), u.time()
	o.Interval = Duration(u.int())
	return o
}
