package sites

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"xuncha/ledger"
)

// The country of the benchmarks: how many divisions each has of the next level.
const (
	benchCities    = 330
	benchCounties  = 9
	benchTownships = 14
	benchVillages  = 15
	benchSites     = 144_000
)

var benchStart = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// countryDivisions returns the changes that begin all divisions of a country, as
// its import's rows say them.
func countryDivisions() []divisionChange {
	var out []divisionChange
	add := func(level Level, code, parent DivisionCode) {
		out = append(out, divisionChange{beginDivision, code, fmt.Sprintf("样例地名%s居委会", code[len(code)-3:]), level, parent})
	}
	for city := range benchCities {
		cityCode := DivisionCode(fmt.Sprintf("%06d", 110000+city*100))
		add(City, cityCode, "")
		for county := range benchCounties {
			countyCode := DivisionCode(fmt.Sprintf("%06d", 110000+city*100+county+1))
			add(County, countyCode, cityCode)
			for township := range benchTownships {
				townshipCode := countyCode + DivisionCode(fmt.Sprintf("%03d", township+1))
				add(Township, townshipCode, countyCode)
				for village := range benchVillages {
					add(Village, townshipCode+DivisionCode(fmt.Sprintf("%03d", village+1)), townshipCode)
				}
			}
		}
	}
	return out
}

// countrySites returns n sites, spread over the villages.
func countrySites(divisions []divisionChange, n int) []*Site {
	var villages []DivisionCode
	for _, d := range divisions {
		if d.Level == Village {
			villages = append(villages, d.Code)
		}
	}
	out := make([]*Site, n)
	for i := range out {
		village := villages[i*len(villages)/n]
		out[i] = &Site{
			ID: benchSite(i), RegistrationNo: fmt.Sprintf("GA-%s-%07d", village[:6], i), Name: "样例场所名称", Registered: benchStart,
			Places: []Place{{From: benchStart, Division: village, Address: "样例路某某号", Position: &Position{30.5, 106.6}}},
		}
	}
	return out
}

func benchSite(i int) SiteID {
	return SiteID(fmt.Sprintf("%08x-0000-4000-8000-%012d", i*2654435761&0xffffffff, i))
}

// readBack returns what is read from the rows as they are stored, so that it
// shares memory as after a start.
func readBack[T any](tb testing.TB, rows []T, whole func(T) bool) []T {
	lines, sum, err := marshalRows(rows)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := readRows(tb.Context(), rowsByName{sum: lines}, sum, whole)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// entry returns the change with the event that comes after the roster's last.
func entry(r *Roster, kind ledger.Kind, c change) change {
	n := r.Revision() + 1
	c.event = Event{Sequence: n, ID: fmt.Sprintf("entry-%d", n), Kind: kind, Time: benchStart.Add(time.Duration(n) * time.Minute)}
	return c
}

// country returns the roster of a country with n sites and an order of each county
// and three of each city.
var country = sync.OnceValue(func() *Roster {
	r := newRoster()
	divisions := countryDivisions()
	r = r.apply(entry(r, KindDivisionsImported, change{divisions: divisions, effective: benchStart}))
	r = r.apply(entry(r, KindSitesImported, change{sites: countrySites(divisions, benchSites)}))
	n := 0
	for _, d := range divisions {
		orders := map[Level]int{City: 3, County: 1}[d.Level]
		for i := range orders {
			n++
			start := benchStart.AddDate(0, 2*i, 0)
			r = r.apply(entry(r, KindOrderIssued, change{order: &ClosureOrder{
				ID: OrderID(fmt.Sprint("order-", n)), Number: fmt.Sprint(n), Divisions: []DivisionCode{d.Code},
				Start: start, End: start.AddDate(0, 2, 0), PlannedEnd: start.AddDate(0, 2, 0), Interval: Duration(24 * time.Hour),
			}}))
		}
	}
	return r
})

func BenchmarkApplySite(b *testing.B) {
	r := country()
	site, err := r.Site(benchSite(77_777))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		moved := *site
		moved.Places = append(slices.Clone(site.Places), Place{From: benchStart.AddDate(1, 0, 0), Division: "110101001001"})
		r.apply(entry(r, KindSiteMoved, change{sites: []*Site{&moved}}))
	}
}

func BenchmarkApplyOrder(b *testing.B) {
	r := country()
	for b.Loop() {
		r.apply(entry(r, KindOrderIssued, change{order: &ClosureOrder{ID: "new", Number: "new", Divisions: []DivisionCode{"110101"}, Start: benchStart, End: benchStart.AddDate(0, 1, 0)}}))
	}
}

func BenchmarkApplyDivision(b *testing.B) {
	r := country()
	for b.Loop() {
		r.apply(entry(r, KindDivisionsImported, change{effective: benchStart.AddDate(1, 0, 0), divisions: []divisionChange{
			{beginDivision, "110101001", "新名", Township, "110101"},
		}}))
	}
}

func BenchmarkSite(b *testing.B) {
	r, i := country(), 0
	ids := make([]SiteID, 10_007)
	for i := range ids {
		ids[i] = benchSite(i * 14)
	}
	for b.Loop() {
		if _, err := r.Site(ids[i]); err != nil {
			b.Fatal(err)
		}
		i = (i + 4001) % len(ids)
	}
}

// eachSite runs f with sites from everywhere.
func eachSite(b *testing.B, f func(*Roster, *Site)) {
	r, i := country(), 0
	all := slices.Collect(r.Sites())
	b.ReportAllocs()
	for b.Loop() {
		f(r, all[i])
		i = (i + 14_401) % len(all)
	}
}

func BenchmarkClosures(b *testing.B) {
	eachSite(b, func(r *Roster, s *Site) { r.Closures(s) })
}

func BenchmarkOrderAt(b *testing.B) {
	at := benchStart.AddDate(0, 3, 0)
	eachSite(b, func(r *Roster, s *Site) { r.OrderAt(s, at) })
}

func BenchmarkConcerning(b *testing.B) {
	eachSite(b, func(r *Roster, s *Site) { r.Concerning(s) })
}

func BenchmarkReadDivisionRows(b *testing.B) {
	lines, sum, err := marshalRows(countryDivisions())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(lines)))
	for b.Loop() {
		if _, err := readRows(b.Context(), rowsByName{sum: lines}, sum, divisionChange.whole); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyCountry(b *testing.B) {
	divisions := countryDivisions()
	c := entry(newRoster(), KindDivisionsImported, change{divisions: divisions, effective: benchStart})
	for b.Loop() {
		newRoster().apply(c)
	}
}

// heap returns the bytes that are in use.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkMemory reports what a roster keeps alive.
func BenchmarkMemory(b *testing.B) {
	for range b.N {
		before := heap()
		divisions := readBack(b, countryDivisions(), divisionChange.whole)
		count := len(divisions)
		r := newRoster()
		r = r.apply(entry(r, KindDivisionsImported, change{divisions: divisions, effective: benchStart}))
		divisions = nil
		between := heap()
		rows := readBack(b, countrySites(countryDivisions(), benchSites), (*Site).whole)
		r = r.apply(entry(r, KindSitesImported, change{sites: rows}))
		rows = nil
		after := heap()
		b.ReportMetric((between-before)/float64(count), "B/division")
		b.ReportMetric((after-between)/benchSites, "B/site")
		runtime.KeepAlive(r)
	}
}

// countrySnapshot returns a snapshot of the country.
func countrySnapshot(tb testing.TB) []byte {
	s := New(Config{})
	s.projection.Begin(country(), country().Revision())
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func BenchmarkSnapshot(b *testing.B) {
	country()
	for b.Loop() {
		b.SetBytes(int64(len(countrySnapshot(b))))
	}
}

func BenchmarkRestore(b *testing.B) {
	kept := countrySnapshot(b)
	b.SetBytes(int64(len(kept)))
	b.ReportAllocs()
	for b.Loop() {
		if err := New(Config{}).Restore(bytes.NewReader(kept)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPage takes 100 sites of a division from the middle of its list.
func BenchmarkPage(b *testing.B) {
	r := country()
	for name, in := range map[string][]DivisionCode{
		"Country": nil, "City": {"126000"}, "County": {"126001"}, "Counties": {"126001", "126002", "126003"},
	} {
		b.Run(name, func(b *testing.B) {
			var after []string
			for s := range r.SitesAfter("", in...) {
				after = append(after, s.RegistrationNo)
			}
			from := after[len(after)/2]
			for b.Loop() {
				n := 0
				for range r.SitesAfter(from, in...) {
					if n++; n == 100 {
						break
					}
				}
			}
		})
	}
}

func BenchmarkTouched(b *testing.B) {
	r := country()
	site, err := r.Site(benchSite(77_777))
	if err != nil {
		b.Fatal(err)
	}
	n := r.apply(entry(r, KindSiteUpdated, change{sites: []*Site{site}}))
	for b.Loop() {
		for range n.Touched(r.Revision()) {
		}
	}
}

// BenchmarkKept reports what one more roster of the past keeps alive.
func BenchmarkKept(b *testing.B) {
	r := country()
	const count = 1000
	for range b.N {
		kept := []*Roster{r}
		for i := range count {
			last := kept[len(kept)-1]
			site, err := last.Site(benchSite(i * 143))
			if err != nil {
				b.Fatal(err)
			}
			moved := *site
			moved.Places = append(slices.Clone(site.Places), Place{From: benchStart.AddDate(1, 0, 0), Division: "110101001001"})
			kept = append(kept, last.apply(entry(last, KindSiteMoved, change{sites: []*Site{&moved}})))
		}
		all := heap()
		last := kept[count]
		kept = nil
		b.ReportMetric((all-heap())/count, "B/roster")
		runtime.KeepAlive(last)
	}
}
