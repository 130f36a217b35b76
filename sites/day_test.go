package sites_test

import (
	"testing"
	"time"
	_ "time/tzdata" // whatever the machine has

	"xuncha/sites"
)

// unevenZones are zones in which some days have no midnight, or two, and the years in
// which they do.
var unevenZones = []struct {
	zone        string
	first, last int
}{
	{"Africa/Cairo", 2008, 2024},
	{"America/Sao_Paulo", 2008, 2019},
	{"Asia/Beirut", 2020, 2024},
	{"America/Havana", 2008, 2024},
	{"Atlantic/Azores", 2020, 2024},
	{"America/Asuncion", 2020, 2024},
	{"America/St_Johns", 2005, 2011},  // back at a minute past midnight
	{"Pacific/Apia", 2011, 2012},      // without 2011-12-30
	{"Pacific/Kwajalein", 1969, 1993}, // the same hours twice, and a day left out
	{"Asia/Shanghai", 1940, 2026},
	{"Asia/Tehran", 2020, 2022},
	{"UTC", 2026, 2026},
}

func load(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestDayStart(t *testing.T) {
	for _, tt := range []struct{ zone, day, want, end string }{
		{"Asia/Shanghai", "2026-11-26", "2026-11-26T00:00:00+08:00", "2026-11-27T00:00:00+08:00"},
		{"Africa/Cairo", "2023-04-28", "2023-04-28T01:00:00+03:00", "2023-04-29T00:00:00+03:00"},
		{"America/Sao_Paulo", "2018-11-04", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"},
		{"America/Sao_Paulo", "2018-11-03", "2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00"},
		{"America/Sao_Paulo", "2018-02-17", "2018-02-17T00:00:00-02:00", "2018-02-18T00:00:00-03:00"},
		{"Asia/Beirut", "2023-03-26", "2023-03-26T01:00:00+03:00", "2023-03-27T00:00:00+03:00"},
		{"America/Havana", "2023-03-12", "2023-03-12T01:00:00-04:00", "2023-03-13T00:00:00-04:00"},
		{"America/Havana", "2023-11-05", "2023-11-05T00:00:00-04:00", "2023-11-06T00:00:00-05:00"},
		{"Atlantic/Azores", "2023-03-26", "2023-03-26T01:00:00Z", "2023-03-27T00:00:00Z"},
		{"America/St_Johns", "2008-11-02", "2008-11-02T00:00:00-02:30", "2008-11-03T00:00:00-03:30"},
		{"Pacific/Apia", "2011-12-29", "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"},
		{"Pacific/Apia", "2011-12-30", "2011-12-31T00:00:00+14:00", "2011-12-31T00:00:00+14:00"},
		{"Pacific/Apia", "2011-12-31", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"},
	} {
		zone := load(t, tt.zone)
		date, err := time.Parse(time.DateOnly, tt.day)
		if err != nil {
			t.Fatal(err)
		}
		start := sites.DayStart(date.Year(), date.Month(), date.Day(), zone)
		end := sites.DayStart(date.Year(), date.Month(), date.Day()+1, zone)
		if got := start.Format(time.RFC3339); got != tt.want {
			t.Errorf("%s: %s begins at %s, want %s", tt.zone, tt.day, got, tt.want)
		}
		if got := end.Format(time.RFC3339); got != tt.end {
			t.Errorf("%s: %s ends at %s, want %s", tt.zone, tt.day, got, tt.end)
		}
		day, err := (&sites.Service{Config: sites.Config{Zone: zone}}).Day(tt.day)
		if err != nil || !day.Equal(start) {
			t.Errorf("%s: %s in a table is %v, %v; want %v", tt.zone, tt.day, day, err, start)
		}
	}
}

// TestDaysJoin ensures that each moment lies in one day.
func TestDaysJoin(t *testing.T) {
	for _, z := range unevenZones {
		t.Run(z.zone, func(t *testing.T) {
			zone := load(t, z.zone)
			for year := z.first; year <= z.last; year++ {
				for d := 1; d <= 366; d++ {
					start, end := sites.DayStart(year, 1, d, zone), sites.DayStart(year, 1, d+1, zone)
					date := time.Date(year, 1, d, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
					if end.Before(start) {
						t.Fatalf("%s begins at %v and ends at %v", date, start, end)
					}
					if end.Equal(start) { // left out
						if got := start.Format(time.DateOnly); got <= date {
							t.Errorf("%s is empty and begins at %v", date, start)
						}
						continue
					}
					if got := start.Format(time.DateOnly); got != date {
						t.Errorf("%s begins at %v", date, start)
					}
					if got := start.Add(-1).Format(time.DateOnly); got >= date {
						t.Errorf("%s has begun before %v", date, start)
					}
					for at := start; at.Before(end); at = at.Add(29 * time.Minute) {
						if got := sites.DayOf(at, zone, 0); !got.Equal(start) {
							t.Errorf("the day of %v begins at %v, want %v", at, got, start)
						}
					}
					for _, at := range []time.Time{start, end.Add(-1)} {
						if from, to := sites.DayOf(at, zone, 0), sites.DayOf(at, zone, 1); !from.Equal(start) || !to.Equal(end) {
							t.Errorf("the day of %v is %v to %v, want %v to %v", at, from, to, start, end)
						}
					}
				}
			}
		})
	}
}

func BenchmarkDayOf(b *testing.B) {
	zone := load(b, "Asia/Shanghai")
	now := time.Date(2026, 11, 26, 13, 0, 0, 0, zone)
	for b.Loop() {
		sites.DayOf(now, zone, 1)
	}
}
