package rpc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"xuncha/ledger"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// A scope is what a caller can see: what lies within the divisions of its
// account.
type scope struct {
	ctx context.Context // the call's
	// caller is nil on a server without accounts, which asks nobody. token is what it calls
	// with.
	caller *accounts.Caller
	token  string
	config *Config
	// rosterAt and now are those of the call's start, or of the last message of a stream.
	rosterAt  *sites.Roster
	now       time.Time
	questions *questions
	// watch looks after a call with a stream; nil for others.
	watch *watch
	// spent is what the call has cost so far; see spend.
	spent atomic.Int64
}

type scopeKey struct{}

// scopeOf returns that of the call.
func scopeOf(ctx context.Context) *scope { return ctx.Value(scopeKey{}).(*scope) }

// account is the name that records have of the caller.
func account(ctx context.Context) string {
	if s := scopeOf(ctx); s.caller != nil {
		return s.caller.Account.Username
	}
	return Account
}

// by returns who makes a change of the roster. What the account may do is looked up anew
// for every question: a call may last, and be decided long after it began.
func by(ctx context.Context) sites.By {
	s, out := scopeOf(ctx), sites.By{Account: account(ctx)}
	if s.all() {
		return out
	}
	asked, changed := s.caller.Account, false
	now := func() *accounts.Account {
		a, err := s.config.Accounts.Get(s.caller.Account.ID)
		if err != nil || !a.Disabled.IsZero() || a.Role != accounts.Admin {
			a = nobody
		}
		changed = changed || a != asked && (a.Role != asked.Role || !slices.Equal(a.Divisions, asked.Divisions))
		asked = a
		return a
	}
	out.May = func(r *sites.Roster, code sites.DivisionCode, at time.Time) bool {
		return lies(r, code, now().Divisions, at)
	}
	out.Still = func() error {
		if now(); !changed {
			return nil
		}
		changed = false
		return fmt.Errorf("the caller's account: %w", ledger.ErrMoved)
	}
	return out
}

// nobody is an account that may do nothing.
var nobody = new(accounts.Account)

// requestBy returns who makes a change of the roster, by the request with the id.
func requestBy(ctx context.Context, m requested) sites.By {
	b := by(ctx)
	b.Request = request(m)
	return b
}

// A requested message may have the id of a request that its caller may repeat.
type requested interface{ GetRequestId() string }

// request returns what the repeat of a request is known by.
func request(m requested) ledger.Request { return ledger.Request{ID: lower(m.GetRequestId())} }

// all reports whether the caller sees everything.
func (s *scope) all() bool { return s.caller == nil }

// seesDivision reports whether the division is one of the caller's, or below
// one, by the hierarchy of today. One that has ended lies where it last did.
func (s *scope) seesDivision(code sites.DivisionCode) bool {
	return s.all() || lies(s.rosterAt, code, s.caller.Account.Divisions, s.now)
}

// lies reports whether the division is one of the others, or below one, by the roster's
// hierarchy of the time. A division that nobody knows yet is only itself, and one that was
// taken back lies where it lay last.
func lies(r *sites.Roster, code sites.DivisionCode, in []sites.DivisionCode, at time.Time) bool {
	return slices.Contains(in, code) || r.WithinAny(code, in, at)
}

func (s *scope) seesSite(site *sites.Site) bool {
	return s.seesDivision(site.PlaceAt(s.now).Division)
}

// seesSiteNamed reports whether the caller can see the site with the id.
func (s *scope) seesSiteNamed(id sites.SiteID) bool {
	if s.all() {
		return true
	}
	site, err := s.rosterAt.SiteEver(id)
	return err == nil && s.seesSite(site)
}

// seesOrder reports whether the order closes sites that the caller can see.
func (s *scope) seesOrder(o *sites.ClosureOrder) bool {
	return s.all() || slices.ContainsFunc(o.Divisions, func(code sites.DivisionCode) bool {
		return s.seesDivision(code) || slices.ContainsFunc(s.caller.Account.Divisions, func(own sites.DivisionCode) bool {
			return s.rosterAt.Within(own, code, s.now)
		})
	})
}

// seesAccount reports whether the account is one that an administrator with the
// caller's divisions keeps: all that it may do lies in them. One with a division that the
// roster does not know lies nowhere, and whoever is responsible for all divisions keeps it.
func (s *scope) seesAccount(a *accounts.Account) bool {
	return !slices.ContainsFunc(a.Divisions, func(code sites.DivisionCode) bool {
		return !s.seesDivision(code) && !keepsLost(s.rosterAt, code, s.caller.Account.Divisions, s.now)
	})
}

// keepsLost reports whether the division is one that the roster does not know, and the
// others are all that it knows.
func keepsLost(r *sites.Roster, code sites.DivisionCode, in []sites.DivisionCode, at time.Time) bool {
	return r.HasDivisions() && !r.Knows(code) && whole(r, in, at)
}

// whole reports whether all divisions that there are lie in those that are given.
func whole(r *sites.Roster, in []sites.DivisionCode, at time.Time) bool {
	for d := range r.ChildrenAfter("", "", at) {
		if !lies(r, d.Code, in, at) {
			return false
		}
	}
	return true
}

// divisionOf returns the division in which lies what was looked at, today.
func (s *scope) divisionOf(a *accounts.RecordedAccess) sites.DivisionCode {
	if site, err := s.rosterAt.SiteEver(a.Site); err == nil {
		return site.PlaceAt(s.now).Division
	}
	return a.Division
}

// tops returns the caller's divisions as they are at t: where lists begin.
func (s *scope) tops(r *sites.Roster, t time.Time) (out []sites.Division) {
	for _, code := range slices.Sorted(slices.Values(s.caller.Account.Divisions)) {
		if d, err := r.Division(code, t); err == nil {
			out = append(out, d)
		}
	}
	return out
}

// listed returns the divisions whose sites are to be gone through for a list of those
// in the division that the caller can see; none means all sites.
func (s *scope) listed(code sites.DivisionCode) []sites.DivisionCode {
	switch {
	case code != "":
		return []sites.DivisionCode{code}
	case s.all():
		return nil
	}
	return s.caller.Account.Divisions
}

func (s *scope) division(field, code string) error {
	if s.seesDivision(sites.DivisionCode(code)) {
		return nil
	}
	return noDivision(field, sites.DivisionCode(code))
}

func noDivision(field string, code sites.DivisionCode) error {
	return &sites.FieldError{Field: field, Err: fmt.Errorf("division %s: %w", code, sites.ErrDivisionUnknown)}
}

func (s *scope) optionalDivision(field, code string) error {
	if code == "" {
		return nil
	}
	return s.division(field, code)
}

func (s *scope) divisions(field string, codes []string) error {
	var f sites.Faults
	for i, code := range codes {
		if !s.seesDivision(sites.DivisionCode(code)) {
			f.Join(noDivision(fmt.Sprintf("%s[%d]", field, i), sites.DivisionCode(code)))
		}
	}
	return f.Err()
}

func (s *scope) site(field, id string) error {
	if s.all() {
		return nil
	}
	if site, err := s.rosterAt.SiteEver(sites.SiteID(lower(id))); err == nil && s.seesSite(site) {
		return nil
	}
	return noSite(field, id)
}

// noSite is the error for a site that does not exist, or that the caller cannot see.
func noSite(field, id string) error {
	return &sites.FieldError{Field: field, Err: fmt.Errorf("site %s: %w", lower(id), sites.ErrSiteUnknown)} // as Roster.Site says it
}

// sure returns the refusal of what a phone brings, or, where the history that it rests on
// does not verify, an error that says so: the phone's account or its site may be among
// what is not read any more.
func (s *scope) sure(refused error) error {
	if refused == nil {
		return nil
	}
	return cmp.Or(s.config.Altered.Of(ledger.Roster), s.config.Altered.Of(ledger.Accounts), refused)
}

// everything lets callers through who are responsible for all divisions that there are.
func (s *scope) everything() error {
	if s.all() || whole(s.rosterAt, s.caller.Account.Divisions, s.now) {
		return nil
	}
	return errNotWhole
}

func (s *scope) order(id string) error {
	return s.orderIf(id, s.seesOrder)
}

// wholeOrder lets an order through all of whose divisions are the caller's.
func (s *scope) wholeOrder(id string) error {
	return s.orderIf(id, func(o *sites.ClosureOrder) bool {
		return !slices.ContainsFunc(o.Divisions, func(code sites.DivisionCode) bool { return !s.seesDivision(code) })
	})
}

// orderIf lets an order through that seen reports to be the caller's, also one that was
// taken back: a repeat may be about it, and the domain tells nothing else of it.
func (s *scope) orderIf(id string, seen func(*sites.ClosureOrder) bool) error {
	if s.all() {
		return nil
	}
	o, _, err := s.rosterAt.OrderEver(sites.OrderID(lower(id)))
	if err == nil && seen(o) {
		return nil
	}
	return &sites.FieldError{Field: "closure_order_id", Err: fmt.Errorf("closure order %s: %w", lower(id), sites.ErrOrderUnknown)}
}

func (s *scope) account(id string) error {
	if s.all() {
		return nil
	}
	a, err := s.config.Accounts.Get(lower(id))
	if err != nil || !s.seesAccount(a) {
		return &sites.FieldError{Field: "account_id", Err: accounts.ErrUnknown}
	}
	return nil
}
