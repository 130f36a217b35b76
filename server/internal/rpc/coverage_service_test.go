package rpc

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// TestLargeReports asks for reports with more rows than the server allows, and with more
// bytes than a client takes. The error must say which depth fits, to people and to
// programs, and that depth must fit.
func TestLargeReports(t *testing.T) {
	const villages = 5500
	divisions := []sites.DivisionRow{
		{Row: 1, Code: "500000", Name: "市", Level: "city"}, {Row: 2, Code: "500001", Name: "县", Level: "county", Parent: "500000"},
		{Row: 3, Code: "500001001", Name: "乡", Level: "township", Parent: "500001"},
	}
	for i := range villages {
		divisions = append(divisions, sites.DivisionRow{
			Row: 4 + i, Code: fmt.Sprintf("60000%06d1", i), Name: longest(sites.MaxName, i), Level: "village", Parent: "500001001",
		})
	}
	for _, test := range []struct {
		rows    int
		message string
		zh      string
	}{
		{3 + villages - 1, "more than 5502; depth 2 fits", "报告超过5502行，depth为2时可以返回。"},
		{3 + villages, "more than 4 MiB; depth 2 fits", "报告超过4 MiB，depth为2时可以返回。"},
		{0, "more than 4 MiB; depth 2 fits", "报告超过4 MiB，depth为2时可以返回。"},
	} {
		t.Run(test.message, func(t *testing.T) {
			w := newServer(t, func(c *Config) { c.ReportRows = test.rows })
			must(w.config.Roster.ImportDivisions(t.Context(), sites.By{Account: Account}, sites.Import{Effective: "2019-10-31"}, divisions))(t)
			ctx := metadata.AppendToOutgoingContext(t.Context(), "accept-language", "zh-CN")
			_, err := w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: "500000", Depth: 3})
			wantStatus(t, err, codes.InvalidArgument, "REPORT_TOO_LARGE", "depth")
			if got := status.Convert(err).Message(); !strings.Contains(got, test.message) {
				t.Errorf("got the message %q, want it to say %q", got, test.message)
			}
			for _, d := range status.Convert(err).Details() {
				switch d := d.(type) {
				case *errdetails.ErrorInfo:
					if d.Metadata["fitting_depth"] != "2" {
						t.Errorf("got %v, want a fitting_depth of 2", d.Metadata)
					}
				case *errdetails.BadRequest:
					if got := d.FieldViolations[0].LocalizedMessage.Message; got != "层级深度："+test.zh { // which tells the field too
						t.Errorf("got %q for people, want %q", got, test.zh)
					}
				case *errdetails.LocalizedMessage:
					if d.Message != test.zh {
						t.Errorf("got %q for people, want %q", d.Message, test.zh)
					}
				}
			}
			fits := must(w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: "500000", Depth: 2}))(t)
			if len(fits.Children) != 1 || len(fits.Children[0].Children) != 1 {
				t.Errorf("a report of depth 2: got %v", fits)
			}
			if test.rows == 0 {
				return
			}
			// What fits is not refused for what lies below it.
			must(w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: "600000000001", Depth: 3}))(t)
		})
	}
}

// TestSizeDownTo holds that the size of a report that is cut is what it is encoded as.
func TestSizeDownTo(t *testing.T) {
	row := func(name string, children ...*xunchav1.GetCoverageResponse) *xunchav1.GetCoverageResponse {
		return &xunchav1.GetCoverageResponse{Row: &xunchav1.CoverageRow{DivisionName: name, SitesDue: int64(len(children))}, Children: children}
	}
	report := row("a", row("b", row(strings.Repeat("c", 300)), row("")), row("d"))
	for depth, want := range []*xunchav1.GetCoverageResponse{
		{Row: report.Row},
		{Row: report.Row, Children: []*xunchav1.GetCoverageResponse{{Row: report.Children[0].Row}, {Row: report.Children[1].Row}}},
		report,
		report,
	} {
		if got := sizeDownTo(depth, report); got != proto.Size(want) {
			t.Errorf("depth %d: got %d bytes, want %d", depth, got, proto.Size(want))
		}
	}
}

// TestBusyDay ensures that a head who asks for reports and lists all day long, while
// check-ins come in, is never told to wait.
func TestBusyDay(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.CallsPerAccount = 5 })
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "head", accounts.Head, "511600")
	w.create(t, "officer", accounts.Officer, "511600")
	token := map[string]context.Context{}
	signIn := func() {
		for _, name := range []string{"head", "officer"} {
			token[name] = with(t.Context(), w.signIn(t, name))
		}
	}
	for i := range 200 {
		if i%100 == 0 {
			signIn()
		}
		must(w.checkIns.SubmitCheckIn(token["officer"], &xunchav1.SubmitCheckInRequest{CheckIn: w.checkIn(i % 85)}))(t)
		for depth := range int32(3) {
			must(w.coverage.GetCoverage(token["head"], &xunchav1.GetCoverageRequest{DivisionCode: "511600", Depth: depth}))(t)
		}
		must(w.coverage.ListDueSites(token["head"], &xunchav1.ListDueSitesRequest{DivisionCode: "511600"}))(t)
		must(w.checkIns.ListCheckIns(token["head"], &xunchav1.ListCheckInsRequest{DivisionCode: "511600"}))(t)
		w.advance(time.Second)
	}
}

// TestCostlyQuestions ensures that an account that asks about other windows all the
// time is told to wait, that what is asked again costs no more than a call, and that
// nobody else waits.
func TestCostlyQuestions(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.CallsPerAccount = 1 })
	const many = 2*callCost + 1
	rows := make([]sites.SiteRow, many)
	for i := range rows {
		rows[i] = sites.SiteRow{Row: 1 + i, RegistrationNo: fmt.Sprint("many", i), Name: "某", Division: w.sites[0].DivisionCode, RegisteredOn: "2019-12-01"}
	}
	must(w.config.Roster.ImportSites(t.Context(), sites.By{Account: Account}, sites.Import{}, rows))(t)
	// Whoever asks first after an import pays for it, here nobody.
	must(w.coverage.GetCoverage(t.Context(), &xunchav1.GetCoverageRequest{DivisionCode: "511600"}))(t)
	w.create(t, "root", accounts.Admin, "511600")
	ask := map[string]func(i int) error{}
	for _, name := range []string{"busy", "steady"} {
		w.create(t, name, accounts.Head, "511600")
		ctx := with(t.Context(), w.signIn(t, name))
		ask[name] = func(i int) error {
			_, err := w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: "511600", StartTime: timestamppb.New(w.clock().Add(-time.Duration(i) * time.Minute))})
			return err
		}
	}
	const again = burstSeconds / 2
	for i := range again {
		if err := ask["steady"](0); err != nil {
			t.Fatalf("the same question for the %dth time: %v", i+1, err)
		}
	}
	var err error
	asked := 0
	for ; err == nil && asked <= burstSeconds; asked++ {
		err = ask["busy"](1 + asked)
	}
	wantStatus(t, err, codes.ResourceExhausted, "RATE_LIMITED", "")
	// Each question is at least three calls' worth, so a third of them is answered.
	if wait := retryAfter(err); asked > burstSeconds/3+2 || wait < time.Second || wait > (burstSeconds+1)*time.Second {
		t.Errorf("%d questions were taken, and the next has to wait %v", asked-1, wait)
	}
	w.advance(retryAfter(err))
	if err := ask["busy"](0); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if err := ask["steady"](0); err != nil {
		t.Errorf("another account: %v", err)
	}
}
