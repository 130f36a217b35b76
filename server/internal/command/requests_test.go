package command_test

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/sampledata"
	"xuncha/server/internal/table"
)

// A changing call is one of a method that changes the roster or accounts, as root makes it.
type changing struct {
	method string
	// call makes it under the id of a request. With other set, it says something else.
	call func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error)
	// id is that of the request, and first its answer.
	id    string
	first proto.Message
}

// requests are changes one after the other, and what the later ones need of the earlier.
type requests struct {
	site, order, account string
	ended                int64 // the revision that ended the order
	begin                time.Time
}

// neverRepeated are the methods that change something and take no id of a request, because
// signing in has its own ways of trying again.
var neverRepeated = []string{
	"AccountService/Login", "AccountService/RefreshToken", "AccountService/Logout", "AccountService/ChangePassword",
}

// changes returns a call of each method, in an order in which they can be made.
func changes() []*changing {
	return []*changing{
		{method: "RosterService/ImportDivisions", call: func(ctx context.Context, conn grpc.ClientConnInterface, _ *requests, id string, other bool) (proto.Message, error) {
			type message = xunchav1.ImportDivisionsRequest
			header := &xunchav1.ImportHeader{EffectiveDate: "2019-10-31", Source: "divisions.csv", RequestId: id}
			if other {
				header.Source = "others.csv"
			}
			messages := []*message{{Part: &xunchav1.ImportDivisionsRequest_Header{Header: header}}}
			if err := table.Read(ctx, "d.csv", io.NewSectionReader(bytes.NewReader(sampledata.Divisions2019()), 0, int64(len(sampledata.Divisions2019()))), table.Divisions, func(r table.Row) error {
				messages = append(messages, &message{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{
					Row: int32(r.Number), Code: r.Cells[0], Name: r.Cells[1], Level: r.Cells[2], ParentCode: r.Cells[3],
				}}})
				return nil
			}); err != nil {
				return nil, err
			}
			stream, err := xunchav1.NewRosterServiceClient(conn).ImportDivisions(ctx)
			return sendAll(stream, err, messages)
		}},
		{method: "RosterService/ImportSites", call: func(ctx context.Context, conn grpc.ClientConnInterface, _ *requests, id string, other bool) (proto.Message, error) {
			type message = xunchav1.ImportSitesRequest
			messages := []*message{{Part: &xunchav1.ImportSitesRequest_Header{Header: &xunchav1.ImportHeader{RequestId: id}}}}
			for i, no := range []string{"1", "2", "3"} {
				row := &xunchav1.SiteRow{Row: int32(i), RegistrationNo: no, Name: "样例", DivisionCode: "511602001003", RegisteredOn: "2019-12-31"}
				if other {
					row.Latitude, row.Longitude = "30", "106"
				}
				messages = append(messages, &message{Part: &xunchav1.ImportSitesRequest_Row{Row: row}})
			}
			stream, err := xunchav1.NewRosterServiceClient(conn).ImportSites(ctx)
			return sendAll(stream, err, messages)
		}},
		{method: "RosterService/CreateSite", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			site := &xunchav1.Site{RegistrationNo: "N-1", Name: "样例", DivisionCode: "511602001003"}
			if other {
				site.RegisteredTime = timestamppb.New(r.begin)
			}
			answer, err := xunchav1.NewRosterServiceClient(conn).CreateSite(ctx, &xunchav1.CreateSiteRequest{Site: site, RequestId: id})
			if err == nil {
				r.site = answer.Site.SiteId
			}
			return answer, err
		}},
		{method: "RosterService/UpdateSite", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			req := &xunchav1.UpdateSiteRequest{SiteId: r.site, Name: proto.String("改名"), RequestId: id}
			if other {
				req.Address = proto.String("")
			}
			return xunchav1.NewRosterServiceClient(conn).UpdateSite(ctx, req)
		}},
		{method: "RosterService/MoveSite", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			req := &xunchav1.MoveSiteRequest{SiteId: r.site, DivisionCode: "511602002003", RequestId: id}
			if other {
				req.EffectiveTime = timestamppb.New(r.begin.Add(24 * time.Hour))
			}
			return xunchav1.NewRosterServiceClient(conn).MoveSite(ctx, req)
		}},
		{method: "RosterService/DeregisterSite", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			req := &xunchav1.DeregisterSiteRequest{SiteId: r.site, RequestId: id}
			if other {
				req.Etag = "r1"
			}
			return xunchav1.NewRosterServiceClient(conn).DeregisterSite(ctx, req)
		}},
		{method: "RosterService/CreateClosureOrder", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			order := &xunchav1.ClosureOrder{
				Number: "1号", Title: "通知", IssuingAuthority: "指挥部", LegalBasis: "法", DivisionCodes: []string{"511602"},
				StartTime: timestamppb.New(r.begin), EndTime: timestamppb.New(r.begin.Add(30 * 24 * time.Hour)), InspectionInterval: durationpb.New(24 * time.Hour),
			}
			if other {
				order.InspectionInterval.Nanos = 1
			}
			answer, err := xunchav1.NewRosterServiceClient(conn).CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: order, RequestId: id})
			if err == nil {
				r.order = answer.ClosureOrder.ClosureOrderId
			}
			return answer, err
		}},
		{method: "RosterService/EndClosureOrder", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			req := &xunchav1.EndClosureOrderRequest{ClosureOrderId: r.order, RequestId: id}
			if other {
				req.EndTime = timestamppb.New(r.begin.Add(time.Hour))
			}
			answer, err := xunchav1.NewRosterServiceClient(conn).EndClosureOrder(ctx, req)
			if err == nil {
				r.ended = answer.ClosureOrder.Revision
			}
			return answer, err
		}},
		{method: "RosterService/RevokeChange", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			req := &xunchav1.RevokeChangeRequest{Revision: r.ended, Reason: "误录", RequestId: id}
			if other {
				req.Reason = "误操作"
			}
			return xunchav1.NewRosterServiceClient(conn).RevokeChange(ctx, req)
		}},
		{method: "AccountService/CreateAccount", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			req := &xunchav1.CreateAccountRequest{
				Account:   &xunchav1.Account{Username: "wu.min", Role: xunchav1.Role_ROLE_OFFICER, DivisionCodes: []string{"511602"}},
				RequestId: id,
			}
			if other {
				req.Password = testPassword
			}
			answer, err := xunchav1.NewAccountServiceClient(conn).CreateAccount(ctx, req)
			if err == nil {
				r.account = answer.Account.AccountId
			}
			return answer, err
		}},
		{method: "AccountService/UpdateAccount", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			req := &xunchav1.UpdateAccountRequest{AccountId: r.account, Role: xunchav1.Role_ROLE_HEAD, RequestId: id}
			if other {
				req.DisplayName = proto.String("")
			}
			return xunchav1.NewAccountServiceClient(conn).UpdateAccount(ctx, req)
		}},
		{method: "AccountService/ResetPassword", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			return xunchav1.NewAccountServiceClient(conn).ResetPassword(ctx, &xunchav1.ResetPasswordRequest{AccountId: r.orRoot(ctx, conn, other), RequestId: id})
		}},
		{method: "AccountService/DisableAccount", call: func(ctx context.Context, conn grpc.ClientConnInterface, r *requests, id string, other bool) (proto.Message, error) {
			return xunchav1.NewAccountServiceClient(conn).DisableAccount(ctx, &xunchav1.DisableAccountRequest{AccountId: r.orRoot(ctx, conn, other), RequestId: id})
		}},
	}
}

// orRoot returns the id of the account that was created, or, for another, of the caller's.
func (r *requests) orRoot(ctx context.Context, conn grpc.ClientConnInterface, other bool) string {
	if !other {
		return r.account
	}
	answer, err := xunchav1.NewAccountServiceClient(conn).GetMe(ctx, &xunchav1.GetMeRequest{})
	if err != nil {
		return err.Error()
	}
	return answer.Account.AccountId
}

func sendAll[Message, Answer any](stream grpc.ClientStreamingClient[Message, Answer], err error, messages []*Message) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if stream.Send(m) != nil {
			break
		}
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	return any(answer).(proto.Message), nil
}

const testPassword = "correct horse battery"

// TestEveryChangeCanBeRepeated ensures that no method of the roster or of accounts that
// changes something is without the id of a request, and without a row in the tests here.
func TestEveryChangeCanBeRepeated(t *testing.T) {
	var rows []string
	for _, c := range changes() {
		rows = append(rows, c.method)
	}
	for _, file := range []protoreflect.FileDescriptor{xunchav1.File_xuncha_v1_roster_service_proto, xunchav1.File_xuncha_v1_account_service_proto} {
		service := file.Services().Get(0)
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			name := string(service.Name()) + "/" + string(m.Name())
			level := m.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel()
			if level == descriptorpb.MethodOptions_NO_SIDE_EFFECTS || slices.Contains(neverRepeated, name) {
				continue
			}
			in := m.Input()
			if header := in.Fields().ByName("header"); header != nil {
				in = header.Message()
			}
			if in.Fields().ByName("request_id") == nil || !slices.Contains(rows, name) {
				t.Errorf("%s changes something, and has no request_id or no row here", name)
			}
		}
	}
}

// TestRequests ensures that every change can be repeated: at once, after all later ones,
// after the server was killed, and on another server of the database. The answer is the
// first one, but for one-time passwords, and nothing is changed.
func TestRequests(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "xuncha")
	if out, err := exec.Command("go", "build", "-o", binary, "xuncha/server").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	onBothEngines(t, func(t *testing.T, store ...string) { testRequests(t, binary, store...) })
}

func testRequests(t *testing.T, binary string, store ...string) {
	start := func() (kill func(), address string) {
		t.Helper()
		out := newLineWriter()
		server := exec.Command(binary, append([]string{"serve", "--listen", "127.0.0.1:0", "--log-level", "error"}, store...)...)
		server.Stdout, server.Stderr = out, out
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		kill = sync.OnceFunc(func() {
			_ = server.Process.Kill()
			_ = server.Wait() // it was killed
		})
		t.Cleanup(kill)
		return kill, out.address(t)
	}
	as := func(address, username string) *client.Client {
		t.Helper()
		c := newClient(t, address)
		if _, err := c.SignIn(t.Context(), client.SignIn{Username: username, Password: testPassword}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	kill, address := start()
	for i, name := range []string{"root", "deng"} {
		var conn grpc.ClientConnInterface = connect(t, address)
		if i > 0 {
			conn = as(address, "root")
		}
		if _, err := xunchav1.NewAccountServiceClient(conn).CreateAccount(t.Context(), &xunchav1.CreateAccountRequest{
			Account: &xunchav1.Account{Username: name, Role: xunchav1.Role_ROLE_ADMIN, DivisionCodes: []string{"511600"}}, Password: testPassword,
		}); err != nil {
			t.Fatal(err)
		}
	}
	root, deng := as(address, "root"), as(address, "deng")
	var other grpc.ClientConnInterface // on another server of the database, where it can have one
	if strings.HasPrefix(store[1], "mongodb") {
		_, address := start()
		other = as(address, "root")
	}
	r := &requests{begin: time.Now().Truncate(time.Hour)}
	calls := changes()
	same := func(what string, c *changing, conn grpc.ClientConnInterface) {
		t.Helper()
		again, err := c.call(t.Context(), conn, r, strings.ToUpper(c.id), false)
		if err != nil {
			t.Errorf("%s, %s: %v", c.method, what, err)
			return
		}
		if first, again := withoutPassword(c.first), withoutPassword(again); !proto.Equal(first, again) {
			t.Errorf("%s, %s: got %v, want %v", c.method, what, again, first)
		}
	}
	var password string
	for _, c := range calls {
		c.id = uuid.NewString()
		var err error
		if c.first, err = c.call(t.Context(), root, r, c.id, false); err != nil {
			t.Fatalf("%s: %v", c.method, err)
		}
		same("at once", c, root)
		// It has not heard of what was created just before.
		if other != nil && !strings.Contains(c.method, "/Create") {
			same("on another server at once", c, other)
		}
		_, err = c.call(t.Context(), root, r, c.id, true)
		wantConflict(t, c.method+" with other content", err)
		_, err = c.call(t.Context(), deng, r, c.id, false)
		wantConflict(t, c.method+" by another account", err)
		if c.method == "AccountService/ResetPassword" {
			answer, err := c.call(t.Context(), root, r, c.id, false)
			if err != nil {
				t.Fatal(err)
			}
			password = answer.(*xunchav1.ResetPasswordResponse).OneTimePassword
			for _, p := range []string{c.first.(*xunchav1.ResetPasswordResponse).OneTimePassword, password} {
				_, err := newClient(t, address).SignIn(t.Context(), client.SignIn{Username: "wu.min", Password: p})
				if changes := status.Code(err) == codes.FailedPrecondition; changes != (p == password) {
					t.Errorf("of two one-time passwords, the newer alone is good: got %v", err)
				}
			}
		}
	}
	for _, c := range calls {
		same("after all others", c, root)
		for _, other := range calls {
			if other.method != c.method {
				_, err := other.call(t.Context(), root, r, c.id, false)
				wantConflict(t, other.method+" by the id of "+c.method, err)
			}
		}
	}
	kill()
	_, address = start()
	root = as(address, "root")
	for _, c := range calls {
		same("after the server was killed", c, root)
	}
	sites, err := xunchav1.NewRosterServiceClient(root).ListSites(t.Context(), &xunchav1.ListSitesRequest{})
	if err != nil || len(sites.Sites) != 3 {
		t.Errorf("got %d sites, %v, want the three that are not struck off", len(sites.GetSites()), err)
	}
	orders, err := xunchav1.NewRosterServiceClient(root).ListClosureOrders(t.Context(), &xunchav1.ListClosureOrdersRequest{})
	if err != nil || len(orders.ClosureOrders) != 1 {
		t.Errorf("got %d orders, %v, want one", len(orders.GetClosureOrders()), err)
	}
}

// withoutPassword returns the answer without the one-time password.
func withoutPassword(m proto.Message) proto.Message {
	m = proto.Clone(m)
	if f := m.ProtoReflect().Descriptor().Fields().ByName("one_time_password"); f != nil {
		m.ProtoReflect().Clear(f)
	}
	return m
}

// wantConflict wants REQUEST_CONFLICT, which names the id of the request.
func wantConflict(t *testing.T, what string, err error) {
	t.Helper()
	st := status.Convert(err)
	var reason, field string
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.Reason
		case *errdetails.BadRequest:
			for _, v := range d.FieldViolations {
				field += v.Field
			}
		}
	}
	if st.Code() != codes.AlreadyExists || reason != "REQUEST_CONFLICT" || strings.TrimPrefix(field, "header.") != "request_id" {
		t.Errorf("%s: got %v, %s of %q, want REQUEST_CONFLICT of request_id", what, err, reason, field)
	}
}
