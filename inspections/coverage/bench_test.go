package coverage_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
)

// countrySites is how many sites the country of the benchmarks has.
const countrySites = 144_000

// newCountry returns a country of four levels with ten visits of each site. It takes
// some seconds.
func newCountry(b *testing.B) *world {
	b.Helper()
	w := newWorld(b, day(15).Add(8*time.Hour))
	ctx := b.Context()
	var divisions []sites.DivisionRow
	var rows []sites.SiteRow
	row := func(code, level, parent string) string {
		divisions = append(divisions, sites.DivisionRow{Row: len(divisions) + 1, Code: code, Level: level, Name: "Name " + code, Parent: parent})
		return code
	}
	top := row("510000", "city", "")
	for county := range 300 {
		c := row(fmt.Sprintf("51%04d", county+1), "county", top)
		for township := range 16 {
			t := row(fmt.Sprintf("%s%03d", c, township), "township", c)
			for village := range 30 {
				v := row(fmt.Sprintf("%s%03d", t, village+1), "village", t)
				rows = append(rows, sites.SiteRow{Row: len(rows) + 1, RegistrationNo: "S" + v, Name: "Site", Division: v, RegisteredOn: "2020-01-01"})
			}
		}
	}
	if _, err := w.roster.ImportDivisions(ctx, sites.By{Account: "admin"}, sites.Import{Effective: "2020-01-01"}, divisions); err != nil {
		b.Fatal(err)
	}
	if _, err := w.roster.ImportSites(ctx, sites.By{Account: "admin"}, sites.Import{}, rows[:countrySites]); err != nil {
		b.Fatal(err)
	}
	if _, err := w.roster.CreateOrder(ctx, sites.By{Account: "admin"}, order("A", day(1), day(31), 24*time.Hour, "510000")); err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	sequence := int64(0)
	for s := range w.roster.Roster().Sites() {
		for d := range 10 {
			sequence++
			at := day(5 + d).Add(time.Duration(random.IntN(86400)) * time.Second)
			w.index.Add(coverage.Visit{Site: s.ID, Sequence: ledger.Sequence(sequence), Capture: at, Receive: at, Open: random.IntN(100) == 0})
		}
	}
	return w
}

func BenchmarkCountry(b *testing.B) {
	w := newCountry(b)
	x, ctx := w.index, b.Context()
	ids := func() (out []sites.SiteID) {
		for s := range w.roster.Roster().Sites() {
			out = append(out, s.ID)
		}
		return out
	}()
	q := w.today()
	past := q
	past.Start, past.End = day(12), day(13)
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	ask := func(q coverage.Query) coverage.Answer {
		a, err := x.Report(ctx, q)
		must(err)
		return a
	}
	n := 0
	b.Run("first layout and view", func(b *testing.B) {
		for b.Loop() {
			fresh := coverage.New()
			fresh.SetRoster(w.roster.Roster())
			_, err := fresh.Report(ctx, q)
			must(err)
		}
	})
	x.SetRoster(w.roster.Roster())
	b.Run("new window", func(b *testing.B) {
		for b.Loop() {
			n++
			p := past
			p.Start = p.Start.Add(-time.Duration(n))
			ask(p)
		}
	})
	b.Run("report depth 1", func(b *testing.B) {
		q := q
		q.Depth = 1
		for b.Loop() {
			ask(q)
		}
	})
	b.Run("report depth 2", func(b *testing.B) {
		q := q
		q.Depth = 2
		for b.Loop() {
			ask(q)
		}
	})
	b.Run("visit and report depth 1", func(b *testing.B) {
		q := q
		q.Depth = 1
		for b.Loop() {
			n++
			x.Add(coverage.Visit{Site: ids[n%len(ids)], Sequence: 2, Capture: q.Start.Add(time.Duration(n)), Receive: w.now})
			ask(q)
		}
	})
	b.Run("visit", func(b *testing.B) {
		for b.Loop() {
			n++
			x.Add(coverage.Visit{Site: ids[n%len(ids)], Sequence: 3, Capture: q.Start.Add(time.Duration(n)), Receive: w.now})
		}
	})
	b.Run("roster change and report", func(b *testing.B) {
		for b.Loop() {
			n++
			b.StopTimer()
			name := fmt.Sprint("Name ", n)
			_, err := w.roster.UpdateSite(ctx, sites.By{Account: "admin"}, ids[n%len(ids)], "", sites.SiteUpdate{Name: &name})
			must(err)
			b.StartTimer()
			x.SetRoster(w.roster.Roster())
			ask(q)
		}
	})
	b.Run("known before a change, again", func(b *testing.B) {
		known := q
		known.Known, known.Roster = w.now, w.roster.Roster()
		w.now = w.now.Add(time.Minute)
		name := "Another name"
		_, err := w.roster.UpdateSite(ctx, sites.By{Account: "admin"}, ids[7], "", sites.SiteUpdate{Name: &name})
		must(err)
		x.SetRoster(w.roster.Roster())
		for b.Loop() {
			ask(known)
		}
	})
	trend := func() {
		for d := range 90 {
			p := q
			p.Start, p.End = day(14-d), day(15-d)
			ask(p)
		}
	}
	trend()
	b.Run("trend of 90 days, again", func(b *testing.B) {
		for b.Loop() {
			trend()
		}
	})
	for _, state := range []coverage.State{coverage.Due, coverage.Overdue, coverage.NeverInspected} {
		b.Run(fmt.Sprintf("page of due sites, state %d, in the middle", state), func(b *testing.B) {
			for b.Loop() {
				_, err := x.Sites(ctx, q, state, coverage.SiteRef{Village: "510150008015", RegistrationNo: "S510150008015"}, 100)
				must(err)
			}
		})
	}
	for name, f := range map[string]coverage.VisitFilter{"all": {}, "open": {Open: true}, "visited late": {VisitedLate: true}} {
		b.Run("page of check-ins, "+name+", in the middle", func(b *testing.B) {
			for b.Loop() {
				_, _, err := x.Visits(ctx, past, f, coverage.VisitRef{Capture: day(12).Add(12 * time.Hour), Site: "0"}, 51)
				must(err)
			}
		})
	}
	b.Run("page of check-ins of a village", func(b *testing.B) {
		p := past
		p.Division = "510150008015"
		for b.Loop() {
			_, _, err := x.Visits(ctx, p, coverage.VisitFilter{}, coverage.VisitRef{}, 51)
			must(err)
		}
	})
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			var s strings.Builder
			must(x.Snapshot(&s))
			b.SetBytes(int64(s.Len()))
		}
	})
	b.Run("restore", func(b *testing.B) {
		var s strings.Builder
		must(x.Snapshot(&s))
		b.SetBytes(int64(s.Len()))
		for b.Loop() {
			must(coverage.New().Restore(strings.NewReader(s.String())))
		}
	})
}
