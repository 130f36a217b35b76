package rpc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

var (
	errRole = errors.New("the caller's role may not do this")
	// errNotWhole means that the caller's divisions are not all that there are.
	errNotWhole = errors.New("the caller is not responsible for all divisions")
)

// An access is a row of the table of who may call what.
type access struct {
	// open methods need no token.
	open bool
	// standard methods are those of health and reflection, and such as are not there.
	standard bool
	// roles may call the method.
	roles []accounts.Role
	// once tells that whoever had one of the roles once may call it too: what a phone
	// brings is judged by what its account could do at the time of the visit.
	once bool
	// inScope tells whether what a message of the call is about lies in the
	// caller's divisions, or else returns the error of what does not exist. Where
	// it is nil, the method itself cuts its answer to them.
	inScope func(s *scope, m proto.Message) error
	// looks returns what the call looks at, of a method whose callers are
	// themselves on record, and leaves out the method's name. It is nil for the
	// others.
	looks func(m proto.Message) accounts.Access
	// large tells that a request may be as long as Config.MaxMessage, and not only
	// plainRequest. No open method is large.
	large bool
}

// requestTime is how long the one request of a method with the row may take to come.
func (a *access) requestTime() time.Duration {
	if a.open {
		return openRequestTime
	}
	return requestTime
}

// longest is the length in bytes of the longest request of a method with the row.
func (c *Config) longest(row *access) int {
	if row.large {
		return c.MaxMessage
	}
	return min(plainRequest, c.MaxMessage)
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
	// operators see what is wrong with the server.
	operators = []accounts.Role{accounts.Auditor, accounts.Admin}
)

// rule makes a row whose messages are all of one type.
func rule[M proto.Message](roles []accounts.Role, inScope func(s *scope, m M) error) access {
	return access{roles: roles, inScope: func(s *scope, m proto.Message) error {
		typed, ok := m.(M)
		if !ok {
			return fmt.Errorf("a message of type %T", m)
		}
		return inScope(s, typed)
	}}
}

// onRecord makes a row whose calls are put on record before they are answered.
func onRecord[M proto.Message](row access, looks func(m M) accounts.Access) access {
	row.looks = func(m proto.Message) accounts.Access { return looks(m.(M)) }
	return row
}

// refuses returns errRole where the account has no role with which it may call the method.
func (a *access) refuses(account *accounts.Account) error {
	if slices.Contains(a.roles, account.Role) || a.once && account.Had(a.roles) {
		return nil
	}
	return fmt.Errorf("%s: %w", account.Role, errRole)
}

// ofVisits makes a row whose callers may be those who had the role once.
func ofVisits(row access) access {
	row.once = true
	return row
}

// takesLarge makes a row whose messages may be large.
func takesLarge(row access) access {
	row.large = true
	return row
}

// accesses is the one table of who may call what, and where. Of what changes the roster,
// it only says early what can be said early: the domain asks once more where it decides,
// of all that a change names or leaves (see by). A method without a
// row stops the server at start.
var accesses = map[string]access{
	xunchav1.RosterService_ListDivisions_FullMethodName: rule(anyone, func(s *scope, m *xunchav1.ListDivisionsRequest) error {
		return s.optionalDivision("parent_code", m.ParentCode)
	}),
	xunchav1.RosterService_GetDivision_FullMethodName: rule(anyone, func(s *scope, m *xunchav1.GetDivisionRequest) error {
		return s.division("code", m.Code)
	}),
	xunchav1.RosterService_ImportDivisions_FullMethodName: {roles: admins, large: true},
	xunchav1.RosterService_ImportSites_FullMethodName:     {roles: admins, large: true},
	xunchav1.RosterService_CreateSite_FullMethodName: rule(admins, func(s *scope, m *xunchav1.CreateSiteRequest) error {
		return s.division("site.division_code", m.Site.DivisionCode)
	}),
	xunchav1.RosterService_UpdateSite_FullMethodName: rule(admins, func(s *scope, m *xunchav1.UpdateSiteRequest) error {
		return s.site("site_id", m.SiteId)
	}),
	xunchav1.RosterService_MoveSite_FullMethodName: rule(admins, func(s *scope, m *xunchav1.MoveSiteRequest) error {
		return sites.JoinFaults(s.site("site_id", m.SiteId), s.division("division_code", m.DivisionCode))
	}),
	xunchav1.RosterService_DeregisterSite_FullMethodName: rule(admins, func(s *scope, m *xunchav1.DeregisterSiteRequest) error {
		return s.site("site_id", m.SiteId)
	}),
	xunchav1.RosterService_GetSite_FullMethodName: rule(anyone, func(s *scope, m *xunchav1.GetSiteRequest) error {
		return s.site("site_id", m.SiteId)
	}),
	xunchav1.RosterService_ListSites_FullMethodName: rule(anyone, func(s *scope, m *xunchav1.ListSitesRequest) error {
		return s.optionalDivision("division_code", m.DivisionCode)
	}),
	xunchav1.RosterService_CreateClosureOrder_FullMethodName: rule(admins, func(s *scope, m *xunchav1.CreateClosureOrderRequest) error {
		return s.divisions("closure_order.division_codes", m.ClosureOrder.DivisionCodes)
	}),
	xunchav1.RosterService_EndClosureOrder_FullMethodName: rule(admins, func(s *scope, m *xunchav1.EndClosureOrderRequest) error {
		return s.wholeOrder(m.ClosureOrderId)
	}),
	xunchav1.RosterService_GetClosureOrder_FullMethodName: rule(anyone, func(s *scope, m *xunchav1.GetClosureOrderRequest) error {
		return s.order(m.ClosureOrderId)
	}),
	xunchav1.RosterService_ListClosureOrders_FullMethodName: {roles: anyone},
	xunchav1.RosterService_RevokeChange_FullMethodName:      {roles: admins},
	xunchav1.RosterService_ListChanges_FullMethodName:       {roles: operators},

	// The domain asks reportedBy where and when the visit was.
	xunchav1.InspectionService_SubmitCheckIn_FullMethodName: takesLarge(ofVisits(access{roles: officers})),
	xunchav1.InspectionService_GetCheckIn_FullMethodName: rule(readers, func(s *scope, m *xunchav1.GetCheckInRequest) error {
		return s.site("site_id", m.SiteId)
	}),
	xunchav1.InspectionService_ListCheckIns_FullMethodName: rule(readers, func(s *scope, m *xunchav1.ListCheckInsRequest) error {
		if m.SiteId != "" {
			return s.site("site_id", m.SiteId)
		}
		return s.optionalDivision("division_code", m.DivisionCode)
	}),

	xunchav1.PhotoService_UploadPhoto_FullMethodName: takesLarge(ofVisits(rule(officers, func(s *scope, m *xunchav1.UploadPhotoRequest) error {
		if m.GetSpec() == nil {
			return nil
		}
		return s.photosOf("spec.site_id", m.GetSpec().SiteId, m.GetSpec().CheckInId)
	}))),
	xunchav1.PhotoService_GetPhotoUpload_FullMethodName: ofVisits(rule(officers, func(s *scope, m *xunchav1.GetPhotoUploadRequest) error {
		return s.photosOf("site_id", m.SiteId, m.CheckInId)
	})),
	xunchav1.PhotoService_DownloadPhoto_FullMethodName: onRecord(rule(readers, func(s *scope, m *xunchav1.DownloadPhotoRequest) error {
		return s.site("site_id", m.SiteId)
	}), func(m *xunchav1.DownloadPhotoRequest) accounts.Access {
		return accounts.Access{Site: sites.SiteID(lower(m.SiteId)), CheckIn: lower(m.CheckInId), Photo: hex.EncodeToString(m.Sha256)}
	}),

	xunchav1.CoverageService_GetCoverage_FullMethodName: rule(readers, func(s *scope, m *xunchav1.GetCoverageRequest) error {
		return s.division("division_code", m.DivisionCode)
	}),
	xunchav1.CoverageService_ListDueSites_FullMethodName: rule(readers, func(s *scope, m *xunchav1.ListDueSitesRequest) error {
		return s.division("division_code", m.DivisionCode)
	}),

	xunchav1.AuditService_ListSiteHistory_FullMethodName: onRecord(rule(historians, func(s *scope, m *xunchav1.ListSiteHistoryRequest) error {
		return s.site("site_id", m.SiteId)
	}), func(m *xunchav1.ListSiteHistoryRequest) accounts.Access {
		return accounts.Access{Site: sites.SiteID(lower(m.SiteId))}
	}),
	xunchav1.AuditService_ListAccesses_FullMethodName: rule(auditors, func(s *scope, m *xunchav1.ListAccessesRequest) error {
		if m.SiteId != "" {
			return sites.JoinFaults(s.site("site_id", m.SiteId), s.optionalDivision("division_code", m.DivisionCode))
		}
		return s.optionalDivision("division_code", m.DivisionCode)
	}),
	xunchav1.AuditService_ListAccountHistory_FullMethodName: rule(auditors, func(s *scope, m *xunchav1.ListAccountHistoryRequest) error {
		if m.AccountId == "" {
			return nil
		}
		return s.account(m.AccountId)
	}),

	xunchav1.AccountService_Login_FullMethodName:          {open: true},
	xunchav1.AccountService_RefreshToken_FullMethodName:   {open: true},
	xunchav1.AccountService_Logout_FullMethodName:         {roles: anyone},
	xunchav1.AccountService_ChangePassword_FullMethodName: {roles: anyone},
	xunchav1.AccountService_GetMe_FullMethodName:          {roles: anyone},
	xunchav1.AccountService_CreateAccount_FullMethodName: rule(admins, func(s *scope, m *xunchav1.CreateAccountRequest) error {
		return s.divisions("account.division_codes", m.Account.DivisionCodes)
	}),
	xunchav1.AccountService_UpdateAccount_FullMethodName: rule(admins, func(s *scope, m *xunchav1.UpdateAccountRequest) error {
		return sites.JoinFaults(s.account(m.AccountId), s.divisions("division_codes", m.DivisionCodes))
	}),
	xunchav1.AccountService_DisableAccount_FullMethodName: rule(admins, func(s *scope, m *xunchav1.DisableAccountRequest) error {
		return s.account(m.AccountId)
	}),
	xunchav1.AccountService_ResetPassword_FullMethodName: rule(admins, func(s *scope, m *xunchav1.ResetPasswordRequest) error {
		return s.account(m.AccountId)
	}),
	xunchav1.AccountService_ListAccounts_FullMethodName: {roles: admins},

	xunchav1.OperationService_GetServerStatus_FullMethodName: {roles: operators},
	xunchav1.OperationService_CheckHistories_FullMethodName: rule(operators, func(s *scope, _ *xunchav1.CheckHistoriesRequest) error {
		return s.everything()
	}),
	xunchav1.OperationService_ConfirmClock_FullMethodName: {roles: admins},
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
