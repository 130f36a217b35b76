package coverage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xuncha/inspections/coverage"
	"xuncha/sites"
)

// newTown returns a world of one village with n sites, under an order with an
// interval of a day from the 10th until the 31st. It is the 15th, 08:00.
func newTown(tb tester, n int) *world {
	tb.Helper()
	w := newWorld(tb, day(1))
	_, err := w.roster.ImportDivisions(tb.Context(), sites.By{Account: "admin"}, sites.Import{Effective: "2020-01-01"}, []sites.DivisionRow{
		{Row: 1, Code: "510000", Level: "city", Name: "City"},
		{Row: 2, Code: "510001", Level: "county", Name: "County", Parent: "510000"},
		{Row: 3, Code: "510001001", Level: "township", Name: "Township", Parent: "510001"},
		{Row: 4, Code: "510001001001", Level: "village", Name: "Village", Parent: "510001001"},
	})
	if err != nil {
		tb.Fatal(err)
	}
	rows := make([]sites.SiteRow, n)
	for i := range rows {
		rows[i] = sites.SiteRow{
			Row: i + 1, RegistrationNo: fmt.Sprintf("S%05d", i), Name: "Site", Division: "510001001001", RegisteredOn: "2020-01-01",
		}
	}
	if _, err := w.roster.ImportSites(tb.Context(), sites.By{Account: "admin"}, sites.Import{}, rows); err != nil {
		tb.Fatal(err)
	}
	if _, err := w.roster.CreateOrder(tb.Context(), sites.By{Account: "admin"}, order("A", day(10), day(31), 24*time.Hour, "510000")); err != nil {
		tb.Fatal(err)
	}
	w.now = day(15).Add(8 * time.Hour)
	return w
}

// today asks about the city on the day on which it is now.
func (w *world) today() coverage.Query {
	start := w.now.Truncate(24 * time.Hour)
	return coverage.Query{Division: "510000", Start: start, End: start.AddDate(0, 0, 1), Now: w.now}
}

func (w *world) report(tb tester, q coverage.Query) (coverage.Report, coverage.Stamp) {
	tb.Helper()
	r, stamp, err := report(w.asked(), q)
	if err != nil {
		tb.Fatal(err)
	}
	return r, stamp
}

func TestLast(t *testing.T) {
	w := newTown(t, 1)
	site := w.sites()[0].ID
	if _, ok := w.index.Last(site, day(31)); ok {
		t.Error("a site without visits has a last one")
	}
	for _, hour := range []int{9, 7, 8} {
		w.visit(coverage.Visit{Site: site, Capture: day(14).Add(time.Duration(hour) * time.Hour)})
	}
	for _, test := range []struct {
		before time.Time
		want   time.Time
	}{
		{day(14).Add(7 * time.Hour), time.Time{}},
		{day(14).Add(7*time.Hour + 1), day(14).Add(7 * time.Hour)},
		{day(14).Add(9 * time.Hour), day(14).Add(8 * time.Hour)},
		{day(31), day(14).Add(9 * time.Hour)},
	} {
		if got, ok := w.index.Last(site, test.before); !got.Equal(test.want) || ok == test.want.IsZero() {
			t.Errorf("before %s: got %s, %t, want %s", test.before, got, ok, test.want)
		}
	}
}

func TestErrors(t *testing.T) {
	w := newTown(t, 1)
	unknown, backwards := w.today(), w.today()
	unknown.Division = "510009"
	backwards.End = backwards.Start
	for _, test := range []struct {
		name string
		q    coverage.Query
		want error
	}{
		{"division unknown", unknown, sites.ErrDivisionUnknown},
		{"window empty", backwards, coverage.ErrWindow},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, _, err := report(w.asked(), test.q); !errors.Is(err, test.want) {
				t.Errorf("Report: got %v, want %v", err, test.want)
			}
			if _, err := dueSites(w.asked(), test.q, coverage.Due, 3); !errors.Is(err, test.want) {
				t.Errorf("Sites: got %v, want %v", err, test.want)
			}
			if _, err := visits(w.asked(), test.q, coverage.VisitFilter{}, coverage.VisitRef{}, 1); !errors.Is(err, test.want) {
				t.Errorf("Visits: got %v, want %v", err, test.want)
			}
		})
	}
	if _, _, err := report(coverage.New(), w.today()); !errors.Is(err, sites.ErrDivisionUnknown) {
		t.Errorf("without a roster: got %v, want %v", err, sites.ErrDivisionUnknown)
	}
}

// Ensure a site's visits are listed without a division, page by page, also
// where several have the same capture.
func TestVisitsOfSite(t *testing.T) {
	w := newTown(t, 2)
	site := w.sites()[1].ID
	q := w.today()
	q.Division = ""
	var want []coverage.VisitRef
	for i := range 5 {
		w.visit(coverage.Visit{Site: site, Capture: q.Start, Open: i == 3})
		want = append(want, coverage.VisitRef{Capture: q.Start, Site: site, Sequence: w.numbers[site]})
	}
	w.visit(coverage.Visit{Site: site, Capture: q.Start.Add(-1)})
	w.visit(coverage.Visit{Site: w.sites()[0].ID, Capture: q.Start})

	var got []coverage.VisitRef
	after := coverage.VisitRef{}
	for range 3 {
		page, err := visits(w.asked(), q, coverage.VisitFilter{Site: site}, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page...)
		after = page[len(page)-1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got)\n%s", diff)
	}
	got, err := visits(w.asked(), q, coverage.VisitFilter{Site: site, Open: true}, coverage.VisitRef{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[3:4], got); diff != "" {
		t.Errorf("open (-want +got)\n%s", diff)
	}
	q.End = q.Start
	if _, err := visits(w.asked(), q, coverage.VisitFilter{Site: site}, coverage.VisitRef{}, 10); !errors.Is(err, coverage.ErrWindow) {
		t.Errorf("empty window: got %v", err)
	}
}

func TestStamp(t *testing.T) {
	var w *world
	var site sites.SiteID
	for _, test := range []struct {
		name   string
		change func()
		want   bool
	}{
		{"nothing happens", func() {}, true},
		{"a visit today", func() { w.visit(coverage.Visit{Site: site, Capture: w.now}) }, false},
		{"a visit on an earlier day", func() { w.visit(coverage.Visit{Site: site, Capture: day(2)}) }, false},
		{"a visit tomorrow", func() { w.visit(coverage.Visit{Site: site, Capture: day(16)}) }, true},
		{"a visit that was there already", func() { w.index.Add(w.visits[0]) }, true},
		{"a visit of a site not on the roster", func() { w.visit(coverage.Visit{Site: "elsewhere", Capture: w.now}) }, true},
		{"time passes", func() { w.now = w.now.Add(time.Hour) }, true},
		{"a site becomes overdue", func() { w.now = w.now.Add(time.Hour + 1) }, false},
		{"the clock is set back a little", func() { w.now = w.now.Add(-time.Minute) }, true},
		{"the clock is set back", func() { w.now = w.now.Add(-time.Minute - 1) }, false},
		{"the roster changes", func() { w.rename(t, site, "Renamed") }, false},
		{"many other windows are asked for", func() {
			for i := range 200 {
				q := w.today()
				q.Start = q.Start.Add(time.Duration(-i-1) * time.Hour)
				if _, _, err := report(w.asked(), q); err != nil {
					t.Error(err)
				}
			}
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w = newTown(t, 1)
			site = w.sites()[0].ID
			w.visit(coverage.Visit{Site: site, Capture: day(14).Add(9 * time.Hour)})
			before, stamp := w.report(t, w.today())
			test.change()
			if got := stamp.Fresh(w.now); got != test.want {
				t.Errorf("got fresh %t, want %t", got, test.want)
			}
			if after, _ := w.report(t, w.today()); test.want && !cmp.Equal(before, after) {
				t.Errorf("was %+v, is %+v", before, after)
			}
		})
	}
	if (coverage.Stamp{}).Fresh(day(15)) {
		t.Error("the zero stamp is fresh")
	}
	w = newTown(t, 1)
	q := w.today()
	q.Known, q.Roster = q.Now, w.roster.Roster()
	if _, stamp := w.report(t, q); stamp.Fresh(w.now) {
		t.Error("an answer as known at a time has a stamp that is fresh")
	}
}

// Ensure that what a wrong clock has made overdue is not, once it is put right.
func TestClockSetBack(t *testing.T) {
	w := newTown(t, 1)
	w.visit(coverage.Visit{Site: w.sites()[0].ID, Capture: w.now.Add(-time.Hour)})
	q := w.today()
	q.End = q.End.AddDate(0, 0, 10)
	for _, test := range []struct {
		now  time.Time
		want int64
	}{
		{w.now, 0},
		{w.now.AddDate(0, 0, 5), 1},
		{w.now.AddDate(0, 0, 5).Add(-30 * time.Second), 1},
		{w.now, 0},
	} {
		q.Now = test.now
		if r, _ := w.report(t, q); r.SitesOverdue != test.want {
			t.Errorf("at %s: got %d overdue, want %d", test.now, r.SitesOverdue, test.want)
		}
	}
}

// Ensure that windows and visits of any time are answered.
func TestFarTimes(t *testing.T) {
	w := newTown(t, 1)
	site := w.sites()[0].ID
	w.visit(coverage.Visit{Site: site, Capture: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)})
	w.visit(coverage.Visit{Site: site, Capture: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)})
	w.visit(coverage.Visit{Site: site, Capture: day(12)})
	for _, test := range []struct {
		from, to, now          int // years
		due, overdue, checkIns int64
	}{
		{2020, 2021, 9999, 1, 0, 1},
		{2020, 2021, 1, 1, 0, 1},
		{1, 2, 9999, 0, 0, 0},
		{1, 2, 1, 0, 0, 0},
		{9998, 9999, 1, 0, 0, 0},
		{9998, 9999, 9999, 0, 0, 0},
	} {
		year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
		r, _ := w.report(t, coverage.Query{Division: "510000", Start: year(test.from), End: year(test.to), Now: year(test.now)})
		if r.SitesDue != test.due || r.SitesOverdue != test.overdue || r.CheckIns != test.checkIns {
			t.Errorf("%d to %d in %d: got %+v, want %d due, %d overdue, %d check-ins",
				test.from, test.to, test.now, r.Figures, test.due, test.overdue, test.checkIns)
		}
	}
}

// Ensure that nothing is lost or doubled when visits, some of them twice and in
// any order, come from many goroutines while views are made and given up.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	w := newTown(t, 5000) // more than are counted in one step
	all := w.sites()
	rnd := rand.New(rand.NewPCG(1, 2))
	var feed []coverage.Visit
	for i := range 20_000 {
		site := all[rnd.IntN(len(all))].ID
		w.numbers[site]++
		v := coverage.Visit{
			Site: site, Sequence: w.numbers[site], Receive: w.now, Open: i%5 == 0, DispersedPeople: int32(i % 7),
			Capture: w.now.Add(-time.Duration(rnd.IntN(40)) * time.Hour),
		}
		w.visits = append(w.visits, v)
		feed = append(feed, v)
		if i%3 == 0 {
			feed = append(feed, v)
		}
	}
	rnd.Shuffle(len(feed), func(i, j int) { feed[i], feed[j] = feed[j], feed[i] })

	// Asked over and over, each window's figures may only grow.
	var wg, askers sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		askers.Go(func() {
			q := w.today()
			q.Start = q.Start.AddDate(0, 0, -i%2)
			var before int64
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				r, _, err := report(w.asked(), q)
				if err != nil || r.CheckIns < before {
					t.Errorf("got %d check-ins after %d, %v", r.CheckIns, before, err)
					return
				}
				before = r.CheckIns
				if i == 0 && n%50 == 0 {
					w.rename(t, w.sites()[0].ID, fmt.Sprint("Site ", n))
				}
				if _, err := dueSites(w.asked(), q, coverage.Overdue, 3); err != nil {
					t.Error(err)
				}
			}
		})
	}
	const goroutines = 64
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < len(feed); i += goroutines {
				w.index.Add(feed[i])
			}
		})
	}
	wg.Wait()
	close(done)
	askers.Wait()

	q := w.today()
	q.Depth = 3
	want := newReference(w.roster.Roster(), w.visits, q).report([]sites.DivisionCode{q.Division}, 3)
	got, _ := w.report(t, q)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Ensure that no more views are kept than there should be, however many questions are
// given up before they are answered.
func TestGivenUpQuestionsLeaveNoViews(t *testing.T) {
	w := newTown(t, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 1000 {
		q := w.today()
		q.Start = q.Start.Add(time.Duration(-i) * time.Second)
		if _, err := w.asked().Report(ctx, q); err == nil {
			t.Fatal("a question is answered whose caller has left")
		}
	}
	if n := w.index.Views(); n > 128 {
		t.Errorf("%d views are kept", n)
	}
}

// Ensure that an answer is not said to hold that was begun before the roster changed.
func TestStampOfEarlierRoster(t *testing.T) {
	w := newTown(t, 2000)
	changed := false
	w.index.OnStep(func() {
		if !changed {
			changed = true
			w.rename(t, w.sites()[0].ID, "Renamed")
		}
	})
	_, stamp := w.report(t, w.today())
	if !changed || stamp.Fresh(w.now) {
		t.Errorf("the roster changed meanwhile: %t, and the answer is said to hold: %t", changed, stamp.Fresh(w.now))
	}
	if _, stamp := w.report(t, w.today()); !stamp.Fresh(w.now) {
		t.Error("the next answer is not said to hold")
	}
}
