package slow

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"xuncha/ledger"
)

// facts are what the entries add up to that were received by some time.
type facts struct {
	divisions map[string][]version // of each code that ever was, oldest first
	sites     []*Site              // by registration number
	orders    []*Order             // by start, then number
	checkIns  map[string][]CheckIn // by site
}

// A version is a division as it was from a moment until another; a zero until
// has no end.
type version struct {
	from, until         time.Time
	name, level, parent string
}

// during reports whether t lies in [from, until), where a zero until has no end.
func during(t, from, until time.Time) bool {
	return !t.Before(from) && (until.IsZero() || t.Before(until))
}

// known returns what the entries say that were received at the time or before;
// a zero time stands for all entries.
func (w *World) known(at time.Time) *facts {
	received := func(t time.Time) bool { return at.IsZero() || !t.After(at) }
	f := &facts{divisions: map[string][]version{}, checkIns: map[string][]CheckIn{}}
	sites := map[string]*Site{}
	orders := map[string]*Order{}
	revoked := map[ledger.Sequence]bool{} // which is as if it had never been
	for _, c := range w.changes {
		if received(c.received) {
			revoked[c.revokes] = true
		}
	}
	for _, c := range w.changes {
		if !received(c.received) || revoked[c.sequence] {
			continue
		}
		for _, row := range c.divisions {
			f.divisions[row.Code] = after(f.divisions[row.Code], row, c.effective)
		}
		for _, s := range c.sites {
			sites[s.ID] = s
		}
		for _, o := range c.orders {
			orders[o.ID] = o
		}
	}
	maps.DeleteFunc(f.divisions, func(_ string, versions []version) bool { return len(versions) == 0 })
	f.sites = slices.SortedFunc(maps.Values(sites), func(a, b *Site) int {
		return cmp.Compare(a.RegistrationNo, b.RegistrationNo)
	})
	f.orders = slices.SortedFunc(maps.Values(orders), func(a, b *Order) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Number, b.Number))
	})
	for _, c := range w.checkIns {
		if received(c.Received) {
			f.checkIns[c.Site] = append(f.checkIns[c.Site], c)
		}
	}
	return f
}

// after returns the versions of a division after a row of an import: the last one
// ends on the day, and another begins where the row says so.
//
// A later table of the same day takes the place of the earlier one: what began on
// that day was never in force. A division that has no other version keeps that
// one, with no time in force, because sites may stand in it.
func after(versions []version, row divisionRow, day time.Time) []version {
	versions = slices.Clone(versions)
	if n := len(versions); n > 0 {
		last := &versions[n-1]
		switch {
		case last.from.Equal(day) && (row.Op == "begin" || n > 1):
			versions = versions[:n-1]
		case last.until.IsZero():
			last.until = day
		}
	}
	if row.Op == "begin" {
		versions = append(versions, version{from: day, name: row.Name, level: row.Level, parent: row.Parent})
	}
	return versions
}

// division returns the division as it is at t. One that is not in force then is as
// it last was before t, or else as it first was after. So a site keeps its place
// under the divisions above it when its village ends, until it is moved.
func (f *facts) division(code string, t time.Time) (v version, inForce bool) {
	versions := f.divisions[code]
	for _, v := range versions {
		if during(t, v.from, v.until) {
			return v, true
		}
	}
	v = versions[0]
	for _, w := range versions {
		if !w.from.After(t) {
			v = w
		}
	}
	return v, false
}

// path returns the codes from the division up to its root as they lie above one
// another at t.
func (f *facts) path(code string, t time.Time) []string {
	var path []string
	for code != "" && len(f.divisions[code]) > 0 && !slices.Contains(path, code) {
		path = append(path, code)
		v, _ := f.division(code, t)
		code = v.parent
	}
	return path
}

// children returns the divisions in force at t whose parent is the division.
func (f *facts) children(code string, t time.Time) []string {
	var out []string
	for child := range f.divisions {
		if v, inForce := f.division(child, t); inForce && v.parent == code {
			out = append(out, child)
		}
	}
	return out
}

// village returns where the site stands at t. Its first place holds also for any
// time before.
func (s *Site) village(t time.Time) string {
	village := s.Places[0].Village
	for _, p := range s.Places[1:] {
		if !p.From.After(t) {
			village = p.Village
		}
	}
	return village
}
