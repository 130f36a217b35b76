package rpc

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/inspections"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

var (
	errRole       = errors.New("the caller's role may not do this")
	errNoAccounts = errors.New("the server has no accounts yet")
)

// An access is a row of the table of who may call what.
type access struct {
	// open methods need no token.
	open bool
	// roles may call the method.
	roles []accounts.Role
	// within tells whether what a message of the call is about lies in the
	// caller's divisions, or else returns the error of what does not exist. Where
	// it is nil, the method itself cuts its answer to them.
	within func(v *view, m proto.Message) error
	// looks returns what the call looks at, of a method whose callers are
	// themselves on record, and leaves out the method's name. It is nil for the
	// others.
	looks func(m proto.Message) accounts.Access
}

var (
	anyone   = accounts.Roles
	officers = []accounts.Role{accounts.Officer}
	admins   = []accounts.Role{accounts.Admin}
	// readers see what officers report. Administrators do not.
	readers = []accounts.Role{accounts.Officer, accounts.Head, accounts.Auditor}
	// historians see by whom, when, and as what it was reported.
	historians = []accounts.Role{accounts.Head, accounts.Auditor}
	// auditors see who looked at histories, and how accounts were changed.
	auditors = []accounts.Role{accounts.Auditor}
)

// rule makes a row whose messages are all of one type.
func rule[M proto.Message](roles []accounts.Role, within func(v *view, m M) error) access {
	return access{roles: roles, within: func(v *view, m proto.Message) error {
		typed, ok := m.(M)
		if !ok {
			return fmt.Errorf("a message of type %T", m)
		}
		return within(v, typed)
	}}
}

// onRecord makes a row whose calls are put on record before they are answered.
func onRecord[M proto.Message](row access, looks func(m M) accounts.Access) access {
	row.looks = func(m proto.Message) accounts.Access { return looks(m.(M)) }
	return row
}

// accesses is the one table of who may call what, and where. A method without a
// row stops the server at start.
var accesses = map[string]access{
	xunchav1.RosterService_ListDivisions_FullMethodName: rule(anyone, func(v *view, m *xunchav1.ListDivisionsRequest) error {
		return v.optionalDivision("parent_code", m.ParentCode)
	}),
	xunchav1.RosterService_GetDivision_FullMethodName: rule(anyone, func(v *view, m *xunchav1.GetDivisionRequest) error {
		return v.division("code", m.Code)
	}),
	xunchav1.RosterService_ImportDivisions_FullMethodName: {roles: admins},
	xunchav1.RosterService_ImportSites_FullMethodName: rule(admins, func(v *view, m *xunchav1.ImportSitesRequest) error {
		if m.GetRow() == nil {
			return nil
		}
		return v.siteRow(m.GetRow())
	}),
	xunchav1.RosterService_CreateSite_FullMethodName: rule(admins, func(v *view, m *xunchav1.CreateSiteRequest) error {
		return v.division("site.division_code", m.Site.DivisionCode)
	}),
	xunchav1.RosterService_UpdateSite_FullMethodName: rule(admins, func(v *view, m *xunchav1.UpdateSiteRequest) error {
		return v.site("site_id", m.SiteId)
	}),
	xunchav1.RosterService_MoveSite_FullMethodName: rule(admins, func(v *view, m *xunchav1.MoveSiteRequest) error {
		return cmp.Or(v.site("site_id", m.SiteId), v.division("division_code", m.DivisionCode))
	}),
	xunchav1.RosterService_DeregisterSite_FullMethodName: rule(admins, func(v *view, m *xunchav1.DeregisterSiteRequest) error {
		return v.site("site_id", m.SiteId)
	}),
	xunchav1.RosterService_GetSite_FullMethodName: rule(anyone, func(v *view, m *xunchav1.GetSiteRequest) error {
		return v.site("site_id", m.SiteId)
	}),
	xunchav1.RosterService_ListSites_FullMethodName: rule(anyone, func(v *view, m *xunchav1.ListSitesRequest) error {
		return v.optionalDivision("division_code", m.DivisionCode)
	}),
	xunchav1.RosterService_CreateClosureOrder_FullMethodName: rule(admins, func(v *view, m *xunchav1.CreateClosureOrderRequest) error {
		for i, code := range m.ClosureOrder.DivisionCodes {
			if err := v.division(fmt.Sprintf("closure_order.division_codes[%d]", i), code); err != nil {
				return err
			}
		}
		return nil
	}),
	xunchav1.RosterService_EndClosureOrder_FullMethodName: rule(admins, func(v *view, m *xunchav1.EndClosureOrderRequest) error {
		return v.wholeOrder(m.ClosureOrderId)
	}),
	xunchav1.RosterService_GetClosureOrder_FullMethodName: rule(anyone, func(v *view, m *xunchav1.GetClosureOrderRequest) error {
		return v.order(m.ClosureOrderId)
	}),
	xunchav1.RosterService_ListClosureOrders_FullMethodName: {roles: anyone},

	xunchav1.InspectionService_SubmitCheckIn_FullMethodName: rule(officers, func(v *view, m *xunchav1.SubmitCheckInRequest) error {
		return v.siteVisited("check_in.site_id", m.CheckIn.SiteId, m.CheckIn.CaptureTime)
	}),
	xunchav1.InspectionService_GetCheckIn_FullMethodName: rule(readers, func(v *view, m *xunchav1.GetCheckInRequest) error {
		return v.site("site_id", m.SiteId)
	}),
	xunchav1.InspectionService_ListCheckIns_FullMethodName: rule(readers, func(v *view, m *xunchav1.ListCheckInsRequest) error {
		if m.SiteId != "" {
			return v.site("site_id", m.SiteId)
		}
		return v.optionalDivision("division_code", m.DivisionCode)
	}),

	xunchav1.PhotoService_UploadPhoto_FullMethodName: rule(officers, func(v *view, m *xunchav1.UploadPhotoRequest) error {
		if m.GetSpec() == nil {
			return nil
		}
		return v.siteOfCheckIn("spec.site_id", m.GetSpec().SiteId, m.GetSpec().CheckInId)
	}),
	xunchav1.PhotoService_GetPhotoUpload_FullMethodName: rule(officers, func(v *view, m *xunchav1.GetPhotoUploadRequest) error {
		return v.siteOfCheckIn("site_id", m.SiteId, m.CheckInId)
	}),
	xunchav1.PhotoService_DownloadPhoto_FullMethodName: onRecord(rule(readers, func(v *view, m *xunchav1.DownloadPhotoRequest) error {
		return v.site("site_id", m.SiteId)
	}), func(m *xunchav1.DownloadPhotoRequest) accounts.Access {
		return accounts.Access{Site: sites.SiteID(lower(m.SiteId)), CheckIn: lower(m.CheckInId), Photo: hex.EncodeToString(m.Sha256)}
	}),

	xunchav1.CoverageService_GetCoverage_FullMethodName: rule(readers, func(v *view, m *xunchav1.GetCoverageRequest) error {
		return v.division("division_code", m.DivisionCode)
	}),
	xunchav1.CoverageService_ListDueSites_FullMethodName: rule(readers, func(v *view, m *xunchav1.ListDueSitesRequest) error {
		return v.division("division_code", m.DivisionCode)
	}),

	xunchav1.AuditService_ListSiteHistory_FullMethodName: onRecord(rule(historians, func(v *view, m *xunchav1.ListSiteHistoryRequest) error {
		return v.site("site_id", m.SiteId)
	}), func(m *xunchav1.ListSiteHistoryRequest) accounts.Access {
		return accounts.Access{Site: sites.SiteID(lower(m.SiteId))}
	}),
	xunchav1.AuditService_ListAccesses_FullMethodName: rule(auditors, func(v *view, m *xunchav1.ListAccessesRequest) error {
		if m.SiteId != "" {
			return cmp.Or(v.site("site_id", m.SiteId), v.optionalDivision("division_code", m.DivisionCode))
		}
		return v.optionalDivision("division_code", m.DivisionCode)
	}),
	xunchav1.AuditService_ListAccountHistory_FullMethodName: rule(auditors, func(v *view, m *xunchav1.ListAccountHistoryRequest) error {
		if m.AccountId == "" {
			return nil
		}
		return v.account(m.AccountId)
	}),

	xunchav1.AccountService_Login_FullMethodName:          {open: true},
	xunchav1.AccountService_RefreshToken_FullMethodName:   {open: true},
	xunchav1.AccountService_Logout_FullMethodName:         {roles: anyone},
	xunchav1.AccountService_ChangePassword_FullMethodName: {roles: anyone},
	xunchav1.AccountService_GetMe_FullMethodName:          {roles: anyone},
	xunchav1.AccountService_CreateAccount_FullMethodName: rule(admins, func(v *view, m *xunchav1.CreateAccountRequest) error {
		return v.divisions("account.division_codes", m.Account.DivisionCodes)
	}),
	xunchav1.AccountService_UpdateAccount_FullMethodName: rule(admins, func(v *view, m *xunchav1.UpdateAccountRequest) error {
		return cmp.Or(v.account(m.AccountId), v.divisions("division_codes", m.DivisionCodes))
	}),
	xunchav1.AccountService_DisableAccount_FullMethodName: rule(admins, func(v *view, m *xunchav1.DisableAccountRequest) error {
		return v.account(m.AccountId)
	}),
	xunchav1.AccountService_ResetPassword_FullMethodName: rule(admins, func(v *view, m *xunchav1.ResetPasswordRequest) error {
		return v.account(m.AccountId)
	}),
	xunchav1.AccountService_ListAccounts_FullMethodName: {roles: admins},
}

// complete returns an error that names the methods of ours without a row.
func complete(services map[string]grpc.ServiceInfo, table map[string]access) error {
	var missing []string
	for name, service := range services {
		if !strings.HasPrefix(name, "xuncha.") {
			continue // standard services tell nothing of ours
		}
		for _, m := range service.Methods {
			full := "/" + name + "/" + m.Name
			if row, ok := table[full]; !ok || !row.open && len(row.roles) == 0 {
				missing = append(missing, full)
			}
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("nothing says who may call %s", strings.Join(missing, ", "))
	}
	return nil
}

// A view is what a caller can see.
type view struct {
	ctx context.Context // the call's
	// caller is nil on a server without accounts, which asks nobody.
	caller   *accounts.Caller
	config   *Config
	rosterAt *sites.Roster
	now      time.Time
}

type viewKey struct{}

// viewOf returns the view of the call.
func viewOf(ctx context.Context) *view { return ctx.Value(viewKey{}).(*view) }

// account is the name that records have of the caller.
func account(ctx context.Context) string {
	if v := viewOf(ctx); v.caller != nil {
		return v.caller.Account.Username
	}
	return Account
}

// admit returns the call's view, once the caller may call the method.
func (c *calls) admit(ctx context.Context, method string) (context.Context, access, error) {
	if !strings.HasPrefix(method, "/xuncha.") {
		return ctx, access{open: true}, nil
	}
	if address := c.config.addressOf(ctx); !isLocal(address) {
		if err := c.perAddress.take(c.now(), address); err != nil {
			return ctx, access{}, err
		}
	}
	row := accesses[method]
	v := &view{ctx: ctx, config: c.config, rosterAt: c.config.Roster.Roster(), now: c.now()}
	if !row.open && c.config.Accounts.Any() {
		token, err := bearer(ctx)
		if err != nil {
			return ctx, row, err
		}
		caller, err := c.config.Accounts.Verify(ctx, token)
		if err != nil {
			return ctx, row, err
		}
		if err := c.perAccount.take(c.now(), caller.Account.ID); err != nil {
			return ctx, row, err
		}
		if !slices.Contains(row.roles, caller.Account.Role) {
			return ctx, row, fmt.Errorf("%s: %w", caller.Account.Role, errRole)
		}
		v.caller = &caller
	}
	return context.WithValue(ctx, viewKey{}, v), row, nil
}

// bearer returns the token in the call's metadata, as RFC 6750 has it.
func bearer(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return "", fmt.Errorf("%w: there is none in authorization", accounts.ErrToken)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", fmt.Errorf("%w: want authorization: Bearer <token>", accounts.ErrToken)
	}
	return token, nil
}

// addressOf is where the call comes from, without the port.
func (c *Config) addressOf(ctx context.Context) string {
	if c.BehindProxy {
		// The last one is what the proxy has seen; those before it are what the
		// caller says.
		if all := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for"); len(all) > 0 {
			seen := all[len(all)-1]
			if ip := net.ParseIP(strings.TrimSpace(seen[strings.LastIndex(seen, ",")+1:])); ip != nil {
				return ip.String()
			}
		}
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host
}

// all reports whether the caller sees everything.
func (v *view) all() bool { return v.caller == nil }

// seesDivision reports whether the division is one of the caller's, or below
// one, by the hierarchy of today. One that has ended lies where it last did.
func (v *view) seesDivision(code sites.DivisionCode) bool {
	if v.all() || slices.Contains(v.caller.Account.Divisions, code) {
		return true
	}
	return slices.ContainsFunc(v.rosterAt.Path(code, v.now), func(above sites.DivisionCode) bool {
		return slices.Contains(v.caller.Account.Divisions, above)
	})
}

func (v *view) seesSite(s *sites.Site) bool { return v.seesDivision(s.PlaceAt(v.now).Division) }

// seesOrder reports whether the order closes sites that the caller can see.
func (v *view) seesOrder(o *sites.ClosureOrder) bool {
	return v.all() || slices.ContainsFunc(o.Divisions, func(code sites.DivisionCode) bool {
		return v.seesDivision(code) || slices.ContainsFunc(v.caller.Account.Divisions, func(own sites.DivisionCode) bool {
			return v.rosterAt.Within(own, code, v.now)
		})
	})
}

// seesAccount reports whether the account is one that an administrator with the
// caller's divisions keeps: all that it may do lies in them.
func (v *view) seesAccount(a *accounts.Account) bool {
	return !slices.ContainsFunc(a.Divisions, func(code sites.DivisionCode) bool { return !v.seesDivision(code) })
}

// placeOf returns the division in which lies what was looked at, today.
func (v *view) placeOf(a *accounts.RecordedAccess) sites.DivisionCode {
	if s, err := v.rosterAt.Site(a.Site); err == nil {
		return s.PlaceAt(v.now).Division
	}
	return a.Division
}

// tops returns the caller's divisions as they are at t: where lists begin.
func (v *view) tops(r *sites.Roster, t time.Time) (out []sites.Division) {
	for _, code := range slices.Sorted(slices.Values(v.caller.Account.Divisions)) {
		if d, err := r.Division(code, t); err == nil {
			out = append(out, d)
		}
	}
	return out
}

func (v *view) division(field, code string) error {
	if v.seesDivision(sites.DivisionCode(code)) {
		return nil
	}
	return noDivision(field, sites.DivisionCode(code))
}

func noDivision(field string, code sites.DivisionCode) error {
	return &sites.FieldError{Field: field, Err: fmt.Errorf("division %s: %w", code, sites.ErrDivisionUnknown)}
}

func (v *view) optionalDivision(field, code string) error {
	if code == "" {
		return nil
	}
	return v.division(field, code)
}

func (v *view) divisions(field string, codes []string) error {
	for i, code := range codes {
		if err := v.division(fmt.Sprintf("%s[%d]", field, i), code); err != nil {
			return err
		}
	}
	return nil
}

func (v *view) site(field, id string) error {
	return v.siteVisited(field, id, nil)
}

// siteVisited also lets a site through that was the caller's at the time of a
// visit: what a phone brings late is not lost because the site has moved since.
func (v *view) siteVisited(field, id string, at *timestamppb.Timestamp) error {
	if v.all() {
		return nil
	}
	s, err := v.rosterAt.Site(sites.SiteID(lower(id)))
	if err == nil && (v.seesSite(s) || at.IsValid() && v.seesDivision(s.PlaceAt(at.AsTime()).Division)) {
		return nil
	}
	// As roster.Site says it of a site that there is not.
	return &sites.FieldError{Field: field, Err: fmt.Errorf("site %s: %w", lower(id), sites.ErrSiteUnknown)}
}

// siteOfCheckIn also lets the site of a check-in through that was the caller's at
// the time of the visit, so that its photos can follow it.
func (v *view) siteOfCheckIn(field, site, checkIn string) error {
	refused := v.site(field, site)
	if refused == nil {
		return nil
	}
	c, err := v.config.Inspections.Get(v.ctx, sites.SiteID(lower(site)), inspections.CheckInID(lower(checkIn)))
	switch {
	case err == nil:
		return v.siteVisited(field, site, timestamppb.New(c.VisitTime))
	case errors.Is(err, inspections.ErrNotFound), errors.Is(err, sites.ErrSiteUnknown):
		return refused
	}
	return err
}

func (v *view) order(id string) error {
	return v.orderIf(id, v.seesOrder)
}

// wholeOrder lets an order through all of whose divisions are the caller's.
func (v *view) wholeOrder(id string) error {
	return v.orderIf(id, func(o *sites.ClosureOrder) bool {
		return !slices.ContainsFunc(o.Divisions, func(code sites.DivisionCode) bool { return !v.seesDivision(code) })
	})
}

func (v *view) orderIf(id string, seen func(*sites.ClosureOrder) bool) error {
	if v.all() {
		return nil
	}
	o, err := v.rosterAt.Order(sites.OrderID(lower(id)))
	if err == nil && seen(o) {
		return nil
	}
	return &sites.FieldError{Field: "closure_order_id", Err: fmt.Errorf("closure order %s: %w", lower(id), sites.ErrOrderUnknown)}
}

func (v *view) account(id string) error {
	if v.all() {
		return nil
	}
	a, err := v.config.Accounts.Get(lower(id))
	if err != nil || !v.seesAccount(a) {
		return &sites.FieldError{Field: "account_id", Err: accounts.ErrUnknown}
	}
	return nil
}

// siteRow lets a row of an import of sites through that is about sites and
// divisions of the caller. What the row lacks, the import itself says.
func (v *view) siteRow(row *xunchav1.SiteRow) error {
	if v.all() {
		return nil
	}
	if s, err := v.rosterAt.SiteByRegistration(row.RegistrationNo); err == nil && !v.seesSite(s) {
		return &sites.FieldError{Field: fmt.Sprintf("row[%d].registration_no", row.Row), Err: sites.ErrRegistrationTaken}
	}
	return v.optionalDivision(fmt.Sprintf("row[%d].division_code", row.Row), row.DivisionCode)
}

// divisionRows lets a table of divisions through whose top rows are the caller's
// divisions or lie below them, and that takes no division from others.
func (v *view) divisionRows(rows []sites.DivisionRow) error {
	if v.all() {
		return nil
	}
	inTable := make(map[string]bool, len(rows))
	for _, r := range rows {
		inTable[r.Code] = true
	}
	for _, r := range rows {
		code, parent := sites.DivisionCode(r.Code), sites.DivisionCode(r.Parent)
		known := len(v.rosterAt.Versions(code)) > 0
		top := !inTable[r.Parent] || r.Parent == r.Code
		if v.seesDivision(code) || !known && (!top || r.Parent != "" && v.seesDivision(parent)) {
			continue
		}
		return noDivision(fmt.Sprintf("row[%d].code", r.Row), code)
	}
	return nil
}
