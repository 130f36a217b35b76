package accounts

import (
	"context"
	"iter"
	"slices"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

// A past is what an account could do until it was changed.
type past struct {
	role      Role
	divisions []sites.DivisionCode
	// until is the first moment at which it could do something else, and known when that
	// was known here.
	until, known time.Time
	// before is what it could do before that; nil for the first.
	before *past
}

// At returns the role and the divisions that the account had at t. They begin with the
// entry that gives them, and of an account that an identity provider keeps with the token
// that says them, where that is older. Before the account was there it counts as having
// had what it was created with: a phone may bring visits that are older than the accounts,
// or than the account that replaces a lost one.
func (a *Account) At(t time.Time) (Role, []sites.DivisionCode) {
	return a.at(t, func(p *past) time.Time { return p.until })
}

// KnownAt returns the role and the divisions that the account had at t as it was known
// then: those of At, unless an identity provider had said others that came later.
func (a *Account) KnownAt(t time.Time) (Role, []sites.DivisionCode) {
	return a.at(t, func(p *past) time.Time { return p.known })
}

func (a *Account) at(t time.Time, until func(*past) time.Time) (Role, []sites.DivisionCode) {
	role, divisions := a.Role, a.Divisions
	for p := a.past; p != nil && t.Before(until(p)); p = p.before {
		role, divisions = p.role, p.divisions
	}
	return role, divisions
}

// Ever gives each role that the account has or had, with the divisions, newest first.
func (a *Account) Ever() iter.Seq2[Role, []sites.DivisionCode] {
	return func(yield func(Role, []sites.DivisionCode) bool) {
		more := yield(a.Role, a.Divisions)
		for p := a.past; p != nil && more; p = p.before {
			more = yield(p.role, p.divisions)
		}
	}
}

// Had reports whether the account has, or ever had, one of the roles.
func (a *Account) Had(roles []Role) bool {
	for role := range a.Ever() {
		if slices.Contains(roles, role) {
			return true
		}
	}
	return false
}

// remember keeps what the account could do until now, where it can do something else
// from then on, as is known since the other time.
func (a *Account) remember(old *Account, from, known time.Time) {
	if a.Role != old.Role || !slices.Equal(a.Divisions, old.Divisions) {
		a.past = &past{old.Role, old.Divisions, from, known, old.past}
	}
}

// Known returns the accounts as they were known at t, by username, the disabled ones too.
func (s *Service) Known(ctx context.Context, t time.Time) (iter.Seq[*Account], error) {
	st := s.projection.State()
	if !st.changed.After(t) {
		return st.after(""), nil
	}
	var until ledger.Sequence
	for before := ledger.Sequence(0); ; {
		page, err := s.Ledger.Newest(ctx, ledger.Accounts, before, searchPage)
		if err != nil {
			return nil, err
		}
		// The times of a history never run backwards.
		i := slices.IndexFunc(page, func(e ledger.Entry) bool { return !e.Time.After(t) })
		if i >= 0 {
			until = page[i].Sequence
		}
		if i >= 0 || len(page) < searchPage {
			break
		}
		before = page[len(page)-1].Sequence
	}
	st, err := s.projection.Replay(ctx, new(state), 0, until)
	if err != nil {
		return nil, err
	}
	return st.after(""), nil
}

// searchPage is how many entries are read at once to find one by its time.
const searchPage = 500
