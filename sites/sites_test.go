package sites_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

var shanghai = time.FixedZone("Asia/Shanghai", 8*3600)

// day returns the first moment of a day of the deployment.
func day(t testing.TB, s string) time.Time {
	t.Helper()
	d, err := time.ParseInLocation(time.DateOnly, s, shanghai)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A store is all that the roster is stored in.
type store struct {
	*ledgertest.Memory
	sitestest.MemoryRows
}

func newStore(t testing.TB) *store { return &store{Memory: ledgertest.New(t)} }

// A world is a service on a store in memory with a clock of its own.
type world struct {
	*sites.Service
	store *store
	now   time.Time
	ids   atomic.Int64
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{store: newStore(t), now: day(t, "2020-02-01").Add(8 * time.Hour)}
	w.Service = w.open(t)
	return w
}

// open opens the world's store once more, as another server or after a restart.
func (w *world) open(t testing.TB) *sites.Service {
	t.Helper()
	s, err := sites.Open(t.Context(), w.config())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// config returns what another service on the world's store works with.
func (w *world) config() sites.Config {
	return sites.Config{
		Ledger: w.store, Rows: &w.store.MemoryRows, Zone: shanghai,
		Now: func() time.Time { return w.now },
		NewID: func() string {
			return fmt.Sprintf("%08d-0000-4000-8000-%012d", w.store.Count(ledger.Roster), w.ids.Add(1))
		},
	}
}

// readTable returns the rows of a sample table below its header.
func readTable(t testing.TB, name string) [][]string {
	t.Helper()
	f, err := os.Open("../server/internal/sampledata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

func divisionRows(t testing.TB, year string) []sites.DivisionRow {
	t.Helper()
	name := map[string]string{"2019": "guangan_divisions_2019-10-31.csv", "2023": "guangan_divisions_2023-06-30.csv"}[year]
	var out []sites.DivisionRow
	for i, r := range readTable(t, name) {
		out = append(out, sites.DivisionRow{Row: i + 2, Code: r[0], Name: r[1], Level: r[2], Parent: r[3]})
	}
	return out
}

func siteRows(t testing.TB) []sites.SiteRow {
	t.Helper()
	var out []sites.SiteRow
	for i, r := range readTable(t, "guangan_sites_sample.csv") {
		out = append(out, sites.SiteRow{
			Row: i + 2, RegistrationNo: r[0], Name: r[1], Division: r[2], Address: r[3],
			Latitude: r[4], Longitude: r[5], RegisteredOn: r[6], DeregisteredOn: r[7],
		})
	}
	return out
}

func (w *world) importDivisions(t testing.TB, year, effective string) *sites.DivisionImport {
	t.Helper()
	n, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: effective, Source: year}, divisionRows(t, year))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// filled returns a world with the sample roster of early 2020.
func filled(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.importDivisions(t, "2019", "2019-10-31")
	if _, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{Source: "sites"}, siteRows(t)); err != nil {
		t.Fatal(err)
	}
	return w
}

// site returns the site with the number.
func (w *world) site(t testing.TB, no string) *sites.Site {
	t.Helper()
	s, err := w.Roster().SiteByRegistration(no)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// order returns an order that can be issued, over the whole city for 30 days.
func order(t testing.TB, number, start string) sites.ClosureOrder {
	return sites.ClosureOrder{
		Number: number, Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{"511600"},
		Start: day(t, start), End: day(t, start).AddDate(0, 0, 30), Interval: sites.Duration(24 * time.Hour),
	}
}

// wantField checks that the error wraps want and names the field.
func wantField(t testing.TB, err, want error, field string) {
	t.Helper()
	var f *sites.FieldError
	if !errors.Is(err, want) || !errors.As(err, &f) || f.Field != field {
		t.Errorf("got %v, want %v in field %s", err, want, field)
	}
}

func TestImportDivisions(t *testing.T) {
	w := newWorld(t)
	n := w.importDivisions(t, "2019", "2019-10-31")
	if n.Created != 3179 || n.Unchanged+n.Ended+n.Renamed+n.Regrouped != 0 {
		t.Errorf("got %+v, want 3179 created", n)
	}
	if got := len(w.Roster().Children("511600", w.now)); got != 6 {
		t.Errorf("got %d counties, want 6", got)
	}

	t.Run("AgainChangesNothing", func(t *testing.T) {
		n := w.importDivisions(t, "2019", "2019-10-31")
		if n.Changed || n.Unchanged != 3179 || w.Roster().Revision() != 1 {
			t.Errorf("got %+v at revision %d, want all unchanged at revision 1", n, w.Roster().Revision())
		}
	})
	t.Run("DryRunStoresNothing", func(t *testing.T) {
		n, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2020-06-30", DryRun: true}, divisionRows(t, "2023"))
		if err != nil || n.Created == 0 || n.Changed || w.store.Count(ledger.Roster) != 1 {
			t.Errorf("got %+v, %v with %d entries", n, err, w.store.Count(ledger.Roster))
		}
	})
	t.Run("DayBeforeTheTable", func(t *testing.T) {
		_, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2019-10-30"}, divisionRows(t, "2023"))
		wantField(t, err, sites.ErrInvalid, "effective_date")
	})
	t.Run("PartOfTheCityLeavesTheRest", func(t *testing.T) {
		w := newWorld(t)
		w.importDivisions(t, "2019", "2019-10-31")
		var county []sites.DivisionRow
		for _, r := range divisionRows(t, "2019") {
			if r.Code == "511681" || r.Parent == "511681" {
				county = append(county, r)
			}
		}
		n, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2020-01-01"}, county)
		if err != nil {
			t.Fatal(err)
		}
		if n.Created != 0 || n.Ended == 0 || len(w.Roster().Children("511602", w.now)) == 0 {
			t.Errorf("got %+v: want only the villages of 511681 ended", n)
		}
	})
}

// TestMerger goes through the mergers that took place in Guang'an by 2023.
func TestMerger(t *testing.T) {
	w := filled(t)
	w.now = day(t, "2023-07-01")
	n := w.importDivisions(t, "2023", "2023-06-30")
	if got := n.Unchanged + n.Created + n.Renamed + n.Regrouped; got != 1846 {
		t.Errorf("got %d divisions in force (%+v), want 1846", got, n)
	}
	if n.Renamed == 0 || n.Ended != 3179-1846+n.Created {
		t.Errorf("got %+v", n)
	}
	r := w.Roster()
	if _, err := r.Division("511602100007", day(t, "2020-02-01")); err != nil {
		t.Errorf("a village of 2019 on a day of 2020: %v", err)
	}
	if _, err := r.Division("511602100007", w.now); !errors.Is(err, sites.ErrDivisionEnded) {
		t.Errorf("got %v, want ErrDivisionEnded", err)
	}

	moves := readTable(t, "guangan_sites_moves_2023-06-30.csv")
	var displaced, want []string
	for _, s := range n.Displaced {
		displaced = append(displaced, s.RegistrationNo)
	}
	var rows []sites.SiteRow
	for i, m := range moves {
		// One site of the table moves out of a village that goes on under
		// another name; it is not displaced.
		if _, err := r.Division(sites.DivisionCode(m[1]), w.now); err != nil {
			want = append(want, m[0])
		}
		rows = append(rows, sites.SiteRow{Row: i + 2, RegistrationNo: m[0], Division: m[2]})
	}
	if !slices.Equal(displaced, want) || len(want) != len(moves)-1 {
		t.Errorf("displaced: got %v, want %v", displaced, want)
	}
	site := w.site(t, want[0])
	if path := r.Path(site.Places[0].Division, w.now); path[len(path)-1] != "511600" {
		t.Errorf("a displaced site has the path %v, which does not lead to its city", path)
	}

	moved, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2023-06-30"}, rows)
	if err != nil || moved.Moved != len(rows) {
		t.Fatalf("got %+v, %v; want %d moved", moved, err, len(rows))
	}
	if n := w.importDivisions(t, "2023", "2023-06-30"); len(n.Displaced) != 0 || n.Changed {
		t.Errorf("after the moves %d are displaced; changed %v", len(n.Displaced), n.Changed)
	}
	revision := w.Roster().Revision()
	if n := w.importDivisions(t, "2019", "2019-10-31"); n.Changed || n.Unchanged != 3179 || w.Roster().Revision() != revision {
		t.Errorf("the older table again: got %+v, want all unchanged", n)
	}
	_, err = w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2019-10-31"}, divisionRows(t, "2019")[:3000])
	wantField(t, err, sites.ErrInvalid, "effective_date")
	if got := len(w.Roster().Placements(w.site(t, want[0]))); got != 2 {
		t.Errorf("a site that moved has %d placements, want 2", got)
	}
}

// TestCorrectedTable ensures that a village that the same day's corrected table
// leaves out is one that has ended: its sites keep their place.
func TestCorrectedTable(t *testing.T) {
	const first, second = sites.DivisionCode("511602001001"), sites.DivisionCode("511602001002")
	rows := []sites.DivisionRow{
		{Row: 2, Code: "511600", Name: "广安市", Level: "city"},
		{Row: 3, Code: "511602", Name: "广安区", Level: "county", Parent: "511600"},
		{Row: 4, Code: "511602001", Name: "浓洄街道", Level: "township", Parent: "511602"},
		{Row: 5, Code: string(second), Name: "乙", Level: "village", Parent: "511602001"},
		{Row: 6, Code: string(first), Name: "甲", Level: "village", Parent: "511602001"},
	}
	for _, test := range []struct {
		name  string
		early []sites.DivisionRow // what was in force before that day
	}{
		{"FirstTableOfAll", nil},
		{"VillageThatBeganThatDay", rows[:4]},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			take := func(day string, rows []sites.DivisionRow) *sites.DivisionImport {
				t.Helper()
				n, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: day}, rows)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			if test.early != nil {
				take("2019-01-01", test.early)
			}
			take("2020-01-01", rows)
			if _, err := w.CreateSite(t.Context(), sites.By{Account: "test"}, sites.NewSite{RegistrationNo: "1", Name: "样例", Division: first}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, order(t, "1", "2020-02-01")); err != nil {
				t.Fatal(err)
			}
			n := take("2020-01-01", rows[:4])
			if n.Ended != 1 || len(n.Displaced) != 1 || n.Displaced[0].RegistrationNo != "1" {
				t.Errorf("got %+v, want the village ended and its site displaced", n)
			}
			r, site := w.Roster(), w.site(t, "1")
			if _, err := r.Division(first, w.now); !errors.Is(err, sites.ErrDivisionEnded) {
				t.Errorf("the village: got %v, want ErrDivisionEnded", err)
			}
			if got := r.Children("511602001", w.now); len(got) != 1 || got[0].Code != second {
				t.Errorf("villages of the township: got %v, want %s alone", got, second)
			}
			if !r.Within(first, "511600", w.now) || r.OrderAt(site, w.now) == nil {
				t.Errorf("the site left its place %v and its order", r.Path(first, w.now))
			}
			if got := len(r.Concerning(site)); got != int(r.Revision()) {
				t.Errorf("%d of %d entries concern the site, want all", got, r.Revision())
			}
			if n := take("2020-01-01", rows); n.Created != 1 || len(n.Displaced) != 0 {
				t.Errorf("the village again: got %+v, want it created and no site displaced", n)
			}
			if got := w.Roster().Versions(first); len(got) != 1 || !got[0].To.IsZero() {
				t.Errorf("got the versions %v, want one without an end", got)
			}
		})
	}
}

func TestImportProblems(t *testing.T) {
	w := filled(t)
	w.now = day(t, "2023-07-01")
	w.importDivisions(t, "2023", "2023-06-30")
	entries := w.store.Count(ledger.Roster)
	city := sites.DivisionRow{Row: 2, Code: "511600", Name: "广安市", Level: "city"}
	for _, test := range []struct {
		name   string
		row    sites.DivisionRow
		column string
		want   error
	}{
		{"NoCode", sites.DivisionRow{Code: "51160", Name: "x", Level: "county", Parent: "511600"}, "code", sites.ErrInvalid},
		{"LettersInCode", sites.DivisionRow{Code: "5116ab", Name: "x", Level: "county", Parent: "511600"}, "code", sites.ErrInvalid},
		{"LevelDoesNotFitCode", sites.DivisionRow{Code: "511602001", Name: "x", Level: "county", Parent: "511600"}, "level", sites.ErrInvalid},
		{"NoLevel", sites.DivisionRow{Code: "511602", Name: "x", Level: "planet", Parent: "511600"}, "level", sites.ErrInvalid},
		{"NoName", sites.DivisionRow{Code: "511602", Level: "区", Parent: "511600"}, "name", sites.ErrInvalid},
		{"NoParent", sites.DivisionRow{Code: "511602", Name: "x", Level: "county"}, "parent_code", sites.ErrInvalid},
		{"UnknownParent", sites.DivisionRow{Code: "511602", Name: "x", Level: "county", Parent: "990000"}, "parent_code", sites.ErrDivisionUnknown},
		{"ParentOfWrongLevel", sites.DivisionRow{Code: "511603", Name: "x", Level: "county", Parent: "511603"}, "parent_code", sites.ErrInvalid},
		{"ParentThatTheTableEnds", sites.DivisionRow{Code: "511603100", Name: "x", Level: "township", Parent: "511603"}, "parent_code", sites.ErrInvalid},
		{"Twice", sites.DivisionRow{Code: "511600", Name: "x", Level: "city"}, "code", sites.ErrInvalid},
		{"LevelChanges", sites.DivisionRow{Code: "511602", Name: "x", Level: "city"}, "level", sites.ErrInvalid},
	} {
		t.Run("Division"+test.name, func(t *testing.T) {
			test.row.Row = 7
			_, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2023-06-30"}, []sites.DivisionRow{city, test.row})
			wantProblem(t, err, test.column, test.want)
		})
	}
	good := sites.SiteRow{RegistrationNo: "X-1", Name: "x", Division: "511602001003", Latitude: "30.1", Longitude: "106.1", RegisteredOn: "2020-01-01"}
	for _, test := range []struct {
		name   string
		change func(*sites.SiteRow)
		column string
		want   error
	}{
		{"NoNumber", func(r *sites.SiteRow) { r.RegistrationNo = "" }, "registration_no", sites.ErrInvalid},
		{"NoName", func(r *sites.SiteRow) { r.Name = " " }, "name", sites.ErrInvalid},
		{"NameTooLong", func(r *sites.SiteRow) { r.Name = strings.Repeat("样", 201) }, "name", sites.ErrInvalid},
		{"UnknownVillage", func(r *sites.SiteRow) { r.Division = "511602001999" }, "division_code", sites.ErrDivisionUnknown},
		{"VillageThatEnded", func(r *sites.SiteRow) { r.Division = "511602100007" }, "division_code", sites.ErrDivisionEnded},
		{"Township", func(r *sites.SiteRow) { r.Division = "511602001" }, "division_code", sites.ErrNotVillage},
		{"NoCode", func(r *sites.SiteRow) { r.Division = "abc" }, "division_code", sites.ErrInvalid},
		{"Latitude", func(r *sites.SiteRow) { r.Latitude = "90.01" }, "latitude", sites.ErrInvalid},
		{"Longitude", func(r *sites.SiteRow) { r.Longitude = "-180.5" }, "longitude", sites.ErrInvalid},
		{"NotANumber", func(r *sites.SiteRow) { r.Latitude = "NaN" }, "latitude", sites.ErrInvalid},
		{"OneCoordinate", func(r *sites.SiteRow) { r.Longitude = "" }, "longitude", sites.ErrInvalid},
		{"NoDay", func(r *sites.SiteRow) { r.RegisteredOn = "31.12.2019" }, "registered_on", sites.ErrInvalid},
		{"NoRegistration", func(r *sites.SiteRow) { r.RegisteredOn = "" }, "registered_on", sites.ErrInvalid},
		{"EndsBeforeItBegins", func(r *sites.SiteRow) { r.DeregisteredOn = "2019-12-31" }, "deregistered_on", sites.ErrInvalid},
	} {
		t.Run("Site"+test.name, func(t *testing.T) {
			row := good
			row.Row = 7
			test.change(&row)
			_, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{}, []sites.SiteRow{row})
			wantProblem(t, err, test.column, test.want)
		})
	}
	t.Run("EveryDivisionProblemAtOnce", func(t *testing.T) {
		rows := []sites.DivisionRow{
			city,
			{Row: 7, Code: "511699001", Name: "x", Level: "township", Parent: "511699"}, // unknown parent
			{Row: 3, Code: "5116o2", Name: "x", Level: "county", Parent: "511600"},
			{Row: 4, Code: "511602", Name: "广安区", Level: "city"}, // a county, with townships in it
			{Row: 5, Code: "511602001", Name: "", Level: "township", Parent: "511602"},
			{Row: 6, Code: "511603", Name: "前锋区", Level: "township", Parent: "511600"},
			{Row: 8, Code: "511602001003", Name: "x", Level: "village", Parent: "511602001"},
			{Row: 9, Code: "511603001", Name: "x", Level: "township", Parent: "511603"},
		}
		_, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2023-06-30"}, rows)
		var rejected *sites.ImportError
		if !errors.As(err, &rejected) {
			t.Fatalf("got %v, want an *ImportError", err)
		}
		var got []string
		for _, p := range rejected.Problems {
			got = append(got, fmt.Sprint(p.Row, " ", p.Column))
		}
		want := []string{"3 code", "4 level", "5 name", "6 level", "7 parent_code"}
		if !slices.Equal(got, want) || rejected.Total != len(want) {
			t.Errorf("got %v (%d in all), want %v", rejected.Problems, rejected.Total, want)
		}
	})
	t.Run("FirstDivisionProblemsListed", func(t *testing.T) {
		// The first row has what only a look at the roster shows, and all others
		// what can be seen without it.
		rows := []sites.DivisionRow{city, {Row: 3, Code: "511699001", Name: "x", Level: "township", Parent: "511699"}}
		for i := range 150 {
			rows = append(rows, sites.DivisionRow{Row: i + 4, Code: "1", Name: "x", Level: "county", Parent: "511600"})
		}
		_, err := w.ImportDivisions(t.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2023-06-30"}, rows)
		var rejected *sites.ImportError
		if !errors.As(err, &rejected) || len(rejected.Problems) != 100 || rejected.Total != 151 ||
			rejected.Problems[0].Row != 3 || rejected.Problems[99].Row != 102 {
			t.Errorf("got %v, want the problems of rows 3 to 102 and 151 in all", err)
		}
	})
	t.Run("SiteTwice", func(t *testing.T) {
		first, second := good, good
		first.Row, second.Row = 2, 7
		_, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{}, []sites.SiteRow{first, second})
		wantProblem(t, err, "registration_no", sites.ErrInvalid)
	})
	t.Run("AtMost100Listed", func(t *testing.T) {
		rows := make([]sites.SiteRow, 150)
		for i := range rows {
			rows[i] = sites.SiteRow{Row: i + 2, RegistrationNo: fmt.Sprint(i), Division: "1", RegisteredOn: "2020-01-01", Name: "x"}
		}
		_, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{}, rows)
		var rejected *sites.ImportError
		if !errors.As(err, &rejected) || len(rejected.Problems) != 100 || rejected.Total != 150 {
			t.Errorf("got %v, want 100 of 150 problems", err)
		}
	})
	if got := w.store.Count(ledger.Roster); got != entries {
		t.Errorf("%d entries were stored by imports that were rejected", got-entries)
	}
}

// wantProblem checks that the only problem of the import is in row 7.
func wantProblem(t *testing.T, err error, column string, want error) {
	t.Helper()
	var rejected *sites.ImportError
	if !errors.Is(err, sites.ErrImportRejected) || !errors.As(err, &rejected) {
		t.Fatalf("got %v, want ErrImportRejected", err)
	}
	if p := rejected.Problems; len(p) != 1 || p[0].Row != 7 || p[0].Column != column || !errors.Is(p[0].Err, want) {
		t.Errorf("got %v, want one in row 7, column %s: %v", p, column, want)
	}
}
