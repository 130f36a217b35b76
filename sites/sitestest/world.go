package sitestest

import (
	"fmt"
	"testing"
	"time"

	"xuncha/ledger/ledgertest"
	"xuncha/sites"
)

// City and Village are the divisions at both ends of a World's hierarchy.
const (
	City    = sites.DivisionCode("511600")
	Village = sites.DivisionCode("511602001003")
)

// Start is when a World's closure order starts.
var Start = time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC)

// A World is a roster for tests of what stands above it: one site under an order
// from Start on, for 30 days, to be visited every day.
type World struct {
	Ledger *ledgertest.Memory
	Roster *sites.Service
	Site   *sites.Site
	Order  *sites.ClosureOrder
	// Now is what the clock shows. It begins at noon of the order's third day.
	Now time.Time
}

// NewWorld returns a World that nobody else has.
func NewWorld(tb testing.TB) *World {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	w := &World{Ledger: ledgertest.New(tb), Now: Start.Add(60 * time.Hour)}
	ids := 0
	var err error
	w.Roster, err = sites.Open(tb.Context(), sites.Config{
		Ledger: w.Ledger, Rows: new(MemoryRows), Zone: time.UTC, Now: w.Clock,
		NewID: func() string { ids++; return fmt.Sprintf("00000000-0000-4000-8000-%012d", ids) },
	})
	must(err)
	_, err = w.Roster.ImportDivisions(tb.Context(), sites.By{Account: "test"}, sites.Import{Effective: "2019-10-31"}, []sites.DivisionRow{
		{Row: 2, Code: string(City), Name: "广安市", Level: "city"},
		{Row: 3, Code: "511602", Name: "广安区", Level: "county", Parent: "511600"},
		{Row: 4, Code: "511602001", Name: "浓洄街道", Level: "township", Parent: "511602"},
		{Row: 5, Code: string(Village), Name: "柑子园社区居委会", Level: "village", Parent: "511602001"},
	})
	must(err)
	day := 24 * time.Hour
	w.Site, err = w.Roster.CreateSite(tb.Context(), sites.By{Account: "test"}, sites.NewSite{
		RegistrationNo: "1", Name: "样例", Division: Village, Registered: Start.Add(-30 * day),
		Position: &sites.Position{Latitude: 30.5, Longitude: 106.6},
	})
	must(err)
	w.Order, err = w.Roster.CreateOrder(tb.Context(), sites.By{Account: "test"}, sites.ClosureOrder{
		Number: "1", Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{City},
		Start: Start, End: Start.Add(30 * day), Interval: sites.Duration(day),
	})
	must(err)
	return w
}

// Clock returns what the clock shows.
func (w *World) Clock() time.Time { return w.Now }
