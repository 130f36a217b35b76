package rpc

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/sqlitestore"
	"xuncha/server/internal/table"
	"xuncha/sites/sitestest"
)

// TestFutureDateInATable ensures that a slip in the year of a registration is a problem
// of its row, and that a day of 1949 is none.
func TestFutureDateInATable(t *testing.T) {
	w := newRoster(t)
	var rows []*xunchav1.ImportSitesRequest
	read(t, must(os.ReadFile("testdata/imports/c09-future-and-old-dates.csv"))(t), table.Sites, func(r table.Row) {
		rows = append(rows, &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{
			Row: int32(r.Number), RegistrationNo: r.Cells[0], Name: r.Cells[1], DivisionCode: r.Cells[2], Address: r.Cells[3],
			Latitude: r.Cells[4], Longitude: r.Cells[5], RegisteredOn: r.Cells[6], DeregisteredOn: r.Cells[7],
		}}})
	})
	_, err := w.importSites(t, &xunchav1.ImportHeader{}, rows...)
	wantStatus(t, err, codes.InvalidArgument, "IMPORT_REJECTED", "row[2].registered_on")
	var problems []string
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range d.FieldViolations {
				problems = append(problems, v.Field+" "+v.Reason)
				if !strings.Contains(v.Description, "2021-02-01 is the latest") {
					t.Errorf("%s does not name the bound", v.Description)
				}
			}
		}
	}
	if want := []string{"row[2].registered_on OUT_OF_RANGE"}; !slices.Equal(problems, want) {
		t.Errorf("got the problems %q, want %q", problems, want)
	}
	answer := must(w.importSites(t, &xunchav1.ImportHeader{}, rows[1]))(t)
	if answer.Registered != 1 {
		t.Errorf("got %v, want one registered in 1949", answer)
	}
}

// TestDatesAreBounded ensures that dates out of bounds are OUT_OF_RANGE in their field.
func TestDatesAreBounded(t *testing.T) {
	w := newWorld(t)
	far, site := timestamppb.New(w.clock().AddDate(42, 0, 0)), w.sites[0]
	order := func(change func(*xunchav1.ClosureOrder)) error {
		o := w.newOrder("2")
		change(o)
		_, err := w.roster.CreateClosureOrder(t.Context(), &xunchav1.CreateClosureOrderRequest{ClosureOrder: o})
		return err
	}
	past := func(days int) *timestamppb.Timestamp { return timestamppb.New(w.clock().AddDate(0, 0, -days)) }
	for _, test := range []struct {
		name, field string
		err         error
	}{
		{"Registered", "site.registered_time", func() error {
			_, err := w.roster.CreateSite(t.Context(), &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{
				RegistrationNo: "new", Name: "x", DivisionCode: site.DivisionCode, RegisteredTime: far,
			}})
			return err
		}()},
		{"Moved", "effective_time", func() error {
			_, err := w.roster.MoveSite(t.Context(), &xunchav1.MoveSiteRequest{SiteId: site.SiteId, DivisionCode: site.DivisionCode, EffectiveTime: far})
			return err
		}()},
		{"StruckOff", "effective_time", func() error {
			_, err := w.roster.DeregisterSite(t.Context(), &xunchav1.DeregisterSiteRequest{SiteId: site.SiteId, EffectiveTime: far})
			return err
		}()},
		{"Sites", "header.effective_date", func() error {
			_, err := w.importSites(t, &xunchav1.ImportHeader{EffectiveDate: "2062-01-01"}, &xunchav1.ImportSitesRequest{
				Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{Row: 2, RegistrationNo: site.RegistrationNo}},
			})
			return err
		}()},
		{"OrderEnteredTooLate", "closure_order.start_time", order(func(o *xunchav1.ClosureOrder) { o.StartTime = past(31) })},
		{"OrderThatIsOver", "closure_order.end_time", order(func(o *xunchav1.ClosureOrder) { o.StartTime, o.EndTime = past(20), past(1) })},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantStatus(t, test.err, codes.InvalidArgument, "OUT_OF_RANGE", test.field)
		})
	}
}

// TestUnboundedFolder ensures that a folder from before dates were bounded opens, and
// answers for each of its dates.
func TestUnboundedFolder(t *testing.T) {
	store := must(sqlitestore.Open(t.Context(), t.TempDir(), sqlitestore.Options{}))(t)
	if err := sitestest.AppendFrom(t.Context(), store, store, "../../../sites/testdata/unbounded"); err != nil {
		t.Fatal(err)
	}
	w := newServerOn(t, store)
	for day, due := range map[string]int64{"1850-06-15": 1, "2020-02-01": 2, "2062-06-15": 1, "2110-01-01": 0} {
		start := must(time.ParseInLocation(time.DateOnly, day, shanghai))(t)
		row := must(w.coverage.GetCoverage(t.Context(), &xunchav1.GetCoverageRequest{
			DivisionCode: "511600", StartTime: timestamppb.New(start), EndTime: timestamppb.New(start.AddDate(0, 0, 1)),
		}))(t).Row
		if row.SitesDue != due {
			t.Errorf("%s: got %d sites due, want %d", day, row.SitesDue, due)
		}
	}
	sites := must(w.roster.ListSites(t.Context(), &xunchav1.ListSitesRequest{PageSize: 10}))(t).Sites
	if len(sites) != 2 || sites[0].RegisteredTime.AsTime().In(shanghai).Year() != 1850 { // the third is registered in 2109
		t.Fatalf("got %v, want two sites, the first of 1850", sites)
	}
	site := sites[0].SiteId
	c := &xunchav1.CheckIn{
		CheckInId: "11111111-1111-4111-8111-111111111111", SiteId: site, CaptureTime: timestamppb.New(w.clock()), Finding: xunchav1.Finding_FINDING_CLOSED,
	}
	w.submit(t, c)
	if _, err := w.audit.ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: site}); err != nil {
		t.Error(err)
	}
}
