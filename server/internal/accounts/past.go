package accounts

import (
	"slices"
	"time"

	"xuncha/sites"
)

// A past is what an account could do until it was changed.
type past struct {
	role      Role
	divisions []sites.DivisionCode
	// until is the first moment at which it could do something else.
	until time.Time
	// before is what it could do before that; nil for the first.
	before *past
}

// At returns the role and the divisions that the account had at t. They begin with the
// entry that gives them, and of an account that an identity provider keeps with the token
// that says them, where that is older. Before the account was there it counts as having
// had what it was created with: a phone may bring visits that are older than the accounts,
// or than the account that replaces a lost one.
func (a *Account) At(t time.Time) (Role, []sites.DivisionCode) {
	role, divisions := a.Role, a.Divisions
	for p := a.past; p != nil && t.Before(p.until); p = p.before {
		role, divisions = p.role, p.divisions
	}
	return role, divisions
}

// Had reports whether the account has, or ever had, one of the roles.
func (a *Account) Had(roles []Role) bool {
	if slices.Contains(roles, a.Role) {
		return true
	}
	for p := a.past; p != nil; p = p.before {
		if slices.Contains(roles, p.role) {
			return true
		}
	}
	return false
}

// remember keeps what the account could do until now, where it can do something else
// from then on.
func (a *Account) remember(old *Account, from time.Time) {
	if a.Role != old.Role || !slices.Equal(a.Divisions, old.Divisions) {
		a.past = &past{old.Role, old.Divisions, from, old.past}
	}
}
