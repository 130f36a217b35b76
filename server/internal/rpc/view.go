package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/inspections"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

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
