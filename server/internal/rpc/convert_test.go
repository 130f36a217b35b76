package rpc

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

// TestFieldPaths holds that an error of the domain, which knows only its own
// values, names the field by the path that it has in the request. Clients put
// the error beside the field by it.
func TestFieldPaths(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	rosters := w.roster
	people := xunchav1.NewAccountServiceClient(w.conn)
	first := w.sites[0]
	village := first.DivisionCode
	invisible := "a\u202eb"
	past := timestamppb.New(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))
	yearOne := timestamppb.New(time.Time{})

	site := func(change func(*xunchav1.Site)) error {
		s := &xunchav1.Site{RegistrationNo: "N-1", Name: "某", DivisionCode: village}
		change(s)
		_, err := rosters.CreateSite(ctx, &xunchav1.CreateSiteRequest{Site: s})
		return err
	}
	update := func(u *xunchav1.UpdateSiteRequest) error {
		u.SiteId = first.SiteId
		_, err := rosters.UpdateSite(ctx, u)
		return err
	}
	move := func(m *xunchav1.MoveSiteRequest) error {
		m.SiteId = first.SiteId
		_, err := rosters.MoveSite(ctx, m)
		return err
	}
	order := func(change func(*xunchav1.ClosureOrder)) error {
		o := w.newOrder("2")
		change(o)
		_, err := rosters.CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o})
		return err
	}
	divisions := func(messages ...*xunchav1.ImportDivisionsRequest) error {
		stream := must(rosters.ImportDivisions(ctx))(t)
		for _, m := range messages {
			if stream.Send(m) != nil {
				break // and CloseAndRecv says why
			}
		}
		_, err := stream.CloseAndRecv()
		return err
	}
	header := func(day, source string) *xunchav1.ImportDivisionsRequest {
		return &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Header{Header: &xunchav1.ImportHeader{EffectiveDate: day, Source: source}}}
	}
	county := &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{
		Row: 2, Code: "511602", Name: "某", Level: "county", ParentCode: "511600",
	}}}
	sitesOf := func(h *xunchav1.ImportHeader, rows ...*xunchav1.ImportSitesRequest) error {
		_, err := w.importSites(t, h, rows...)
		return err
	}
	account := func(change func(*xunchav1.CreateAccountRequest)) error {
		r := &xunchav1.CreateAccountRequest{
			Account:  &xunchav1.Account{Username: "li.wei", Role: xunchav1.Role_ROLE_ADMIN, DivisionCodes: []string{"511600"}},
			Password: testPassword,
		}
		change(r)
		_, err := people.CreateAccount(ctx, r)
		return err
	}
	submit := func(change func(*xunchav1.CheckIn)) error {
		c := w.checkIn(0)
		change(c)
		_, err := w.checkIns.SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: c})
		return err
	}
	for _, test := range []struct {
		name   string
		err    error
		code   codes.Code
		reason string
		field  string
	}{
		{"SiteWithoutNumber", site(func(s *xunchav1.Site) { s.RegistrationNo = "" }), codes.InvalidArgument, "MISSING_FIELD", "site.registration_no"},
		{"SiteWithTakenNumber", site(func(s *xunchav1.Site) { s.RegistrationNo = first.RegistrationNo }), codes.AlreadyExists, "REGISTRATION_NO_TAKEN", "site.registration_no"},
		{"SiteWithoutName", site(func(s *xunchav1.Site) { s.Name = " " }), codes.InvalidArgument, "MISSING_FIELD", "site.name"},
		{"SiteWithoutDivision", site(func(s *xunchav1.Site) { s.DivisionCode = "" }), codes.InvalidArgument, "MISSING_FIELD", "site.division_code"},
		{"SiteInACounty", site(func(s *xunchav1.Site) { s.DivisionCode = "511602" }), codes.InvalidArgument, "NOT_A_VILLAGE", "site.division_code"},
		{"SiteInNoDivision", site(func(s *xunchav1.Site) { s.DivisionCode = "990000000000" }), codes.NotFound, "DIVISION_NOT_FOUND", "site.division_code"},
		{"SiteWithInvisibleAddress", site(func(s *xunchav1.Site) { s.Address = invisible }), codes.InvalidArgument, "INVALID_FIELD", "site.address"},
		{"SiteWithLatitudeAlone", site(func(s *xunchav1.Site) { s.Latitude = proto.Float64(30) }), codes.InvalidArgument, "MISSING_FIELD", "site.longitude"},
		{"SiteWithLongitudeAlone", site(func(s *xunchav1.Site) { s.Longitude = proto.Float64(30) }), codes.InvalidArgument, "MISSING_FIELD", "site.latitude"},
		{"SiteSinceYearOne", site(func(s *xunchav1.Site) { s.RegisteredTime = yearOne }), codes.InvalidArgument, "OUT_OF_RANGE", "site.registered_time"},

		{"UpdateWithStaleEtag", update(&xunchav1.UpdateSiteRequest{Etag: "r0", Name: proto.String("x")}), codes.Aborted, "STALE_ETAG", "etag"},
		{"UpdateToNoName", update(&xunchav1.UpdateSiteRequest{Name: proto.String("")}), codes.InvalidArgument, "MISSING_FIELD", "name"},
		{"UpdateToInvisibleAddress", update(&xunchav1.UpdateSiteRequest{Address: &invisible}), codes.InvalidArgument, "INVALID_FIELD", "address"},
		{"UpdateOfLatitudeAlone", update(&xunchav1.UpdateSiteRequest{Latitude: proto.Float64(30)}), codes.InvalidArgument, "MISSING_FIELD", "longitude"},

		{"MoveWithStaleEtag", move(&xunchav1.MoveSiteRequest{Etag: "r0", DivisionCode: village}), codes.Aborted, "STALE_ETAG", "etag"},
		{"MoveToNoDivision", move(&xunchav1.MoveSiteRequest{DivisionCode: "990000000000"}), codes.NotFound, "DIVISION_NOT_FOUND", "division_code"},
		{"MoveBefore", move(&xunchav1.MoveSiteRequest{DivisionCode: village, EffectiveTime: past}), codes.InvalidArgument, "INVALID_FIELD", "effective_time"},
		{"MoveToInvisibleAddress", move(&xunchav1.MoveSiteRequest{DivisionCode: village, Address: invisible}), codes.InvalidArgument, "INVALID_FIELD", "address"},
		{"StruckOffBefore", func() error {
			_, err := rosters.DeregisterSite(ctx, &xunchav1.DeregisterSiteRequest{SiteId: first.SiteId, EffectiveTime: past})
			return err
		}(), codes.InvalidArgument, "INVALID_FIELD", "effective_time"},

		{"OrderWithoutNumber", order(func(o *xunchav1.ClosureOrder) { o.Number = "" }), codes.InvalidArgument, "MISSING_FIELD", "closure_order.number"},
		{"OrderWithTakenNumber", order(func(o *xunchav1.ClosureOrder) { o.Number = "1" }), codes.AlreadyExists, "CLOSURE_ORDER_NUMBER_TAKEN", "closure_order.number"},
		{"OrderWithoutTitle", order(func(o *xunchav1.ClosureOrder) { o.Title = "" }), codes.InvalidArgument, "MISSING_FIELD", "closure_order.title"},
		{"OrderWithoutAuthority", order(func(o *xunchav1.ClosureOrder) { o.IssuingAuthority = "" }), codes.InvalidArgument, "MISSING_FIELD", "closure_order.issuing_authority"},
		{"OrderWithoutLegalBasis", order(func(o *xunchav1.ClosureOrder) { o.LegalBasis = invisible }), codes.InvalidArgument, "INVALID_FIELD", "closure_order.legal_basis"},
		{"OrderWithoutStart", order(func(o *xunchav1.ClosureOrder) { o.StartTime = nil }), codes.InvalidArgument, "MISSING_FIELD", "closure_order.start_time"},
		{"OrderSinceYearOne", order(func(o *xunchav1.ClosureOrder) { o.StartTime = yearOne }), codes.InvalidArgument, "OUT_OF_RANGE", "closure_order.start_time"},
		{"OrderWithoutEnd", order(func(o *xunchav1.ClosureOrder) { o.EndTime = nil }), codes.InvalidArgument, "MISSING_FIELD", "closure_order.end_time"},
		{"OrderTooLong", order(func(o *xunchav1.ClosureOrder) { o.EndTime.Seconds += 61 * 86400 }), codes.InvalidArgument, "CLOSURE_ORDER_TOO_LONG", "closure_order.end_time"},
		{"OrderWithoutInterval", order(func(o *xunchav1.ClosureOrder) { o.InspectionInterval = nil }), codes.InvalidArgument, "MISSING_FIELD", "closure_order.inspection_interval"},
		{"OrderWithImpossibleInterval", order(func(o *xunchav1.ClosureOrder) { o.InspectionInterval.Nanos = -1 }), codes.InvalidArgument, "OUT_OF_RANGE", "closure_order.inspection_interval"},
		{"OrderWithShortInterval", order(func(o *xunchav1.ClosureOrder) { o.InspectionInterval = durationpb.New(time.Minute) }), codes.InvalidArgument, "OUT_OF_RANGE", "closure_order.inspection_interval"},
		{"OrderOverTheSameTwice", order(func(o *xunchav1.ClosureOrder) { o.DivisionCodes = []string{"511600", "511600"} }), codes.InvalidArgument, "INVALID_FIELD", "closure_order.division_codes[1]"},
		{"OrderOverNoDivision", order(func(o *xunchav1.ClosureOrder) { o.DivisionCodes = []string{"990000"} }), codes.NotFound, "DIVISION_NOT_FOUND", "closure_order.division_codes[0]"},
		{"OrderEndedBefore", func() error {
			_, err := rosters.EndClosureOrder(ctx, &xunchav1.EndClosureOrderRequest{ClosureOrderId: w.order.ClosureOrderId, EndTime: past})
			return err
		}(), codes.FailedPrecondition, "CLOSURE_ORDER_ENDED", "end_time"},

		{"DivisionsOfNoDay", divisions(header("2020-02-30", ""), county), codes.InvalidArgument, "INVALID_FIELD", "header.effective_date"},
		{"DivisionsOfAnEarlierDay", divisions(header("2019-10-30", ""), county), codes.InvalidArgument, "INVALID_FIELD", "header.effective_date"},
		{"DivisionsOfInvisibleSource", divisions(header("2020-02-01", invisible), county), codes.InvalidArgument, "INVALID_FIELD", "header.source"},
		{"NoDivisions", divisions(header("2020-02-01", "")), codes.InvalidArgument, "MISSING_FIELD", "row"},
		{"RowsBeforeTheHeader", divisions(county, header("2020-02-01", "")), codes.InvalidArgument, "MISSING_FIELD", "header"},
		{"SitesOfInvisibleSource", sitesOf(&xunchav1.ImportHeader{Source: invisible}), codes.InvalidArgument, "INVALID_FIELD", "header.source"},
		{"NoSites", sitesOf(&xunchav1.ImportHeader{}), codes.InvalidArgument, "MISSING_FIELD", "row"},

		{"AccountOfUpperCase", account(func(r *xunchav1.CreateAccountRequest) { r.Account.Username = "Li" }), codes.InvalidArgument, "INVALID_FIELD", "account.username"},
		{"AccountOfNobody", account(func(r *xunchav1.CreateAccountRequest) { r.Account.Username = "local" }), codes.InvalidArgument, "INVALID_FIELD", "account.username"},
		{"AccountWithoutRole", account(func(r *xunchav1.CreateAccountRequest) { r.Account.Role = 0 }), codes.InvalidArgument, "MISSING_FIELD", "account.role"},
		{"FirstAccountOfAnOfficer", account(func(r *xunchav1.CreateAccountRequest) { r.Account.Role = xunchav1.Role_ROLE_OFFICER }), codes.InvalidArgument, "INVALID_FIELD", "account.role"},
		{"AccountOfNoDivision", account(func(r *xunchav1.CreateAccountRequest) { r.Account.DivisionCodes = nil }), codes.InvalidArgument, "MISSING_FIELD", "account.division_codes"},
		{"AccountOfHalfACode", account(func(r *xunchav1.CreateAccountRequest) { r.Account.DivisionCodes = []string{"511600", "5116"} }), codes.InvalidArgument, "INVALID_FIELD", "account.division_codes[1]"},
		{"AccountWithWeakPassword", account(func(r *xunchav1.CreateAccountRequest) { r.Password = "short" }), codes.InvalidArgument, "WEAK_PASSWORD", "password"},

		{"CheckInOfOtherTimes", submit(func(c *xunchav1.CheckIn) { c.CaptureTime = timestamppb.New(time.Unix(-1, 0)) }), codes.InvalidArgument, "INVALID_FIELD", "check_in.capture_time"},
		{"ListOfBoth", func() error {
			_, err := w.checkIns.ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{DivisionCode: "511600", SiteId: first.SiteId})
			return err
		}(), codes.InvalidArgument, "INVALID_FIELD", "division_code"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantStatus(t, test.err, test.code, test.reason, test.field)
		})
	}
	t.Run("UpdatedAccount", func(t *testing.T) {
		w.create(t, "root", accounts.Admin, "511600")
		made := w.create(t, "li.wei", accounts.Officer, "511602")
		root := with(ctx, w.signIn(t, "root"))
		_, err := people.UpdateAccount(root, &xunchav1.UpdateAccountRequest{AccountId: made.ID, DivisionCodes: []string{"511602", "511602"}})
		wantStatus(t, err, codes.InvalidArgument, "INVALID_FIELD", "division_codes[1]")
		_, err = people.ResetPassword(root, &xunchav1.ResetPasswordRequest{AccountId: "00000000-0000-4000-8000-000000000000"})
		wantStatus(t, err, codes.NotFound, "ACCOUNT_NOT_FOUND", "account_id")
		_, err = people.ChangePassword(root, &xunchav1.ChangePasswordRequest{OldPassword: testPassword, NewPassword: strings.Repeat("x", 14)})
		wantStatus(t, err, codes.InvalidArgument, "WEAK_PASSWORD", "new_password")
	})
}
