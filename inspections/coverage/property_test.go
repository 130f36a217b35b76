package coverage_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
)

// A reference answers as the package comment says, by looking at moments one
// by one, and uses nothing of the roster but what is in force at a moment.
type reference struct {
	roster *sites.Roster
	visits []coverage.Visit
	q      coverage.Query
	asOf   time.Time
	sites  []referenceSite
}

type referenceSite struct {
	coverage.SiteStatus
	due    bool
	visits []coverage.Visit // in the window
}

func newReference(r *sites.Roster, visits []coverage.Visit, q coverage.Query) *reference {
	f := &reference{roster: r, visits: visits, q: q, asOf: q.Now}
	if !q.Known.IsZero() {
		f.visits = slices.DeleteFunc(slices.Clone(visits), func(v coverage.Visit) bool { return v.Receive.After(q.Known) })
		if q.Known.Before(f.asOf) {
			f.asOf = q.Known
		}
	}
	if q.End.Before(f.asOf) {
		f.asOf = q.End
	}
	for s := range r.Sites() {
		if n := f.site(s); n.due || len(n.visits) > 0 {
			f.sites = append(f.sites, n)
		}
	}
	return f
}

func (f *reference) path(s *sites.Site, t time.Time) []sites.DivisionCode {
	return f.roster.Path(s.PlaceAt(t).Division, t)
}

// orders returns the orders that close the site at t.
func (f *reference) orders(s *sites.Site, t time.Time) []*sites.ClosureOrder {
	var out []*sites.ClosureOrder
	for _, o := range f.roster.Orders() {
		if s.RegisteredAt(t) && o.InForce(t) && slices.ContainsFunc(f.path(s, t), func(c sites.DivisionCode) bool {
			return slices.Contains(o.Divisions, c)
		}) {
			out = append(out, o)
		}
	}
	return out
}

// cuts returns the moments at which anything may change for the site, the
// latest first.
func (f *reference) cuts(s *sites.Site) []time.Time {
	out := []time.Time{s.Registered, s.Deregistered}
	for _, o := range f.roster.Orders() {
		out = append(out, o.Start, o.End)
	}
	for _, p := range s.Places {
		out = append(out, p.From)
	}
	for _, code := range allCodes {
		for _, v := range f.roster.Versions(code) {
			out = append(out, v.From, v.To)
		}
	}
	out = slices.DeleteFunc(out, time.Time.IsZero)
	slices.SortFunc(out, func(a, b time.Time) int { return b.Compare(a) })
	return out
}

// lastDue returns the last moment of [from, to) at which the site is due.
func (f *reference) lastDue(s *sites.Site, from, to time.Time) (time.Time, bool) {
	for _, end := range append([]time.Time{to}, f.cuts(s)...) {
		if t := end.Add(-1); !t.Before(from) && end.Compare(to) <= 0 && len(f.orders(s, t)) > 0 {
			return t, true
		}
	}
	return time.Time{}, false
}

// since returns when the order began to close the site as it does at t.
func (f *reference) since(s *sites.Site, o *sites.ClosureOrder, t time.Time) time.Time {
	since := t
	for _, cut := range f.cuts(s) {
		if cut.After(t) {
			continue
		}
		since = cut
		if !slices.Contains(f.orders(s, cut.Add(-1)), o) {
			break
		}
	}
	return since
}

func (f *reference) site(s *sites.Site) referenceSite {
	n := referenceSite{SiteStatus: coverage.SiteStatus{Site: s}}
	var lastInWindow time.Time
	for _, v := range f.visits {
		if v.Site != s.ID {
			continue
		}
		if v.Capture.Before(f.asOf) && v.Capture.After(n.LastCapture) {
			n.LastCapture = v.Capture
		}
		if !v.Capture.Before(f.q.Start) && v.Capture.Before(f.q.End) {
			n.visits = append(n.visits, v)
			if v.Capture.After(lastInWindow) {
				lastInWindow = v.Capture
			}
		}
	}
	final, due := f.lastDue(s, f.q.Start, f.q.End)
	if n.due = due; !due {
		n.Path = f.path(s, lastInWindow)
		return n
	}
	n.Path = f.path(s, final)
	n.Inspected = len(n.visits) > 0
	n.FoundOpen = slices.ContainsFunc(n.visits, func(v coverage.Visit) bool { return v.Open })

	judged, begun := f.lastDue(s, f.q.Start, f.asOf)
	if !begun {
		judged = final
	}
	for _, o := range f.orders(s, judged) {
		if since := f.since(s, o, judged); n.DueSince.IsZero() || since.Before(n.DueSince) {
			n.DueSince = since
		}
		if n.Order == nil || o.Interval < n.Order.Interval {
			n.Order = o
		}
	}
	n.NeverInspected = n.LastCapture.IsZero() || n.LastCapture.Before(n.DueSince)
	from := n.DueSince
	if n.LastCapture.After(from) {
		from = n.LastCapture
	}
	if begun && judged.Equal(f.asOf.Add(-1)) && f.asOf.Sub(from) > time.Duration(n.Order.Interval) {
		n.Overdue, n.OverdueSince = true, from.Add(time.Duration(n.Order.Interval))
	}
	return n
}

// under reports whether the path runs through the divisions, given from the
// one asked about down.
func under(path, line []sites.DivisionCode) bool {
	i := slices.Index(path, line[0])
	for _, code := range line {
		if i < 0 || path[i] != code {
			return false
		}
		i--
	}
	return true
}

func (f *reference) report(line []sites.DivisionCode, depth int) coverage.Report {
	code := line[len(line)-1]
	last := f.q.End.Add(-1)
	d, err := f.roster.LastDivision(code, last)
	if err != nil {
		panic(err)
	}
	r := coverage.Report{Row: coverage.Row{Division: code, Name: d.Name, Level: d.Level}}
	var children []sites.DivisionCode
	for _, d := range f.roster.Children(code, last) {
		children = append(children, d.Code)
	}
	one := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	for _, s := range f.sites {
		if !under(s.Path, line) {
			continue
		}
		if i := slices.Index(s.Path, code); i > 0 {
			children = append(children, s.Path[i-1])
		}
		r.SitesDue += one(s.due)
		r.SitesInspected += one(s.Inspected)
		r.SitesOverdue += one(s.Overdue)
		r.SitesNeverInspected += one(s.NeverInspected)
		r.SitesFoundOpen += one(s.FoundOpen)
		for _, v := range s.visits {
			r.CheckIns++
			r.VisitedLate += one(f.late(v))
			r.SyncedLate += one(v.SyncedLate)
			r.CancelledEvents += int64(v.CancelledEvents)
			r.DispersedPeople += int64(v.DispersedPeople)
			if v.Capture.After(r.LastCapture) {
				r.LastCapture = v.Capture
			}
		}
	}
	if depth > 0 {
		slices.Sort(children)
		for _, c := range slices.Compact(children) {
			r.Children = append(r.Children, f.report(append(slices.Clone(line), c), depth-1))
		}
	}
	return r
}

func (f *reference) list(keep func(coverage.SiteStatus) bool) []coverage.SiteStatus {
	var out []coverage.SiteStatus
	for _, s := range f.sites {
		if s.due && under(s.Path, []sites.DivisionCode{f.q.Division}) && keep(s.SiteStatus) {
			out = append(out, s.SiteStatus)
		}
	}
	slices.SortStableFunc(out, func(a, b coverage.SiteStatus) int { return cmp.Compare(a.Path[0], b.Path[0]) })
	return out
}

// late reports whether the visit was late, as far as the visits tell that are known.
func (f *reference) late(v coverage.Visit) bool {
	i := slices.IndexFunc(f.sites, func(s referenceSite) bool { return s.Site.ID == v.Site })
	s := f.sites[i].Site
	orders := f.orders(s, v.Capture)
	if len(orders) == 0 {
		return false
	}
	from, interval := v.Capture, orders[0].Interval
	for _, o := range orders {
		interval = min(interval, o.Interval)
		if since := f.since(s, o, v.Capture); since.Before(from) {
			from = since
		}
	}
	for _, o := range f.visits {
		if o.Site == v.Site && o.Capture.Before(v.Capture) && o.Capture.After(from) {
			from = o.Capture
		}
	}
	return v.Capture.Sub(from) > time.Duration(interval)
}

func (f *reference) visitList(keep func(coverage.Visit) bool) []coverage.VisitRef {
	var out []coverage.VisitRef
	for _, s := range f.sites {
		for _, v := range s.visits {
			if under(s.Path, []sites.DivisionCode{f.q.Division}) && keep(v) {
				out = append(out, coverage.VisitRef{Capture: v.Capture, Site: v.Site, Sequence: v.Sequence})
			}
		}
	}
	slices.SortFunc(out, func(a, b coverage.VisitRef) int {
		return cmp.Or(b.Capture.Compare(a.Capture), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Sequence, b.Sequence))
	})
	return out
}

// The divisions among which the property test draws: a city, two counties,
// three townships and five villages. Townships and villages come, go and change
// their parents.
var (
	counties  = []sites.DivisionCode{"510001", "510002"}
	townships = []sites.DivisionCode{"510001001", "510001002", "510002001"}
	villages  = []sites.DivisionCode{"510001001001", "510001001002", "510001002001", "510002001001", "510002001002"}
	allCodes  = slices.Concat([]sites.DivisionCode{"510000"}, counties, townships, villages)
)

// drawTable draws a division table.
func drawTable(t *rapid.T) []sites.DivisionRow {
	var rows []sites.DivisionRow
	row := func(code sites.DivisionCode, level, parent string) {
		rows = append(rows, sites.DivisionRow{
			Row: len(rows) + 1, Code: string(code), Level: level, Parent: parent,
			Name: rapid.SampledFrom([]string{"Old", "New"}).Draw(t, "name"),
		})
	}
	below := func(parents, codes []sites.DivisionCode, level string) []sites.DivisionCode {
		var kept []sites.DivisionCode
		for i, c := range codes {
			if i == 0 || rapid.IntRange(0, 5).Draw(t, "kept") > 0 {
				kept = append(kept, c)
				row(c, level, string(rapid.SampledFrom(parents).Draw(t, "parent")))
			}
		}
		return kept
	}
	row("510000", "city", "")
	for _, c := range counties {
		row(c, "county", "510000")
	}
	below(below(counties, townships, "township"), villages, "village")
	return rows
}

// TestAgreesWithReference lets things happen at random and asks between them.
// The index that followed all of it, another one that keeps as little as it can, one
// that is fed afresh or read from a snapshot, and the reference have to give the same
// answers. A stamp that says so has to be right.
func TestAgreesWithReference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, agrees)
}

func agrees(t *rapid.T) {
	w := newWorld(t, day(10))
	w.little = coverage.New()
	w.little.KeepLittle(rapid.Int32Range(0, 4).Draw(t, "few sites"))
	ctx := t.Context()
	ids := func() []sites.SiteID {
		var out []sites.SiteID
		for s := range w.roster.Roster().Sites() {
			out = append(out, s.ID)
		}
		return out
	}
	half := func(name string, from, to int) time.Duration {
		return time.Duration(rapid.IntRange(from, to).Draw(t, name)) * 30 * time.Minute
	}
	moments := rapid.Custom(func(t *rapid.T) time.Time {
		return day(rapid.IntRange(5, 25).Draw(t, "day")).Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "quarter")) * 6 * time.Hour)
	})
	if _, err := w.roster.ImportDivisions(ctx, sites.By{Account: "admin"}, sites.Import{Effective: "2020-01-01"}, drawTable(t)); err != nil {
		t.Fatal(err)
	}

	type stamped struct {
		coverage.Report
		coverage.Stamp
	}
	type key struct {
		index string
		coverage.Query
	}
	stamps := map[key]stamped{}
	ask := func(q coverage.Query) {
		fresh := coverage.New()
		if rapid.Bool().Draw(t, "from a snapshot") {
			var b bytes.Buffer
			if err := errors.Join(w.index.Snapshot(&b), fresh.Restore(&b)); err != nil {
				t.Fatal(err)
			}
		}
		for _, v := range w.visits {
			fresh.Add(v)
		}
		fresh.SetRoster(w.roster.Roster())
		roster := w.roster.Roster()
		if q.Roster != nil {
			roster = q.Roster
		}
		want := newReference(roster, w.visits, q)
		page := rapid.IntRange(1, 5).Draw(t, "page")
		for which, x := range map[string]*coverage.Index{"followed": w.asked(), "little": w.little, "fresh": fresh} {
			name := fmt.Sprintf("%s, %s from %s to %s at %s", which, q.Division, q.Start, q.End, q.Now)
			if _, err := roster.LastDivision(q.Division, q.End); err != nil {
				if _, _, got := report(x, q); got == nil || got.Error() != err.Error() {
					t.Fatalf("%s: got error %v, want %v", name, got, err)
				}
				continue
			}
			got, stamp, err := report(x, q)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			report := want.report([]sites.DivisionCode{q.Division}, q.Depth)
			if diff := gocmp.Diff(report, got); diff != "" {
				t.Fatalf("%s: report (-want +got)\n%s", name, diff)
			}
			addsUp(t, got)
			if x != fresh && q.Known.IsZero() {
				asked := key{which, q}
				asked.Now = time.Time{}
				if before, ok := stamps[asked]; ok && before.Fresh(q.Now) {
					if diff := gocmp.Diff(before.Report, got); diff != "" {
						t.Fatalf("%s: report although fresh (-before +now)\n%s", name, diff)
					}
				}
				if !stamp.Fresh(q.Now) {
					t.Fatalf("%s: the stamp is not fresh", name)
				}
				stamps[asked] = stamped{got, stamp}
			}

			for state, in := range map[coverage.State]struct {
				figure int64
				keep   func(coverage.SiteStatus) bool
			}{
				coverage.Due:            {got.SitesDue, func(coverage.SiteStatus) bool { return true }},
				coverage.Done:           {got.SitesInspected, func(s coverage.SiteStatus) bool { return s.Inspected }},
				coverage.Overdue:        {got.SitesOverdue, func(s coverage.SiteStatus) bool { return s.Overdue }},
				coverage.NeverInspected: {got.SitesNeverInspected, func(s coverage.SiteStatus) bool { return s.NeverInspected }},
				coverage.FoundOpen:      {got.SitesFoundOpen, func(s coverage.SiteStatus) bool { return s.FoundOpen }},
			} {
				list, err := dueSites(x, q, state, page)
				if err != nil || int64(len(list)) != in.figure {
					t.Fatalf("%s: state %d lists %d sites, %v; want %d", name, state, len(list), err, in.figure)
				}
				sameSite := gocmp.Comparer(func(a, b *sites.Site) bool { return a.ID == b.ID && a.Etag() == b.Etag() })
				sameOrder := gocmp.Comparer(func(a, b *sites.ClosureOrder) bool { return a.Interval == b.Interval })
				if diff := gocmp.Diff(want.list(in.keep), list, sameSite, sameOrder); diff != "" {
					t.Fatalf("%s: sites of state %d (-want +got)\n%s", name, state, diff)
				}
			}

			for what, in := range map[string]struct {
				figure int64
				filter coverage.VisitFilter
				keep   func(coverage.Visit) bool
			}{
				"visits":       {got.CheckIns, coverage.VisitFilter{}, func(coverage.Visit) bool { return true }},
				"visited late": {got.VisitedLate, coverage.VisitFilter{VisitedLate: true}, want.late},
				"synced late":  {got.SyncedLate, coverage.VisitFilter{SyncedLate: true}, func(v coverage.Visit) bool { return v.SyncedLate }},
			} {
				var list []coverage.VisitRef
				for after := (coverage.VisitRef{}); ; after = list[len(list)-1] {
					next, err := visits(x, q, in.filter, after, page)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					list = append(list, next...)
					if len(next) < page {
						break
					}
				}
				if diff := gocmp.Diff(want.visitList(in.keep), list); diff != "" || int64(len(list)) != in.figure {
					t.Fatalf("%s: %s, want %d (-want +got)\n%s", name, what, in.figure, diff)
				}
			}
		}
	}

	// To skip an action that cannot be taken yet has rapid take another one.
	t.Repeat(map[string]func(*rapid.T){
		"visit": func(t *rapid.T) {
			all := ids()
			if len(all) == 0 {
				t.Skip()
			}
			w.visit(coverage.Visit{
				Site:    rapid.SampledFrom(all).Draw(t, "site"),
				Capture: w.now.Add(-half("ago", -3, 200)).Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "nanosecond"))),
				Open:    rapid.Bool().Draw(t, "open"), SyncedLate: rapid.Bool().Draw(t, "synced"),
				CancelledEvents: int32(rapid.IntRange(0, 3).Draw(t, "cancelled")), DispersedPeople: int32(rapid.IntRange(0, 50).Draw(t, "dispersed")),
			})
		},
		"visit again": func(t *rapid.T) {
			if len(w.visits) == 0 {
				t.Skip()
			}
			w.index.Add(rapid.SampledFrom(w.visits).Draw(t, "visit"))
		},
		// What the roster refuses is no matter here.
		"site": func(t *rapid.T) {
			w.roster.CreateSite(ctx, sites.By{Account: "admin"}, sites.NewSite{
				RegistrationNo: fmt.Sprint(rapid.IntRange(100, 999).Draw(t, "number")), Name: "site",
				Division: rapid.SampledFrom(villages).Draw(t, "village"), Registered: moments.Draw(t, "registered"),
			})
		},
		"move": func(t *rapid.T) {
			if all := ids(); len(all) > 0 {
				w.roster.MoveSite(ctx, sites.By{Account: "admin"}, rapid.SampledFrom(all).Draw(t, "site"), "", sites.Place{
					From: moments.Draw(t, "from"), Division: rapid.SampledFrom(villages).Draw(t, "village"),
				})
			}
		},
		"strike off": func(t *rapid.T) {
			if all := ids(); len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "rarely") == 0 {
				w.roster.DeregisterSite(ctx, sites.By{Account: "admin"}, rapid.SampledFrom(all).Draw(t, "site"), "", moments.Draw(t, "at"))
			}
		},
		"order": func(t *rapid.T) {
			start := moments.Draw(t, "start")
			w.roster.CreateOrder(ctx, sites.By{Account: "admin"}, order(
				fmt.Sprint(len(w.roster.Roster().Orders())), start, start.Add(half("length", 1, 500)),
				time.Duration(rapid.IntRange(1, 72).Draw(t, "interval"))*time.Hour,
				rapid.SampledFrom(allCodes).Draw(t, "division"),
			))
		},
		"end order": func(t *rapid.T) {
			if all := w.roster.Roster().Orders(); len(all) > 0 {
				w.roster.EndOrder(ctx, sites.By{Account: "admin"}, rapid.SampledFrom(all).Draw(t, "order").ID, moments.Draw(t, "end"))
			}
		},
		"revoke": func(t *rapid.T) {
			w.roster.Revoke(ctx, sites.By{Account: "admin"}, ledger.Sequence(rapid.IntRange(1, int(w.roster.Roster().Revision())).Draw(t, "revision")), "by mistake")
		},
		"divisions": func(t *rapid.T) {
			effective := fmt.Sprintf("2020-01-%02d", rapid.IntRange(2, 25).Draw(t, "effective"))
			w.roster.ImportDivisions(ctx, sites.By{Account: "admin"}, sites.Import{Effective: effective}, drawTable(t))
		},
		"time": func(t *rapid.T) {
			w.now = w.now.Add(half("hours", 0, 40)).Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "nanosecond")))
		},
		"ask": func(t *rapid.T) {
			start := rapid.IntRange(5, 25).Draw(t, "start")
			ask(coverage.Query{
				Division: rapid.SampledFrom(allCodes).Draw(t, "division"),
				Start:    day(start), End: day(start + rapid.SampledFrom([]int{1, 1, 7}).Draw(t, "days")),
				Now: w.now, Depth: rapid.IntRange(0, 3).Draw(t, "depth"),
			})
		},
		"ask as known": func(t *rapid.T) {
			known := w.now.Add(-half("ago", 0, 100))
			r, err := w.roster.RosterKnown(ctx, known)
			if err != nil {
				t.Fatal(err)
			}
			ask(coverage.Query{
				Division: "510000", Start: day(5), End: moments.Draw(t, "end").AddDate(0, 0, 1),
				Now: w.now, Known: known, Roster: r, Depth: 3,
			})
		},
		// The windows that heads look at: today, and all of the time.
		"": func(t *rapid.T) {
			ask(coverage.Query{Division: "510000", Start: w.now.Truncate(24 * time.Hour), End: w.now.Truncate(24*time.Hour).AddDate(0, 0, 1), Now: w.now, Depth: 3})
			ask(coverage.Query{Division: "510000", Start: day(1), End: day(60), Now: w.now, Depth: 2})
		},
	})
}

// addsUp checks that the rows of children add up to their parent's.
func addsUp(t *rapid.T, r coverage.Report) {
	if r.Children == nil {
		return
	}
	var sum coverage.Figures
	for _, c := range r.Children {
		sum.SitesDue += c.SitesDue
		sum.SitesInspected += c.SitesInspected
		sum.SitesOverdue += c.SitesOverdue
		sum.SitesNeverInspected += c.SitesNeverInspected
		sum.SitesFoundOpen += c.SitesFoundOpen
		sum.CheckIns += c.CheckIns
		sum.VisitedLate += c.VisitedLate
		sum.SyncedLate += c.SyncedLate
		sum.CancelledEvents += c.CancelledEvents
		sum.DispersedPeople += c.DispersedPeople
		addsUp(t, c)
	}
	if sum != r.Figures {
		t.Fatalf("%s: the children add up to %+v, want %+v", r.Division, sum, r.Figures)
	}
}
