package accounts

import (
	"context"
	"errors"
	"slices"

	"xuncha/sites"
)

// ErrLastAdministrator means that a change would leave a division without an administrator
// who can sign in: nobody could appoint another one over the API.
var ErrLastAdministrator = errors.New("no other administrator who can sign in keeps all of these divisions")

// staysKept returns ErrLastAdministrator where the account old keeps a division that nobody
// keeps any more once it is as after says. Whoever keeps all of a province keeps its
// counties too, so this is about the last account at the top. It returns nil where the
// change is forced, or may not be made anyway. What an identity provider says is followed, and
// does not come here.
func (s *Service) staysKept(ctx context.Context, by By, st *state, old, after *Account, c *content) error {
	if by.Force || !s.administers(old) || by.allows(st, c) != nil {
		return nil
	}
	left := slices.Clone(old.Divisions)
	keeps := func(a *Account, code sites.DivisionCode) bool { return by.May == nil || by.May(a, code) }
	keep := func(a *Account) {
		left = slices.DeleteFunc(left, func(code sites.DivisionCode) bool { return keeps(a, code) })
	}
	if s.administers(after) {
		keep(after)
	}
	var err error
	st.byID.Scan(func(id string, a *Account) bool {
		matters := id != old.ID && s.administers(a) && slices.ContainsFunc(left, func(code sites.DivisionCode) bool { return keeps(a, code) })
		if !matters {
			return len(left) > 0
		}
		can := false
		if can, err = s.canSignIn(ctx, a); can {
			keep(a)
		}
		return err == nil && len(left) > 0
	})
	if err == nil && len(left) > 0 {
		err = &sites.FieldError{Field: "account_id", Err: ErrLastAdministrator}
	}
	return err
}

// administers reports whether the account is an administrator's whose way to sign in this
// server takes.
func (s *Service) administers(a *Account) bool {
	if a.Role != Admin || !a.Disabled.IsZero() {
		return false
	}
	if a.External() {
		return s.provider != nil && a.subject.issuer == s.provider.Issuer
	}
	return s.takesPasswords() == nil
}

// canSignIn reports whether somebody may have what it takes to sign in to the account.
func (s *Service) canSignIn(ctx context.Context, a *Account) (bool, error) {
	if a.External() {
		return true, nil
	}
	value, _, err := s.Secrets.Secret(ctx, passwordSecret(a.ID))
	if errors.Is(err, ErrNoSecret) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r, err := readPassword(value)
	return err == nil && (!r.OneTime || s.Now().Before(r.Expires)), nil
}
