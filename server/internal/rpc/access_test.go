package rpc

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/ledger"
	"xuncha/ledger/ledgertest"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/sites"
)

const testPassword = "correct horse battery"

// An area is where a call is about something, seen from the callers, who are all
// bound to 511602.
type area struct {
	name                 string
	division, village    string
	site, order, account string
}

// A matrixRow says of a method who may call it. Its request is about something
// in the area; a nil one says that the area does not matter.
type matrixRow struct {
	roles   []accounts.Role
	request func(w *world, p area) proto.Message
	// more are further messages of a stream.
	more func(p area) proto.Message
	// shared tells that what is in the parent is the caller's concern too.
	shared bool
	// whole tells that only those may call it who are responsible for all divisions.
	whole bool
	// table tells that it takes a table, each row of which is answered by itself.
	table bool
}

var (
	everybody = []accounts.Role{accounts.Officer, accounts.Head, accounts.Auditor, accounts.Admin}
	noAdmin   = []accounts.Role{accounts.Officer, accounts.Head, accounts.Auditor}
	onlyAdmin = []accounts.Role{accounts.Admin}
)

func elsewhere(m proto.Message) func(*world, area) proto.Message {
	return func(_ *world, p area) proto.Message {
		if p.name != "own" {
			return nil
		}
		return m
	}
}

// of makes a request for the areas that have what it is about.
func of(has func(area) string, make func(area) proto.Message) func(*world, area) proto.Message {
	return func(_ *world, p area) proto.Message {
		if has(p) == "" {
			return nil
		}
		return make(p)
	}
}

func hasSite(p area) string    { return p.site }
func hasAccount(p area) string { return p.account }
func hasAny(p area) string     { return p.division }

// matrix is written out once more here, because it is a promise. Login and
// RefreshToken, which need no token, are in it without roles.
var matrix = map[string]matrixRow{
	"RosterService/ListDivisions": {roles: everybody, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.ListDivisionsRequest{ParentCode: p.division}
	})},
	"RosterService/GetDivision": {roles: everybody, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.GetDivisionRequest{Code: p.division}
	})},
	"RosterService/ImportDivisions": {roles: onlyAdmin, table: true, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Header{Header: &xunchav1.ImportHeader{EffectiveDate: "2020-02-02", DryRun: p.name == "own"}}}
	}), more: func(p area) proto.Message {
		return &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{Row: 2, Code: p.division, Name: "某", Level: "county", ParentCode: "511600"}}}
	}},
	"RosterService/ImportSites": {roles: onlyAdmin, table: true, request: of(hasSite, func(p area) proto.Message {
		return &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Header{Header: &xunchav1.ImportHeader{DryRun: p.name == "own"}}}
	}), more: func(p area) proto.Message {
		return &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{
			Row: 2, RegistrationNo: "new", Name: "某", DivisionCode: p.village, RegisteredOn: "2019-01-01",
		}}}
	}},
	"RosterService/CreateSite": {roles: onlyAdmin, request: of(hasSite, func(p area) proto.Message {
		return &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{RegistrationNo: uuid.NewString(), Name: "某", DivisionCode: p.village}}
	})},
	"RosterService/UpdateSite": {roles: onlyAdmin, request: of(hasSite, func(p area) proto.Message {
		return &xunchav1.UpdateSiteRequest{SiteId: p.site, Name: proto.String("某" + uuid.NewString()[:4])}
	})},
	"RosterService/MoveSite": {roles: onlyAdmin, request: of(hasSite, func(p area) proto.Message {
		return &xunchav1.MoveSiteRequest{SiteId: p.site, DivisionCode: p.village, Address: "某"}
	})},
	"RosterService/DeregisterSite": {roles: onlyAdmin, request: of(hasSite, func(p area) proto.Message {
		return &xunchav1.DeregisterSiteRequest{SiteId: p.site, Etag: "stale"}
	})},
	"RosterService/GetSite": {roles: everybody, request: of(hasSite, func(p area) proto.Message {
		return &xunchav1.GetSiteRequest{SiteId: p.site}
	})},
	"RosterService/ListSites": {roles: everybody, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.ListSitesRequest{DivisionCode: p.division}
	})},
	"RosterService/CreateClosureOrder": {roles: onlyAdmin, request: func(w *world, p area) proto.Message {
		o := w.newOrder(uuid.NewString())
		o.DivisionCodes = []string{p.division}
		return &xunchav1.CreateClosureOrderRequest{ClosureOrder: o}
	}},
	"RosterService/EndClosureOrder": {roles: onlyAdmin, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.EndClosureOrderRequest{ClosureOrderId: p.order}
	})},
	"RosterService/GetClosureOrder": {roles: everybody, shared: true, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.GetClosureOrderRequest{ClosureOrderId: p.order}
	})},
	"RosterService/ListClosureOrders": {roles: everybody, request: elsewhere(&xunchav1.ListClosureOrdersRequest{})},
	"RosterService/RevokeChange": {roles: onlyAdmin, request: func(w *world, p area) proto.Message {
		return &xunchav1.RevokeChangeRequest{Revision: w.issue(p.division), Reason: "by mistake"}
	}},
	"RosterService/ListChanges": {roles: []accounts.Role{accounts.Auditor, accounts.Admin}, request: elsewhere(&xunchav1.ListChangesRequest{})},

	"InspectionService/SubmitCheckIn": {roles: []accounts.Role{accounts.Officer}, request: func(w *world, p area) proto.Message {
		if p.site == "" {
			return nil
		}
		c := w.checkIn(0)
		c.SiteId = p.site
		return &xunchav1.SubmitCheckInRequest{CheckIn: c}
	}},
	"InspectionService/GetCheckIn": {roles: noAdmin, request: func(w *world, p area) proto.Message {
		if p.site == "" {
			return nil
		}
		return &xunchav1.GetCheckInRequest{SiteId: p.site, CheckInId: w.visited[p.site]}
	}},
	"InspectionService/ListCheckIns": {roles: noAdmin, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.ListCheckInsRequest{DivisionCode: p.division}
	})},
	"PhotoService/UploadPhoto": {roles: []accounts.Role{accounts.Officer}, request: func(w *world, p area) proto.Message {
		if p.site == "" {
			return nil
		}
		return uploadSpec(&xunchav1.CheckIn{SiteId: p.site, CheckInId: w.visited[p.site]}, testPhoto, 0)
	}, more: func(area) proto.Message {
		return &xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Data{Data: testPhoto}}
	}},
	"PhotoService/GetPhotoUpload": {roles: []accounts.Role{accounts.Officer}, request: func(w *world, p area) proto.Message {
		if p.site == "" {
			return nil
		}
		return &xunchav1.GetPhotoUploadRequest{SiteId: p.site, CheckInId: w.visited[p.site], Sha256: sum(testPhoto)}
	}},
	"PhotoService/DownloadPhoto": {roles: noAdmin, request: func(w *world, p area) proto.Message {
		if p.site == "" {
			return nil
		}
		return &xunchav1.DownloadPhotoRequest{SiteId: p.site, CheckInId: w.visited[p.site], Sha256: sum(testPhoto)}
	}},
	"CoverageService/GetCoverage": {roles: noAdmin, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.GetCoverageRequest{DivisionCode: p.division}
	})},
	"CoverageService/ListDueSites": {roles: noAdmin, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.ListDueSitesRequest{DivisionCode: p.division}
	})},
	"AuditService/ListSiteHistory": {roles: []accounts.Role{accounts.Head, accounts.Auditor}, request: of(hasSite, func(p area) proto.Message {
		return &xunchav1.ListSiteHistoryRequest{SiteId: p.site}
	})},

	"AuditService/ListAccesses": {roles: []accounts.Role{accounts.Auditor}, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.ListAccessesRequest{DivisionCode: p.division}
	})},
	"AuditService/ListAccountHistory": {roles: []accounts.Role{accounts.Auditor}, request: of(hasAccount, func(p area) proto.Message {
		return &xunchav1.ListAccountHistoryRequest{AccountId: p.account}
	})},

	"AccountService/Login":        {},
	"AccountService/RefreshToken": {},
	"AccountService/GetMe":        {roles: everybody, request: elsewhere(&xunchav1.GetMeRequest{})},
	"AccountService/CreateAccount": {roles: onlyAdmin, request: of(hasAny, func(p area) proto.Message {
		return &xunchav1.CreateAccountRequest{Password: testPassword, Account: &xunchav1.Account{
			Username: "n" + uuid.NewString()[:8], Role: xunchav1.Role_ROLE_HEAD, DivisionCodes: []string{p.division},
		}}
	})},
	"AccountService/UpdateAccount": {roles: onlyAdmin, request: of(hasAccount, func(p area) proto.Message {
		return &xunchav1.UpdateAccountRequest{AccountId: p.account, DisplayName: proto.String(uuid.NewString())}
	})},
	"AccountService/DisableAccount": {roles: onlyAdmin, request: of(hasAccount, func(p area) proto.Message {
		return &xunchav1.DisableAccountRequest{AccountId: p.account}
	})},
	"AccountService/ResetPassword": {roles: onlyAdmin, request: of(hasAccount, func(p area) proto.Message {
		return &xunchav1.ResetPasswordRequest{AccountId: p.account}
	})},
	"AccountService/ListAccounts": {roles: onlyAdmin, request: elsewhere(&xunchav1.ListAccountsRequest{})},

	"OperationService/GetServerStatus": {roles: []accounts.Role{accounts.Auditor, accounts.Admin}, request: elsewhere(&xunchav1.GetServerStatusRequest{})},
	"OperationService/CheckHistories":  {roles: []accounts.Role{accounts.Auditor, accounts.Admin}, whole: true, request: elsewhere(&xunchav1.CheckHistoriesRequest{})},
	"OperationService/ConfirmClock":    {roles: onlyAdmin, request: elsewhere(&xunchav1.ConfirmClockRequest{})},

	// These two end what they are called with, so they are called last.
	"AccountService/Logout": {roles: everybody, request: elsewhere(&xunchav1.LogoutRequest{})},
	"AccountService/ChangePassword": {roles: everybody, request: elsewhere(&xunchav1.ChangePasswordRequest{
		OldPassword: testPassword, NewPassword: "another horse battery",
	})},
}

// methods returns every method of ours, those that end a token last.
func methods() (out []protoreflect.MethodDescriptor) {
	protoregistry.GlobalFiles.RangeFilesByPackage("xuncha.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			for j := range f.Services().Get(i).Methods().Len() {
				out = append(out, f.Services().Get(i).Methods().Get(j))
			}
		}
		return true
	})
	order := []string{"DisableAccount", "ResetPassword", "Logout", "ChangePassword"}
	slices.SortStableFunc(out, func(a, b protoreflect.MethodDescriptor) int {
		return slices.Index(order, string(a.Name())) - slices.Index(order, string(b.Name()))
	})
	return out
}

// call calls any method and returns its error.
func (w *world) call(ctx context.Context, m protoreflect.MethodDescriptor, messages ...proto.Message) error {
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()))
	if err != nil {
		return err
	}
	for _, msg := range messages {
		if msg != nil && stream.SendMsg(msg) != nil {
			break // and RecvMsg says why
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(dynamicpb.NewMessage(m.Output()))
}

// with returns a context whose calls carry the token.
func with(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func (w *world) create(t testing.TB, name string, role accounts.Role, division string) *accounts.Account {
	t.Helper()
	a, _, err := w.accounts.Create(t.Context(), accounts.By{Account: "root"}, accounts.NewAccount{
		Username: name, Role: role, Divisions: []sites.DivisionCode{sites.DivisionCode(division)}, Password: testPassword,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (w *world) signIn(t testing.TB, name string) string {
	t.Helper()
	answer := must(xunchav1.NewAccountServiceClient(w.conn).Login(t.Context(), &xunchav1.LoginRequest{Username: name, Password: testPassword}))(t)
	return answer.AccessToken
}

// areas returns the areas of the matrix, and fills them.
func (w *world) areas(t testing.TB) []area {
	t.Helper()
	w.visited = map[string]string{}
	out := []area{{name: "own", division: "511602"}, {name: "other", division: "511603"}, {name: "parent", division: "511600"}}
	for i := range out {
		p := &out[i]
		o := w.newOrder("order of " + p.division)
		o.DivisionCodes = []string{p.division}
		p.order = must(w.roster.CreateClosureOrder(t.Context(), &xunchav1.CreateClosureOrderRequest{ClosureOrder: o}))(t).ClosureOrder.ClosureOrderId
		if p.name == "parent" {
			continue // no site stands in a city itself
		}
		list := must(w.roster.ListSites(t.Context(), &xunchav1.ListSitesRequest{DivisionCode: p.division}))(t).Sites
		p.site, p.village = list[0].SiteId, list[0].DivisionCode
		c := w.checkIn(0)
		c.SiteId = p.site
		c.Photos = declare(testPhoto)
		w.submit(t, c)
		w.visited[p.site] = c.CheckInId
		w.mustUpload(t, t.Context(), c, testPhoto)
	}
	w.create(t, "root", accounts.Admin, "511600")
	for i := range out {
		out[i].account = w.create(t, "kept."+out[i].name, accounts.Officer, out[i].division).ID
	}
	return out
}

// TestAccess calls every method as every role, about what is the caller's, what
// is another's, and what stands above.
func TestAccess(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	tokens := map[accounts.Role]string{}
	for _, role := range everybody {
		w.create(t, "my."+string(role), role, "511602")
		tokens[role] = w.signIn(t, "my."+string(role))
	}
	for _, m := range methods() {
		name := fmt.Sprintf("%s/%s", m.Parent().Name(), m.Name())
		row, ok := matrix[name]
		if !ok {
			t.Errorf("%s has no row", name)
			continue
		}
		for _, role := range everybody {
			for _, p := range areas {
				if row.request == nil {
					continue
				}
				request := row.request(w, p)
				if request == nil {
					continue
				}
				var more proto.Message
				if row.more != nil {
					more = row.more(p)
				}
				t.Run(fmt.Sprintf("%s/%s/%s", name, role, p.name), func(t *testing.T) {
					token := tokens[role]
					if m.Name() == "Logout" {
						token = w.signIn(t, "my."+string(role))
					}
					err := w.call(with(t.Context(), token), m, request, more)
					code := status.Code(err)
					switch allowed := slices.Contains(row.roles, role); {
					case !allowed || row.whole:
						wantStatus(t, err, codes.PermissionDenied, "ROLE_NOT_ALLOWED", "")
					case p.name == "own" || row.shared && p.name == "parent":
						if code == codes.PermissionDenied || code == codes.Unauthenticated || code == codes.NotFound || code == codes.Internal || code == codes.Unknown {
							t.Errorf("got %v, want it allowed", err)
						}
					case row.table:
						wantStatus(t, err, codes.InvalidArgument, "IMPORT_REJECTED", "")
						if got := reasonsOf(err); !slices.Contains(got, "DIVISION_NOT_FOUND") {
							t.Errorf("got the reasons %v, want DIVISION_NOT_FOUND among them", got)
						}
					case code != codes.NotFound:
						t.Errorf("got %v, want NOT_FOUND", err)
					}
				})
			}
		}
	}
}

// TestTokens calls every method that needs a token without a good one.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.areas(t)
	w.create(t, "early", accounts.Admin, "511600")
	gone := w.create(t, "gone", accounts.Admin, "511600")
	expired := w.signIn(t, "early")
	w.advance(accounts.AccessLifetime)
	good, disabled := w.signIn(t, "early"), w.signIn(t, "gone")
	must(w.accounts.Disable(t.Context(), accounts.By{Account: "root"}, gone.ID))(t)
	parsed, _, err := jwt.NewParser().ParseUnverified(good, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodNone, parsed.Claims)
	unsigned.Header["kid"] = parsed.Header["kid"]
	none := must(unsigned.SignedString(jwt.UnsafeAllowNoneSignatureType))(t)
	// Another deployment's, whose key this one does not know.
	stranger := must(accounts.Open(t.Context(), accounts.Config{Ledger: ledgertest.New(t), Secrets: new(accountstest.MemorySecrets), Now: w.clock, NewID: uuid.NewString, Random: rand.Reader}))(t)
	_, _, err = stranger.Create(t.Context(), accounts.By{Account: "local"}, accounts.NewAccount{Username: "early", Role: accounts.Admin, Divisions: []sites.DivisionCode{"511600"}, Password: testPassword})
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := stranger.Login(t.Context(), accounts.SignIn{Username: "early", Password: testPassword})
	if err != nil {
		t.Fatal(err)
	}
	own := area0()
	for _, m := range methods() {
		name := fmt.Sprintf("%s/%s", m.Parent().Name(), m.Name())
		row := matrix[name]
		if row.request == nil {
			continue
		}
		for kind, ctx := range map[string]context.Context{
			"none":     t.Context(),
			"expired":  with(t.Context(), expired),
			"foreign":  with(t.Context(), foreign.Access),
			"disabled": with(t.Context(), disabled),
			"alg none": with(t.Context(), none),
			"basic":    metadata.AppendToOutgoingContext(t.Context(), "authorization", "Basic "+good),
			"twice":    with(with(t.Context(), good), good),
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				wantStatus(t, w.call(ctx, m, row.request(w, own)), codes.Unauthenticated, "TOKEN_INVALID", "")
			})
		}
	}
	// Everybody may call health and reflection, and nobody a method that does not
	// exist.
	if err := w.conn.Invoke(t.Context(), "/xuncha.v1.RosterService/Nothing", &xunchav1.GetMeRequest{}, &xunchav1.GetMeResponse{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown method: got %v, want UNIMPLEMENTED", err)
	}
	log := w.log.String()
	for _, secret := range []string{good, expired, disabled, foreign.Access, none, testPassword} {
		if strings.Contains(log, secret) {
			t.Error("the log has a secret")
		}
	}
}

// area0 is an area with nothing in it, for calls that are refused before it
// matters.
func area0() area {
	id := uuid.NewString()
	return area{name: "own", division: "511602", village: "511602001001", site: id, order: id, account: id}
}

// TestListsAreCut ensures that lists show what is in the caller's divisions and
// nothing else.
func TestListsAreCut(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	w.create(t, "county", accounts.Admin, "511602")
	ctx := with(t.Context(), w.signIn(t, "county"))
	list := must(w.roster.ListSites(ctx, &xunchav1.ListSitesRequest{PageSize: 1000}))(t).Sites
	if len(list) != 17 {
		t.Errorf("got %d sites, want the county's 17", len(list))
	}
	tops := must(w.roster.ListDivisions(ctx, &xunchav1.ListDivisionsRequest{}))(t).Divisions
	if len(tops) != 1 || tops[0].Code != "511602" {
		t.Errorf("got the topmost divisions %v, want 511602", tops)
	}
	var numbers []string
	for _, o := range must(w.roster.ListClosureOrders(ctx, &xunchav1.ListClosureOrdersRequest{}))(t).ClosureOrders {
		numbers = append(numbers, o.Number)
	}
	slices.Sort(numbers)
	if got, want := strings.Join(numbers, ", "), "1, order of 511600, order of 511602"; got != want {
		t.Errorf("got the orders %s, want %s", got, want)
	}
	var names []string
	people := xunchav1.NewAccountServiceClient(w.conn)
	for _, a := range must(people.ListAccounts(ctx, &xunchav1.ListAccountsRequest{}))(t).Accounts {
		names = append(names, a.Username)
	}
	if got := strings.Join(names, ", "); got != "county, kept.own" {
		t.Errorf("got the accounts %s, want county, kept.own", got)
	}
	// Nobody gives away what is not theirs.
	_, err := people.UpdateAccount(ctx, &xunchav1.UpdateAccountRequest{AccountId: areas[0].account, DivisionCodes: []string{"511600"}})
	wantStatus(t, err, codes.NotFound, "DIVISION_NOT_FOUND", "division_codes[0]")
	// What is another's looks like what does not exist.
	_, other := w.roster.GetSite(ctx, &xunchav1.GetSiteRequest{SiteId: areas[1].site})
	nothing := uuid.NewString()
	_, none := w.roster.GetSite(ctx, &xunchav1.GetSiteRequest{SiteId: nothing})
	if got, want := strings.ReplaceAll(other.Error(), areas[1].site, nothing), none.Error(); got != want {
		t.Errorf("got %q of another's site, and %q of none", got, want)
	}
}

// TestLateCheckIn ensures that what a phone brings late is taken although the
// site has moved out of the officer's divisions since.
func TestLateCheckIn(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	w.create(t, "officer", accounts.Officer, "511602")
	w.create(t, "mover", accounts.Admin, "511600")
	c := w.checkIn(0)
	c.SiteId = areas[0].site
	w.advance(time.Minute)
	must(w.roster.MoveSite(with(t.Context(), w.signIn(t, "mover")), &xunchav1.MoveSiteRequest{SiteId: c.SiteId, DivisionCode: areas[1].village}))(t)
	w.advance(time.Minute)
	ctx := with(t.Context(), w.signIn(t, "officer"))
	must(w.checkIns.SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t)
	c = w.checkIn(0)
	c.SiteId, c.CaptureTime = areas[0].site, timestamppb.New(w.clock())
	_, err := w.checkIns.SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: c})
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "check_in.site_id")
}

// TestRecordsNameTheOfficer ensures that a record says who made it.
func TestRecordsNameTheOfficer(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	w.create(t, "officer", accounts.Officer, "511602")
	w.create(t, "auditor", accounts.Auditor, "511600")
	c := w.checkIn(0)
	c.SiteId = areas[0].site
	must(w.checkIns.SubmitCheckIn(with(t.Context(), w.signIn(t, "officer")), &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t)
	history := must(w.audit.ListSiteHistory(with(t.Context(), w.signIn(t, "auditor")), &xunchav1.ListSiteHistoryRequest{SiteId: c.SiteId}))(t)
	if got := history.Entries[0]; got.EntryId != c.CheckInId || got.Account != "officer" {
		t.Errorf("got %s by %s, want %s by officer", got.EntryId, got.Account, c.CheckInId)
	}
}

// TestNoRow ensures that a method about which nothing is said stops the server.
func TestNoRow(t *testing.T) {
	services := map[string]grpc.ServiceInfo{
		"xuncha.v1.RosterService": {Methods: []grpc.MethodInfo{{Name: "GetSite"}, {Name: "Steal"}}},
		"grpc.health.v1.Health":   {Methods: []grpc.MethodInfo{{Name: "Check"}}},
	}
	err := complete(services, accesses)
	if err == nil || !strings.HasSuffix(err.Error(), " /xuncha.v1.RosterService/Steal") {
		t.Errorf("got %v, want an error that names Steal alone", err)
	}
}

// TestAccessesAreOnRecord ensures that whoever looks at a history is seen by the
// auditors of the area, once a minute, and by no others.
func TestAccessesAreOnRecord(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	own, other := areas[0].site, areas[1].site
	audit := xunchav1.NewAuditServiceClient(w.conn)
	ctxs := map[string]context.Context{}
	for name, division := range map[string]string{"all": "511600", "here": "511602", "there": "511603"} {
		w.create(t, name, accounts.Auditor, division)
		ctxs[name] = with(t.Context(), w.signIn(t, name))
	}
	look := func(name, site string) {
		t.Helper()
		w.advance(time.Second)
		must(audit.ListSiteHistory(ctxs[name], &xunchav1.ListSiteHistoryRequest{SiteId: strings.ToUpper(site), PageSize: 1}))(t)
	}
	start := w.clock()
	look("here", own)
	look("here", own)
	look("all", own)
	look("there", other)
	_, err := audit.ListSiteHistory(ctxs["here"], &xunchav1.ListSiteHistoryRequest{SiteId: other})
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "site_id")
	w.advance(accounts.AccessWindow)
	look("here", own)

	list := func(name string, req *xunchav1.ListAccessesRequest) string {
		t.Helper()
		var got []string
		for {
			answer := must(audit.ListAccesses(ctxs[name], req))(t)
			for _, a := range answer.Accesses {
				if a.Method != "xuncha.v1.AuditService/ListSiteHistory" || len(a.EntryHash) != 32 || a.History != string(accounts.AccessHistory(a.Account)) {
					t.Errorf("got %v", a)
				}
				got = append(got, fmt.Sprintf("%d %s %s", a.Sequence, a.Account, map[string]string{own: "own", other: "other"}[a.SiteId]))
			}
			if req.PageToken = answer.NextPageToken; req.PageToken == "" {
				return strings.Join(got, ", ")
			}
		}
	}
	for _, c := range []struct {
		name string
		req  *xunchav1.ListAccessesRequest
		want string
	}{
		{"here", &xunchav1.ListAccessesRequest{}, "2 here own, 1 all own, 1 here own"},
		{"here", &xunchav1.ListAccessesRequest{PageSize: 1}, "2 here own, 1 all own, 1 here own"},
		{"there", &xunchav1.ListAccessesRequest{}, "1 there other"},
		{"all", &xunchav1.ListAccessesRequest{}, "2 here own, 1 there other, 1 all own, 1 here own"},
		{"all", &xunchav1.ListAccessesRequest{SiteId: own, Account: "all"}, "1 all own"},
		{"all", &xunchav1.ListAccessesRequest{DivisionCode: "511603"}, "1 there other"},
		{"all", &xunchav1.ListAccessesRequest{StartTime: timestamppb.New(start.Add(accounts.AccessWindow))}, "2 here own"},
		{"all", &xunchav1.ListAccessesRequest{EndTime: timestamppb.New(start.Add(accounts.AccessWindow)), Account: "here"}, "1 here own"},
	} {
		if got := list(c.name, c.req); got != c.want {
			t.Errorf("%s, %v: got %s, want %s", c.name, c.req, got, c.want)
		}
	}
	for field, req := range map[string]*xunchav1.ListAccessesRequest{
		"site_id":       {SiteId: other},
		"division_code": {DivisionCode: "511603"},
	} {
		if _, err := audit.ListAccesses(ctxs["here"], req); status.Code(err) != codes.NotFound {
			t.Errorf("%s elsewhere: got %v, want NOT_FOUND", field, err)
		}
	}
	_, err = audit.ListAccesses(ctxs["here"], &xunchav1.ListAccessesRequest{StartTime: timestamppb.New(start), EndTime: timestamppb.New(start)})
	wantStatus(t, err, codes.InvalidArgument, "INVALID_WINDOW", "end_time")
}

// TestNoRecordNoHistory ensures that nobody sees a history whose looking at it
// cannot be put on record.
func TestNoRecordNoHistory(t *testing.T) {
	w := newWorldWith(t, func(c *Config) {
		broken := accounts.Config{Ledger: unrecorded{ledgertest.New(t)}, Secrets: new(accountstest.MemorySecrets), Now: c.Now, NewID: uuid.NewString, Random: rand.Reader}
		c.Accounts = must(accounts.Open(t.Context(), broken))(t)
	})
	answer, err := xunchav1.NewAuditServiceClient(w.conn).ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: w.sites[0].SiteId})
	wantStatus(t, err, codes.Unavailable, "STORE_UNAVAILABLE", "")
	if answer != nil {
		t.Error("there is an answer")
	}
}

// unrecorded is a store that takes no accesses.
type unrecorded struct{ ledger.Store }

func (unrecorded) Append(context.Context, ledger.Draft) (ledger.Entry, bool, error) {
	return ledger.Entry{}, false, ledger.ErrUnavailable
}

// TestWhatIsOnRecord ensures that no method shows a history, a photo or a file
// without a record of who asked.
func TestWhatIsOnRecord(t *testing.T) {
	for method, row := range accesses {
		name := method[strings.LastIndex(method, "/")+1:]
		want := name == "ListSiteHistory" || strings.HasPrefix(name, "Export") || strings.HasPrefix(name, "Download")
		if got := row.looks != nil; got != want {
			t.Errorf("%s: its callers are on record: %t, want %t", method, got, want)
		}
	}
}

// TestAccountHistory ensures that auditors see how the accounts of their
// divisions were changed, and by whom.
func TestAccountHistory(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	w.create(t, "auditor", accounts.Auditor, "511602")
	role := accounts.Head
	must(w.accounts.Update(t.Context(), accounts.By{Account: "root"}, areas[0].account, accounts.Change{Role: &role}))(t)
	must(w.accounts.Disable(t.Context(), accounts.By{Account: "root"}, areas[0].account))(t)
	must(w.accounts.Disable(t.Context(), accounts.By{Account: "root"}, areas[1].account))(t)
	ctx := with(t.Context(), w.signIn(t, "auditor"))
	audit := xunchav1.NewAuditServiceClient(w.conn)
	var got []string
	var entries []*xunchav1.HistoryEntry
	req := &xunchav1.ListAccountHistoryRequest{PageSize: 2, IncludeRecords: true}
	for {
		answer := must(audit.ListAccountHistory(ctx, req))(t)
		for _, e := range answer.Entries {
			a := e.GetAccountEvent()
			got = append(got, fmt.Sprintf("%s %s %s by %s", e.Kind, a.Username, a.Role, e.Account))
		}
		entries = append(entries, answer.Entries...)
		if req.PageToken = answer.NextPageToken; req.PageToken == "" {
			break
		}
	}
	want := []string{
		"ENTRY_KIND_ACCOUNT_DISABLED kept.own ROLE_UNSPECIFIED by root",
		"ENTRY_KIND_ACCOUNT_CHANGED kept.own ROLE_HEAD by root",
		"ENTRY_KIND_ACCOUNT_CREATED auditor ROLE_AUDITOR by root",
		"ENTRY_KIND_ACCOUNT_CREATED kept.own ROLE_OFFICER by root",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, e := range entries {
		if !bytes.Contains(e.Record, []byte(e.GetAccountEvent().Username)) {
			t.Errorf("the record of entry %d is %q", e.Sequence, e.Record)
		}
	}
}
