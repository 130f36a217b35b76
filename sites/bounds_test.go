package sites_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// TestDatesAreBounded ensures that no change takes effect before 1900 or more than 366
// days ahead, by whatever way it comes, and that the refusal names the bound.
func TestDatesAreBounded(t *testing.T) {
	by := sites.By{Account: "test"}
	// The clock shows 8:00 on 2020-02-01.
	earliest, latest := day(t, "1900-01-01"), day(t, "2021-02-01").Add(8*time.Hour)
	ways := []struct {
		name, field string
		// past tells whether a time of the past is taken.
		past   bool
		change func(*world, time.Time) error
	}{
		{"Registered", "registered_time", true, func(w *world, at time.Time) error {
			_, err := w.CreateSite(t.Context(), by, sites.NewSite{RegistrationNo: "new", Name: "x", Division: village, Registered: at})
			return err
		}},
		{"Moved", "effective_time", false, func(w *world, at time.Time) error {
			_, err := w.MoveSite(t.Context(), by, w.site(t, "SC-GA-0001").ID, "", sites.Place{Division: village, From: at})
			return err
		}},
		{"StruckOff", "effective_time", false, func(w *world, at time.Time) error {
			_, err := w.DeregisterSite(t.Context(), by, w.site(t, "SC-GA-0001").ID, "", at)
			return err
		}},
		{"Divisions", "effective_date", false, func(w *world, at time.Time) error {
			_, err := w.ImportDivisions(t.Context(), by, sites.Import{Effective: at.Format(time.DateOnly)}, divisionRows(t, "2023"))
			return err
		}},
		{"Sites", "effective_date", true, func(w *world, at time.Time) error {
			_, err := w.ImportSites(t.Context(), by, sites.Import{Effective: at.Format(time.DateOnly)}, siteRows(t))
			return err
		}},
		{"RegisteredInATable", "registered_on", true, func(w *world, at time.Time) error {
			return w.importRow(t, sites.SiteRow{Row: 2, RegistrationNo: "new", Name: "x", Division: string(village), RegisteredOn: at.Format(time.DateOnly)})
		}},
		{"StruckOffInATable", "deregistered_on", false, func(w *world, at time.Time) error {
			return w.importRow(t, sites.SiteRow{Row: 2, RegistrationNo: "SC-GA-0001", DeregisteredOn: at.Format(time.DateOnly)})
		}},
	}
	w := filled(t)
	for _, way := range ways {
		for _, test := range []struct {
			name string
			at   time.Time
			says string
		}{
			{"2062", day(t, "2062-01-01"), "2021-02-01 is the latest"},
			{"ADayTooFarAhead", latest.AddDate(0, 0, 1), "more than 366 days ahead"},
			{"1850", day(t, "1850-05-01"), "before 1900-01-01"},
			{"ADayTooEarly", earliest.Add(-time.Second), "before 1900-01-01"},
		} {
			t.Run(way.name+test.name, func(t *testing.T) {
				err := way.change(w, test.at)
				var rows *sites.ImportError
				if strings.HasSuffix(way.field, "_on") {
					if !errors.As(err, &rows) || rows.Problems[0].Column != way.field {
						t.Fatalf("got %v, want a problem of %s", err, way.field)
					}
					err = rows.Problems[0].Err
				} else {
					wantField(t, err, sites.ErrOutOfRange, way.field)
				}
				if !errors.Is(err, sites.ErrOutOfRange) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("got %v, want it to say %q", err, test.says)
				}
			})
		}
		t.Run(way.name+"AsFarAheadAsItGoes", func(t *testing.T) {
			if err := way.change(filled(t), latest); err != nil {
				t.Error(err)
			}
		})
		if way.past {
			t.Run(way.name+"AsEarlyAsItGoes", func(t *testing.T) {
				if err := way.change(filled(t), earliest); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestBoundsAreDaysOfTheZone ensures that the bound which people are told is a day of the
// deployment, also where the server's clock is in another zone.
func TestBoundsAreDaysOfTheZone(t *testing.T) {
	w := filled(t)
	w.now = day(t, "2020-02-02").Add(time.Hour).UTC() // still the 1st there
	_, err := w.DeregisterSite(t.Context(), sites.By{Account: "test"}, w.site(t, "SC-GA-0001").ID, "", day(t, "2062-01-01"))
	var value *sites.ValueError
	if !errors.As(err, &value) {
		t.Fatalf("got %v, want the bounds", err)
	}
	if got := value.Most.(time.Time).Format(time.DateOnly); got != "2021-02-02" || !strings.Contains(err.Error(), got) {
		t.Errorf("got %v with the bound %s, want 2021-02-02", err, got)
	}
}

// importRow imports a table of sites with one row.
func (w *world) importRow(t testing.TB, row sites.SiteRow) error {
	t.Helper()
	_, err := w.ImportSites(t.Context(), sites.By{Account: "test"}, sites.Import{}, []sites.SiteRow{row})
	return err
}

// TestOrdersAreBounded ensures that an order is entered at about the time from which it
// holds, and can still close something.
func TestOrdersAreBounded(t *testing.T) {
	w := filled(t)
	const day = 24 * time.Hour
	for _, test := range []struct {
		name       string
		start, end time.Duration // from now
		field      string        // empty where it is taken
	}{
		{"EnteredLate", -30 * day, 30 * day, ""},
		{"EnteredTooLate", -30*day - 1, 30 * day, "start_time"},
		{"OfAnotherYear", -366 * day, -336 * day, "start_time"},
		{"EndsNow", -day, 0, "end_time"},
		{"EndsSoon", -day, 1, ""},
		{"OverSinceYesterday", -20 * day, -day, "end_time"},
		{"NextYear", 366 * day, 396 * day, ""},
		{"TooFarAhead", 366*day + 1, 396 * day, "start_time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := order(t, test.name, "2020-02-01")
			o.Start, o.End = w.now.Add(test.start), w.now.Add(test.end)
			_, err := w.CreateOrder(t.Context(), sites.By{Account: "test"}, o)
			if test.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantField(t, err, sites.ErrOutOfRange, test.field)
		})
	}
}

// TestPlannedTableIsNamed ensures that a county's table of a later day, which keeps its
// city's table out, can be found by what the refusal says, and keeps out no other county's.
func TestPlannedTableIsNamed(t *testing.T) {
	by := sites.By{Account: "test"}
	county := func(code, name string) (out []sites.DivisionRow) {
		for _, r := range divisionRows(t, "2019") {
			if strings.HasPrefix(r.Code, code) {
				out = append(out, r)
			}
		}
		out[0].Name = name
		return out
	}
	w := filled(t)
	if _, err := w.ImportDivisions(t.Context(), by, sites.Import{Effective: "2021-01-01"}, county("511602", "新区")); err != nil {
		t.Fatal(err)
	}
	for name, rows := range map[string][]sites.DivisionRow{"TheCity": divisionRows(t, "2023"), "TheCountyItself": county("511602", "旧区")} {
		_, err := w.ImportDivisions(t.Context(), by, sites.Import{Effective: "2020-03-01"}, rows)
		if err == nil {
			t.Fatalf("%s: the table is taken", name)
		}
		wantField(t, err, sites.ErrInvalid, "effective_date")
		for _, says := range []string{"change 3 of the roster", "511602", "2021-01-01", "give that day or a later one", "RevokeChange", "xuncha revoke"} {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: got %v, want it to say %q", name, err, says)
			}
		}
	}
	if _, err := w.ImportDivisions(t.Context(), by, sites.Import{Effective: "2020-03-01"}, county("511681", "新市")); err != nil {
		t.Errorf("another county's table: %v", err)
	}
}

// unbounded returns a world whose history was written before dates were bounded: with a
// site registered in 1850 that is to move in 2062, one struck off in 2062, one registered
// in 2109, orders of 1850, 2020 and 2062, and a county's table of 2062.
func unbounded(t testing.TB) *world {
	t.Helper()
	w := &world{store: newStore(t), now: day(t, "2020-02-02").Add(8 * time.Hour)}
	if err := sitestest.AppendFrom(t.Context(), w.store, &w.store.MemoryRows, "testdata/unbounded"); err != nil {
		t.Fatal(err)
	}
	w.Service = w.open(t)
	return w
}

// TestUnboundedHistory ensures that a history with dates that would not be taken today is
// read for what it says, takes further changes, and says how to get out of what is in the way.
func TestUnboundedHistory(t *testing.T) {
	by := sites.By{Account: "test"}
	w := unbounded(t)
	var kept bytes.Buffer
	if err := w.Snapshot(&kept); err != nil {
		t.Fatal(err)
	}
	restored := sites.New(w.config())
	if err := restored.Restore(&kept); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*sites.Roster{"read": w.Roster(), "restored": restored.Roster()} {
		a, b, c := siteOf(t, r, "A"), siteOf(t, r, "B"), siteOf(t, r, "C")
		for _, test := range []struct {
			day          string
			registered   [3]bool
			place, order string
		}{
			{"1850-06-15", [3]bool{true, false, false}, "511602001001", "1850"},
			{"2020-02-15", [3]bool{true, true, false}, "511602001001", "2020"},
			{"2062-06-15", [3]bool{true, false, false}, "511602001002", "2062"},
			{"2110-01-01", [3]bool{true, false, true}, "511602001002", ""},
		} {
			at, number := day(t, test.day), ""
			if o := r.OrderAt(a, at); o != nil {
				number = o.Number
			}
			got := [3]bool{a.RegisteredAt(at), b.RegisteredAt(at), c.RegisteredAt(at)}
			if got != test.registered || string(a.PlaceAt(at).Division) != test.place || number != test.order {
				t.Errorf("%s: %s: registered %v, A in %s under the order %q; want %v, %s, %q",
					name, test.day, got, a.PlaceAt(at).Division, number, test.registered, test.place, test.order)
			}
		}
	}

	// A file that says what is on the roster already changes nothing, as ever.
	n, err := w.ImportSites(t.Context(), by, sites.Import{}, []sites.SiteRow{
		{Row: 2, RegistrationNo: "A", RegisteredOn: "1850-05-01"}, {Row: 3, RegistrationNo: "C", RegisteredOn: "2109-12-31"},
		{Row: 4, RegistrationNo: "B", DeregisteredOn: "2062-01-01"},
	})
	if err != nil || n.Changed {
		t.Errorf("the same dates again: %+v, %v; want no change", n, err)
	}
	// What is wrong can be put right.
	for _, row := range []sites.SiteRow{
		{Row: 2, RegistrationNo: "C", RegisteredOn: "2019-12-31"}, {Row: 2, RegistrationNo: "B", DeregisteredOn: "2020-06-01"},
	} {
		if err := w.importRow(t, row); err != nil {
			t.Error(err)
		}
	}
	_, err = w.MoveSite(t.Context(), by, siteOf(t, w.Roster(), "A").ID, "", sites.Place{Division: "511681001001"})
	if err == nil || !strings.Contains(err.Error(), "RevokeChange") {
		t.Errorf("a move before the planned one: got %v, want what can be done", err)
	}
	table := func(code, name string, more ...sites.DivisionRow) []sites.DivisionRow {
		return append([]sites.DivisionRow{{Row: 2, Code: code, Name: name, Level: "county", Parent: "511600"}}, more...)
	}
	_, err = w.ImportDivisions(t.Context(), by, sites.Import{Effective: "2020-03-01"}, table("511602", "广安新区"))
	if err == nil || !strings.Contains(err.Error(), "change 10 ") || !strings.Contains(err.Error(), "RevokeChange") || strings.Contains(err.Error(), "a later one") {
		t.Errorf("the county's next table: got %v, want the change that is to be taken back and no other way", err)
	}
	if _, err := w.ImportDivisions(t.Context(), by, sites.Import{Effective: "2020-03-01"}, table("511681", "新华蓥市")); err != nil {
		t.Errorf("another county's table: %v", err)
	}
}

func siteOf(t testing.TB, r *sites.Roster, no string) *sites.Site {
	t.Helper()
	s, err := r.SiteByRegistration(no)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
