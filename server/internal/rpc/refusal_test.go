package rpc

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

// violations returns the fields that an error names with their reasons, in its order.
func violations(err error) (out []string) {
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range d.FieldViolations {
				out = append(out, v.Field+" "+v.Reason)
			}
		}
	}
	return out
}

// method returns the descriptor of a method by its full name, such as /xuncha.v1.S/M.
func method(t testing.TB, full string) protoreflect.MethodDescriptor {
	t.Helper()
	name := protoreflect.FullName(strings.ReplaceAll(full[1:], "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.MethodDescriptor)
}

// invoke calls any method with the messages, which are one unless the caller streams.
func (w *world) invoke(t testing.TB, ctx context.Context, full string, messages ...proto.Message) error {
	t.Helper()
	d := method(t, full)
	out := must(protoregistry.GlobalTypes.FindMessageByName(d.Output().FullName()))(t)
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: d.IsStreamingClient(), ServerStreams: d.IsStreamingServer()}, full)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if stream.SendMsg(m) != nil {
			break // and RecvMsg says why
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(out.New().Interface()); err != io.EOF {
		return err
	}
	return nil
}

// TestEverythingAtOnce holds that one answer names all that is wrong with a request, in the
// order of its fields, whether the .proto, the domain, the roster or the caller's divisions
// find it, and has the code and the reason of the first.
func TestEverythingAtOnce(t *testing.T) {
	open, bound := newWorld(t), newWorld(t)
	bound.create(t, "root", accounts.Admin, "511602")
	bound.create(t, "officer", accounts.Officer, "511602")
	bound.create(t, "head", accounts.Head, "511602")
	bound.create(t, "auditor", accounts.Auditor, "511602")
	long := func(n int) string { return strings.Repeat("长", n) }
	yearOne := timestamppb.New(time.Time{})
	past := timestamppb.New(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))
	invisible := "a\u202eb"
	first := open.sites[0]
	// One of another county than the callers'.
	i := slices.IndexFunc(open.sites, func(s *xunchav1.Site) bool { return !strings.HasPrefix(s.DivisionCode, "511602") })
	foreign := open.sites[i]
	taken := proto.Clone(open.order).(*xunchav1.ClosureOrder)
	checkIn := func(change func(*xunchav1.CheckIn)) *xunchav1.SubmitCheckInRequest {
		c := open.checkIn(0)
		change(c)
		return &xunchav1.SubmitCheckInRequest{CheckIn: c, ClientTime: yearOne}
	}
	divisions := func(h *xunchav1.ImportHeader) proto.Message {
		return &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Header{Header: h}}
	}
	sitesOf := func(h *xunchav1.ImportHeader) proto.Message {
		return &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Header{Header: h}}
	}
	const nowhere = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"

	for _, test := range []struct {
		name, method string
		// caller is who calls on a server with accounts; empty for one without.
		caller   string
		messages []proto.Message
		code     codes.Code
		want     []string
	}{
		{"OrderOverThreeUnknownDivisionsWithoutTitle", xunchav1.RosterService_CreateClosureOrder_FullMethodName, "",
			[]proto.Message{&xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
				Number: "N", IssuingAuthority: "x", LegalBasis: "x", DivisionCodes: []string{"990001", "511602", "990002", "990003"},
				StartTime: timestamppb.New(open.clock()), EndTime: timestamppb.New(open.clock().Add(time.Hour)), InspectionInterval: durationpb.New(time.Hour),
			}}}, codes.InvalidArgument, []string{
				"closure_order.title MISSING_FIELD", "closure_order.division_codes[0] DIVISION_NOT_FOUND",
				"closure_order.division_codes[2] DIVISION_NOT_FOUND", "closure_order.division_codes[3] DIVISION_NOT_FOUND",
			}},
		{"OrderOverOthersDivisionsWithoutTitle", xunchav1.RosterService_CreateClosureOrder_FullMethodName, "root",
			[]proto.Message{&xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
				Number: "N", IssuingAuthority: "x", LegalBasis: "x", DivisionCodes: []string{"990001", "511602", foreign.DivisionCode},
				StartTime: timestamppb.New(open.clock()), EndTime: timestamppb.New(open.clock().Add(time.Hour)), InspectionInterval: durationpb.New(time.Hour),
			}}}, codes.InvalidArgument, []string{
				"closure_order.title MISSING_FIELD", "closure_order.division_codes[0] DIVISION_NOT_FOUND", "closure_order.division_codes[2] DIVISION_NOT_FOUND",
			}},
		{"OrderWithEverythingWrong", xunchav1.RosterService_CreateClosureOrder_FullMethodName, "",
			[]proto.Message{&xunchav1.CreateClosureOrderRequest{RequestId: "x", ClosureOrder: &xunchav1.ClosureOrder{
				Number: long(65), Title: long(501), IssuingAuthority: "\x1b[2J", DivisionCodes: []string{"5116", "511600", "511600", "990001"},
				StartTime: yearOne, InspectionInterval: durationpb.New(time.Minute),
			}}}, codes.InvalidArgument, []string{
				"closure_order.number TOO_LONG", "closure_order.title TOO_LONG", "closure_order.issuing_authority INVALID_FIELD",
				"closure_order.legal_basis MISSING_FIELD", "closure_order.division_codes[0] MALFORMED_ID", "closure_order.division_codes[2] INVALID_FIELD",
				"closure_order.division_codes[3] DIVISION_NOT_FOUND", "closure_order.start_time OUT_OF_RANGE", "closure_order.end_time MISSING_FIELD",
				"closure_order.inspection_interval OUT_OF_RANGE", "request_id MALFORMED_ID",
			}},
		{"OrderWithTakenNumber", xunchav1.RosterService_CreateClosureOrder_FullMethodName, "",
			[]proto.Message{&xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
				Number: taken.Number, Title: "x", IssuingAuthority: "x", LegalBasis: "x", DivisionCodes: []string{"511600"},
				StartTime: taken.StartTime, EndTime: taken.StartTime,
			}}}, codes.AlreadyExists, []string{
				"closure_order.number CLOSURE_ORDER_NUMBER_TAKEN", "closure_order.end_time INVALID_FIELD", "closure_order.inspection_interval MISSING_FIELD",
			}},
		{"NewSite", xunchav1.RosterService_CreateSite_FullMethodName, "",
			[]proto.Message{&xunchav1.CreateSiteRequest{Site: &xunchav1.Site{
				RegistrationNo: first.RegistrationNo, DivisionCode: "511602", Address: invisible, Latitude: proto.Float64(91), RegisteredTime: yearOne,
			}}}, codes.AlreadyExists, []string{
				"site.registration_no REGISTRATION_NO_TAKEN", "site.name MISSING_FIELD", "site.division_code NOT_A_VILLAGE", "site.address INVALID_FIELD",
				"site.latitude OUT_OF_RANGE", "site.longitude MISSING_FIELD", "site.registered_time OUT_OF_RANGE",
			}},
		{"NewSiteElsewhere", xunchav1.RosterService_CreateSite_FullMethodName, "root",
			[]proto.Message{&xunchav1.CreateSiteRequest{Site: &xunchav1.Site{
				RegistrationNo: long(65), DivisionCode: foreign.DivisionCode, Address: invisible,
			}}}, codes.InvalidArgument, []string{
				"site.registration_no TOO_LONG", "site.name MISSING_FIELD", "site.division_code DIVISION_NOT_FOUND", "site.address INVALID_FIELD",
			}},
		{"Update", xunchav1.RosterService_UpdateSite_FullMethodName, "",
			[]proto.Message{&xunchav1.UpdateSiteRequest{
				SiteId: first.SiteId, Etag: "r0", Name: proto.String(" "), Address: &invisible, Longitude: proto.Float64(-181),
			}}, codes.InvalidArgument, []string{
				"name MISSING_FIELD", "address INVALID_FIELD", "latitude MISSING_FIELD", "longitude OUT_OF_RANGE",
			}},
		{"UpdateOfAStaleSite", xunchav1.RosterService_UpdateSite_FullMethodName, "",
			[]proto.Message{&xunchav1.UpdateSiteRequest{SiteId: first.SiteId, Etag: "r0", Name: proto.String(" "), Address: &invisible}},
			codes.Aborted, []string{"etag STALE_ETAG", "name MISSING_FIELD", "address INVALID_FIELD"}},
		{"UpdateOfNoSite", xunchav1.RosterService_UpdateSite_FullMethodName, "",
			[]proto.Message{&xunchav1.UpdateSiteRequest{SiteId: nowhere, Name: proto.String(" ")}},
			codes.NotFound, []string{"site_id SITE_NOT_FOUND", "name MISSING_FIELD"}},
		{"Move", xunchav1.RosterService_MoveSite_FullMethodName, "",
			[]proto.Message{&xunchav1.MoveSiteRequest{
				SiteId: first.SiteId, Etag: "r0", DivisionCode: "990000000001", EffectiveTime: past, Address: invisible, Latitude: proto.Float64(1),
			}}, codes.NotFound, []string{
				"division_code DIVISION_NOT_FOUND", "address INVALID_FIELD", "longitude MISSING_FIELD",
			}},
		{"MoveOfAStaleSite", xunchav1.RosterService_MoveSite_FullMethodName, "",
			[]proto.Message{&xunchav1.MoveSiteRequest{SiteId: first.SiteId, Etag: "r0", DivisionCode: "990000000001", EffectiveTime: past, Address: invisible}},
			codes.Aborted, []string{"etag STALE_ETAG", "division_code DIVISION_NOT_FOUND", "effective_time INVALID_FIELD", "address INVALID_FIELD"}},
		{"MoveOfOthersSite", xunchav1.RosterService_MoveSite_FullMethodName, "root",
			[]proto.Message{&xunchav1.MoveSiteRequest{SiteId: foreign.SiteId, DivisionCode: foreign.DivisionCode, EffectiveTime: past, Address: long(301)}},
			codes.NotFound, []string{"site_id SITE_NOT_FOUND", "division_code DIVISION_NOT_FOUND", "address TOO_LONG"}},
		{"StrikeOff", xunchav1.RosterService_DeregisterSite_FullMethodName, "",
			[]proto.Message{&xunchav1.DeregisterSiteRequest{SiteId: first.SiteId, Etag: "r0", EffectiveTime: past}},
			codes.Aborted, []string{"etag STALE_ETAG", "effective_time INVALID_FIELD"}},
		{"EndOfNoOrder", xunchav1.RosterService_EndClosureOrder_FullMethodName, "",
			[]proto.Message{&xunchav1.EndClosureOrderRequest{ClosureOrderId: "x", EndTime: yearOne, RequestId: "x"}},
			codes.InvalidArgument, []string{"closure_order_id MALFORMED_ID", "end_time OUT_OF_RANGE", "request_id MALFORMED_ID"}},
		{"Revocation", xunchav1.RosterService_RevokeChange_FullMethodName, "",
			[]proto.Message{&xunchav1.RevokeChangeRequest{Reason: "a\nb", RequestId: "x"}},
			codes.InvalidArgument, []string{"revision MISSING_FIELD", "reason INVALID_FIELD", "request_id MALFORMED_ID"}},
		{"Changes", xunchav1.RosterService_ListChanges_FullMethodName, "",
			[]proto.Message{&xunchav1.ListChangesRequest{PageSize: -1, PageToken: "x"}},
			codes.InvalidArgument, []string{"page_size OUT_OF_RANGE", "page_token INVALID_PAGE_TOKEN"}},
		{"EmptyDivisionTable", xunchav1.RosterService_ImportDivisions_FullMethodName, "",
			[]proto.Message{divisions(&xunchav1.ImportHeader{Source: invisible})},
			codes.InvalidArgument, []string{"header.effective_date MISSING_FIELD", "header.source INVALID_FIELD", "row MISSING_FIELD"}},
		{"DivisionTableOfLongSource", xunchav1.RosterService_ImportDivisions_FullMethodName, "",
			[]proto.Message{divisions(&xunchav1.ImportHeader{EffectiveDate: "2020-02-30", Source: long(201), RequestId: "x"})},
			codes.InvalidArgument, []string{"header.effective_date INVALID_FIELD", "header.source TOO_LONG", "header.request_id MALFORMED_ID"}},
		{"EmptySiteTable", xunchav1.RosterService_ImportSites_FullMethodName, "",
			[]proto.Message{sitesOf(&xunchav1.ImportHeader{EffectiveDate: "tomorrow", Source: invisible})},
			codes.InvalidArgument, []string{"header.effective_date INVALID_FIELD", "header.source INVALID_FIELD", "row MISSING_FIELD"}},
		{"SiteTableOfLongSource", xunchav1.RosterService_ImportSites_FullMethodName, "",
			[]proto.Message{sitesOf(&xunchav1.ImportHeader{Source: long(201), RequestId: "x"})},
			codes.InvalidArgument, []string{"header.source TOO_LONG", "header.request_id MALFORMED_ID"}},
		{"CheckIn", xunchav1.InspectionService_SubmitCheckIn_FullMethodName, "",
			[]proto.Message{checkIn(func(c *xunchav1.CheckIn) {
				c.CheckInId, c.CaptureTime, c.Finding = "", timestamppb.New(time.Unix(-1, 0)), 99
				c.CancelledEventCount, c.DispersedPeopleCount = -1, 100_001
				c.Note = long(501)
			})}, codes.InvalidArgument, []string{
				"check_in.check_in_id MISSING_FIELD", "check_in.capture_time INVALID_FIELD", "check_in.finding INVALID_FIELD",
				"check_in.cancelled_event_count OUT_OF_RANGE", "check_in.dispersed_people_count OUT_OF_RANGE",
				"check_in.note TOO_LONG", "client_time OUT_OF_RANGE",
			}},
		{"CheckInThatOnlyTheDomainRefuses", xunchav1.InspectionService_SubmitCheckIn_FullMethodName, "",
			[]proto.Message{&xunchav1.SubmitCheckInRequest{CheckIn: checkIn(func(c *xunchav1.CheckIn) {
				c.SiteId, c.CaptureTime, c.Note = nowhere, timestamppb.New(time.Unix(-1, 0)), long(501)
			}).CheckIn}}, codes.NotFound, []string{
				"check_in.site_id SITE_NOT_FOUND", "check_in.capture_time INVALID_FIELD", "check_in.note TOO_LONG",
			}},
		{"CheckInAtOthersSite", xunchav1.InspectionService_SubmitCheckIn_FullMethodName, "officer",
			[]proto.Message{&xunchav1.SubmitCheckInRequest{CheckIn: checkIn(func(c *xunchav1.CheckIn) {
				c.SiteId, c.Note = foreign.SiteId, long(501)
			}).CheckIn}}, codes.NotFound, []string{"check_in.site_id SITE_NOT_FOUND", "check_in.note TOO_LONG"}},
		{"Upload", xunchav1.PhotoService_UploadPhoto_FullMethodName, "",
			[]proto.Message{&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Spec{Spec: &xunchav1.PhotoUploadSpec{CheckInId: "x", Offset: -1}}}},
			codes.InvalidArgument, []string{"spec.sha256 MISSING_FIELD", "spec.check_in_id MALFORMED_ID", "spec.site_id MISSING_FIELD", "spec.offset OUT_OF_RANGE"}},
		{"UploadState", xunchav1.PhotoService_GetPhotoUpload_FullMethodName, "",
			[]proto.Message{&xunchav1.GetPhotoUploadRequest{CheckInId: "x"}},
			codes.InvalidArgument, []string{"sha256 MISSING_FIELD", "check_in_id MALFORMED_ID", "site_id MISSING_FIELD"}},
		{"Download", xunchav1.PhotoService_DownloadPhoto_FullMethodName, "",
			[]proto.Message{&xunchav1.DownloadPhotoRequest{Sha256: []byte("x"), SiteId: "x", Variant: 9}},
			codes.InvalidArgument, []string{"sha256 INVALID_FIELD", "check_in_id MISSING_FIELD", "site_id MALFORMED_ID", "variant INVALID_FIELD"}},
		{"Coverage", xunchav1.CoverageService_GetCoverage_FullMethodName, "",
			[]proto.Message{&xunchav1.GetCoverageRequest{DivisionCode: "990000", StartTime: yearOne, EndTime: yearOne, KnownTime: yearOne, Depth: 9}},
			codes.NotFound, []string{
				"division_code DIVISION_NOT_FOUND", "start_time OUT_OF_RANGE", "end_time OUT_OF_RANGE", "known_time OUT_OF_RANGE", "depth OUT_OF_RANGE",
			}},
		{"CoverageOfAnEmptyWindow", xunchav1.CoverageService_GetCoverage_FullMethodName, "",
			[]proto.Message{&xunchav1.GetCoverageRequest{DivisionCode: "990000", StartTime: past, EndTime: past}},
			codes.NotFound, []string{"division_code DIVISION_NOT_FOUND", "end_time INVALID_WINDOW"}},
		{"CoverageElsewhere", xunchav1.CoverageService_GetCoverage_FullMethodName, "head",
			[]proto.Message{&xunchav1.GetCoverageRequest{DivisionCode: "511600", StartTime: past, EndTime: past}},
			codes.NotFound, []string{"division_code DIVISION_NOT_FOUND", "end_time INVALID_WINDOW"}},
		{"DueSites", xunchav1.CoverageService_ListDueSites_FullMethodName, "",
			[]proto.Message{&xunchav1.ListDueSitesRequest{DivisionCode: "990000", State: 9, StartTime: past, EndTime: past, KnownTime: yearOne, PageSize: -1, PageToken: "x"}},
			codes.NotFound, []string{
				"division_code DIVISION_NOT_FOUND", "state INVALID_FIELD", "known_time OUT_OF_RANGE", "page_size OUT_OF_RANGE", "page_token INVALID_PAGE_TOKEN",
			}},
		{"CheckInList", xunchav1.InspectionService_ListCheckIns_FullMethodName, "",
			[]proto.Message{&xunchav1.ListCheckInsRequest{StartTime: past, EndTime: past, Flag: 9, PageToken: "x"}},
			codes.InvalidArgument, []string{"division_code MISSING_FIELD", "end_time INVALID_WINDOW", "flag INVALID_FIELD", "page_token INVALID_PAGE_TOKEN"}},
		{"Divisions", xunchav1.RosterService_ListDivisions_FullMethodName, "",
			[]proto.Message{&xunchav1.ListDivisionsRequest{ParentCode: "x", AsOfTime: yearOne, PageSize: -1, PageToken: "x"}},
			codes.InvalidArgument, []string{"parent_code MALFORMED_ID", "as_of_time OUT_OF_RANGE", "page_size OUT_OF_RANGE", "page_token INVALID_PAGE_TOKEN"}},
		{"Division", xunchav1.RosterService_GetDivision_FullMethodName, "",
			[]proto.Message{&xunchav1.GetDivisionRequest{Code: "x", AsOfTime: yearOne}},
			codes.InvalidArgument, []string{"code MALFORMED_ID", "as_of_time OUT_OF_RANGE"}},
		{"Sites", xunchav1.RosterService_ListSites_FullMethodName, "",
			[]proto.Message{&xunchav1.ListSitesRequest{DivisionCode: "990000", AsOfTime: yearOne, PageToken: "x"}},
			codes.InvalidArgument, []string{"as_of_time OUT_OF_RANGE", "page_token INVALID_PAGE_TOKEN"}},
		{"Site", xunchav1.RosterService_GetSite_FullMethodName, "",
			[]proto.Message{&xunchav1.GetSiteRequest{SiteId: "x", AsOfTime: yearOne}},
			codes.InvalidArgument, []string{"site_id MALFORMED_ID", "as_of_time OUT_OF_RANGE"}},
		{"Orders", xunchav1.RosterService_ListClosureOrders_FullMethodName, "",
			[]proto.Message{&xunchav1.ListClosureOrdersRequest{InForceTime: yearOne, PageToken: "x"}},
			codes.InvalidArgument, []string{"in_force_time OUT_OF_RANGE", "page_token INVALID_PAGE_TOKEN"}},
		{"SiteHistory", xunchav1.AuditService_ListSiteHistory_FullMethodName, "",
			[]proto.Message{&xunchav1.ListSiteHistoryRequest{SiteId: "x", PageToken: "x"}},
			codes.InvalidArgument, []string{"site_id MALFORMED_ID", "page_token INVALID_PAGE_TOKEN"}},
		{"Accesses", xunchav1.AuditService_ListAccesses_FullMethodName, "auditor",
			[]proto.Message{&xunchav1.ListAccessesRequest{DivisionCode: "511600", SiteId: foreign.SiteId, Account: long(129), StartTime: past, EndTime: past, PageToken: "x"}},
			codes.NotFound, []string{
				"division_code DIVISION_NOT_FOUND", "site_id SITE_NOT_FOUND", "account TOO_LONG", "end_time INVALID_WINDOW", "page_token INVALID_PAGE_TOKEN",
			}},
		{"AccountHistory", xunchav1.AuditService_ListAccountHistory_FullMethodName, "auditor",
			[]proto.Message{&xunchav1.ListAccountHistoryRequest{AccountId: nowhere, PageToken: "x"}},
			codes.NotFound, []string{"account_id ACCOUNT_NOT_FOUND", "page_token INVALID_PAGE_TOKEN"}},
		{"NewAccount", xunchav1.AccountService_CreateAccount_FullMethodName, "root",
			[]proto.Message{&xunchav1.CreateAccountRequest{Account: &xunchav1.Account{
				Username: "root", DisplayName: "李\x1b[31m伟", DivisionCodes: []string{"511602", "5116", "511602", "511600"},
			}, Password: "short"}}, codes.AlreadyExists, []string{
				"account.username USERNAME_TAKEN", "account.display_name INVALID_FIELD", "account.role MISSING_FIELD", "account.division_codes[1] DIVISION_NOT_FOUND",
				"account.division_codes[2] INVALID_FIELD", "account.division_codes[3] DIVISION_NOT_FOUND", "password WEAK_PASSWORD",
			}},
		{"ChangedAccount", xunchav1.AccountService_UpdateAccount_FullMethodName, "root",
			[]proto.Message{&xunchav1.UpdateAccountRequest{
				AccountId: nowhere, DisplayName: proto.String("a\nb"), Role: 9, DivisionCodes: []string{"511600", "511602", "511602"},
			}}, codes.NotFound, []string{
				"account_id ACCOUNT_NOT_FOUND", "display_name INVALID_FIELD", "role INVALID_FIELD", "division_codes[0] DIVISION_NOT_FOUND", "division_codes[2] INVALID_FIELD",
			}},
		{"Login", xunchav1.AccountService_Login_FullMethodName, "",
			[]proto.Message{&xunchav1.LoginRequest{Username: long(65), NewPassword: "short"}},
			codes.InvalidArgument, []string{"username TOO_LONG", "password MISSING_FIELD", "new_password WEAK_PASSWORD"}},
		{"NewPassword", xunchav1.AccountService_ChangePassword_FullMethodName, "root",
			[]proto.Message{&xunchav1.ChangePasswordRequest{NewPassword: "short"}},
			codes.InvalidArgument, []string{"old_password MISSING_FIELD", "new_password WEAK_PASSWORD"}},
		{"Refresh", xunchav1.AccountService_RefreshToken_FullMethodName, "",
			[]proto.Message{&xunchav1.RefreshTokenRequest{RefreshToken: long(513), RetryId: "x"}},
			codes.InvalidArgument, []string{"refresh_token TOO_LONG", "retry_id MALFORMED_ID"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, ctx := open, t.Context()
			if test.caller != "" {
				w, ctx = bound, with(ctx, bound.signIn(t, test.caller))
			}
			err := w.invoke(t, ctx, test.method, test.messages...)
			if got := violations(err); !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			_, reason, _ := strings.Cut(test.want[0], " ")
			field, _, _ := strings.Cut(test.want[0], " ")
			wantStatus(t, err, test.code, reason, field)
		})
	}
}

// required are the fields without which each method can do nothing, when all messages that
// its request has are there and empty. A method that needs nothing has none.
var required = map[string][]string{
	xunchav1.RosterService_ListDivisions_FullMethodName:      nil,
	xunchav1.RosterService_GetDivision_FullMethodName:        {"code"},
	xunchav1.RosterService_ImportDivisions_FullMethodName:    {"header.effective_date", "row"},
	xunchav1.RosterService_ImportSites_FullMethodName:        {"row"},
	xunchav1.RosterService_CreateSite_FullMethodName:         {"site.registration_no", "site.name", "site.division_code"},
	xunchav1.RosterService_UpdateSite_FullMethodName:         {"site_id"},
	xunchav1.RosterService_MoveSite_FullMethodName:           {"site_id", "division_code"},
	xunchav1.RosterService_DeregisterSite_FullMethodName:     {"site_id"},
	xunchav1.RosterService_GetSite_FullMethodName:            {"site_id"},
	xunchav1.RosterService_ListSites_FullMethodName:          nil,
	xunchav1.RosterService_EndClosureOrder_FullMethodName:    {"closure_order_id"},
	xunchav1.RosterService_GetClosureOrder_FullMethodName:    {"closure_order_id"},
	xunchav1.RosterService_ListClosureOrders_FullMethodName:  nil,
	xunchav1.RosterService_RevokeChange_FullMethodName:       {"revision", "reason"},
	xunchav1.RosterService_ListChanges_FullMethodName:        nil,
	xunchav1.InspectionService_GetCheckIn_FullMethodName:     {"site_id", "check_in_id"},
	xunchav1.InspectionService_ListCheckIns_FullMethodName:   {"division_code"},
	xunchav1.PhotoService_UploadPhoto_FullMethodName:         {"spec.sha256", "spec.check_in_id", "spec.site_id"},
	xunchav1.PhotoService_GetPhotoUpload_FullMethodName:      {"sha256", "check_in_id", "site_id"},
	xunchav1.PhotoService_DownloadPhoto_FullMethodName:       {"sha256", "check_in_id", "site_id"},
	xunchav1.CoverageService_GetCoverage_FullMethodName:      {"division_code"},
	xunchav1.CoverageService_ListDueSites_FullMethodName:     {"division_code"},
	xunchav1.AuditService_ListSiteHistory_FullMethodName:     {"site_id"},
	xunchav1.AuditService_ListAccesses_FullMethodName:        nil,
	xunchav1.AuditService_ListAccountHistory_FullMethodName:  nil,
	xunchav1.AccountService_Login_FullMethodName:             {"username", "password"},
	xunchav1.AccountService_RefreshToken_FullMethodName:      {"refresh_token"},
	xunchav1.AccountService_Logout_FullMethodName:            nil,
	xunchav1.AccountService_ChangePassword_FullMethodName:    {"old_password", "new_password"},
	xunchav1.AccountService_GetMe_FullMethodName:             nil,
	xunchav1.AccountService_CreateAccount_FullMethodName:     {"account.username", "account.role", "account.division_codes"},
	xunchav1.AccountService_UpdateAccount_FullMethodName:     {"account_id"},
	xunchav1.AccountService_DisableAccount_FullMethodName:    {"account_id"},
	xunchav1.AccountService_ResetPassword_FullMethodName:     {"account_id"},
	xunchav1.AccountService_ListAccounts_FullMethodName:      nil,
	xunchav1.OperationService_GetServerStatus_FullMethodName: nil,
	xunchav1.OperationService_CheckHistories_FullMethodName:  nil,
	xunchav1.OperationService_ConfirmClock_FullMethodName:    nil,

	xunchav1.RosterService_CreateClosureOrder_FullMethodName: {
		"closure_order.number", "closure_order.title", "closure_order.issuing_authority", "closure_order.legal_basis",
		"closure_order.division_codes", "closure_order.start_time", "closure_order.end_time", "closure_order.inspection_interval",
	},
	xunchav1.InspectionService_SubmitCheckIn_FullMethodName: {
		"check_in.check_in_id", "check_in.site_id", "check_in.capture_time", "check_in.finding",
	},
}

// TestEmptyRequests holds that every method says of every field that it needs, and that is
// not given, that it is missing; and that it needs no other.
func TestEmptyRequests(t *testing.T) {
	w := newWorld(t)
	seen := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("xuncha.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				d := service.Methods().Get(j)
				full := "/" + string(service.FullName()) + "/" + string(d.Name())
				want, ok := required[full]
				if !ok {
					t.Errorf("nothing says what %s needs", full)
				}
				seen++
				hollow := must(protoregistry.GlobalTypes.FindMessageByName(d.Input().FullName()))(t)
				empty, whole := hollow.New(), hollow.New()
				var missing []string // of the empty one
				fields := d.Input().Fields()
				for k := range fields.Len() {
					f := fields.Get(k)
					if name := string(f.Name()); slices.ContainsFunc(want, func(path string) bool { return strings.HasPrefix(path, name+".") }) {
						missing = append(missing, name)
						whole.Set(f, whole.NewField(f))
					}
				}
				if full == xunchav1.RosterService_ImportSites_FullMethodName {
					whole.Set(fields.ByName("header"), whole.NewField(fields.ByName("header")))
				}
				if d.IsStreamingClient() {
					missing = []string{"part"}
				} else if missing == nil {
					missing = want
				}
				for _, call := range []struct {
					m    proto.Message
					want []string
				}{{empty.Interface(), missing}, {whole.Interface(), want}} {
					var got, all []string
					err := w.invoke(t, t.Context(), full, call.m)
					for _, v := range violations(err) {
						field, reason, _ := strings.Cut(v, " ")
						if all = append(all, v); reason == "MISSING_FIELD" {
							got = append(got, field)
						}
					}
					if !slices.Equal(got, call.want) || len(all) > len(got) {
						t.Errorf("%s{%v}: got %q of %q (%v), want %q missing", full, call.m, got, all, err, call.want)
					}
				}
			}
		}
		return true
	})
	if seen != len(required) {
		t.Errorf("%d methods are here and %d in the API", len(required), seen)
	}
}

// TestListsOfThousands ensures that of a list with far more items than it may have, this is
// all that is said: what is wrong with each item would take the server's memory. Where a
// method takes no large requests, a list of 100,000 is not read at all.
func TestListsOfThousands(t *testing.T) {
	w := newWorld(t)
	many := &xunchav1.SubmitCheckInRequest{CheckIn: w.checkIn(0)}
	for range 100_000 {
		many.CheckIn.Photos = append(many.CheckIn.Photos, &xunchav1.Photo{})
	}
	_, err := xunchav1.NewInspectionServiceClient(w.conn).SubmitCheckIn(t.Context(), many)
	if got, want := violations(err), []string{"check_in.photos TOO_LONG"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	order := &xunchav1.CreateClosureOrderRequest{ClosureOrder: w.newOrder("S03")}
	order.ClosureOrder.DivisionCodes = make([]string, 20_000)
	_, err = w.roster.CreateClosureOrder(t.Context(), order)
	if got, want := violations(err), []string{"closure_order.division_codes TOO_LONG"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	order.ClosureOrder.DivisionCodes = make([]string, 100_000)
	_, err = w.roster.CreateClosureOrder(t.Context(), order)
	wantStatus(t, err, codes.ResourceExhausted, "REQUEST_TOO_LARGE", "")
}
