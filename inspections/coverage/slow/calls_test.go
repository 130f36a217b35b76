package slow_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/coverage/slow"
	"xuncha/ledger/ledgertest"
	"xuncha/sites"
	"xuncha/sites/sitestest"
)

// TestOrderOfDelivery plays recorded calls of two phones that deliver the same visits
// in different orders. Neither visit is late, in whatever order they come.
func TestOrderOfDelivery(t *testing.T) {
	for _, file := range []string{"s20-newer-visit-arrives-first.json", "s20b-same-visits-in-order.json"} {
		t.Run(file, func(t *testing.T) {
			figures := map[string]slow.Figures{}
			figures["slow"], figures["service"] = playCalls(t, "testdata/"+file)
			for who, f := range figures {
				if f.SitesDue != 1 || f.SitesInspected != 1 || f.CheckIns != 2 {
					t.Errorf("%s: got %+v, want one site that was inspected by two check-ins", who, f)
				}
				if f.VisitedLate != 0 {
					t.Errorf("%s: got %d visited late, want 0", who, f.VisitedLate)
				}
			}
		})
	}
}

// A relativeTime is written as a duration from now.
type relativeTime struct {
	T string `json:"$t"`
}

// playCalls plays the calls of a file and returns the figures of the report that they
// ask for at their end, by both computations.
func playCalls(t *testing.T, file string) (bySlow, byService slow.Figures) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var script struct {
		Steps []struct {
			Call string
			Req  struct {
				Order struct {
					Number    string
					Divisions []sites.DivisionCode  `json:"division_codes"`
					Start     relativeTime          `json:"start_time"`
					End       relativeTime          `json:"end_time"`
					Interval  struct{ Seconds int } `json:"inspection_interval"`
				} `json:"closure_order"`
				CheckIn struct {
					ID      string       `json:"check_in_id"`
					Site    string       `json:"site_id"`
					Capture relativeTime `json:"capture_time"`
				} `json:"check_in"`
				Division sites.DivisionCode `json:"division_code"`
				Start    relativeTime       `json:"start_time"`
				End      relativeTime       `json:"end_time"`
			}
		}
	}
	if err := json.Unmarshal(data, &script); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2020, 2, 20, 9, 0, 0, 0, time.UTC)
	at := func(r relativeTime) time.Time {
		if days, ok := strings.CutSuffix(r.T, "d"); ok {
			n, err := strconv.Atoi(days)
			if err != nil {
				t.Fatal(err)
			}
			return now.AddDate(0, 0, n)
		}
		d, err := time.ParseDuration(r.T)
		if err != nil {
			t.Fatal(err)
		}
		return now.Add(d)
	}
	ctx, store, rows, ids := t.Context(), ledgertest.New(t), new(sitestest.MemoryRows), 0
	s := newServer(t, "A", store, rows, func() time.Time { return now }, func() string { ids++; return fmt.Sprintf("id-%d", ids) })

	for _, step := range script.Steps {
		req := step.Req
		switch step.Call {
		case "RosterService/CreateClosureOrder":
			county := req.Order.Divisions[0]
			_, err = s.roster.ImportDivisions(ctx, sites.By{Account: "admin"}, sites.Import{Effective: "2019-10-31"}, []sites.DivisionRow{
				{Row: 2, Code: "511600", Name: "广安市", Level: "city"},
				{Row: 3, Code: string(county), Name: "县", Level: "county", Parent: "511600"},
				{Row: 4, Code: string(county) + "001", Name: "镇", Level: "township", Parent: string(county)},
				{Row: 5, Code: string(county) + "001001", Name: "村", Level: "village", Parent: string(county) + "001"},
			})
			if err == nil {
				_, err = s.roster.CreateSite(ctx, sites.By{Account: "admin"}, sites.NewSite{
					RegistrationNo: "1", Name: "样例", Division: county + "001001", Registered: now.AddDate(-1, 0, 0),
				})
			}
			if err == nil {
				_, err = s.roster.CreateOrder(ctx, sites.By{Account: "admin"}, sites.ClosureOrder{
					Number: req.Order.Number, Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: req.Order.Divisions,
					Start: at(req.Order.Start), End: at(req.Order.End), Interval: sites.Duration(time.Duration(req.Order.Interval.Seconds) * time.Second),
				})
			}
		case "InspectionService/SubmitCheckIn":
			site, unknown := s.roster.Roster().SiteByRegistration("1") // whichever they name, it is the only one
			if unknown != nil {
				t.Fatal(unknown)
			}
			_, _, err = s.visits.Submit(ctx, inspections.By{Account: "officer"}, inspections.CheckIn{
				ID: inspections.CheckInID(req.CheckIn.ID), Site: site.ID, Captured: at(req.CheckIn.Capture), Finding: inspections.FoundClosed,
			}, time.Time{})
		case "CoverageService/GetCoverage":
			q := inspections.Question{Division: req.Division, Start: at(req.Start), End: at(req.End)}
			got, _, wrong := s.report(ctx, q)
			if wrong != nil {
				t.Fatal(wrong)
			}
			world, wrong := slow.Read(ctx, store, rows)
			if wrong != nil {
				t.Fatal(wrong)
			}
			window, wrong := world.Window(q.Start, q.End, now, time.Time{})
			if wrong != nil {
				t.Fatal(wrong)
			}
			want, wrong := window.Report(string(q.Division), 0)
			if wrong != nil {
				t.Fatal(wrong)
			}
			return want.Figures, plainReport(got).Figures
		}
		if err != nil {
			t.Fatalf("%s: %v", step.Call, err)
		}
	}
	t.Fatalf("%s asks for no report", file)
	return bySlow, byService
}
