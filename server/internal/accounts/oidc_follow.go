package accounts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

// verifyIdentity returns who a call with a token of the provider comes from.
func (s *Service) verifyIdentity(ctx context.Context, token string, sum tokenSum) (Caller, error) {
	id, known := s.identities.Get(sum)
	if !known || !s.provider.still(id) {
		var err error
		if id, err = s.provider.verify(ctx, token); err != nil {
			return Caller{}, err
		}
		s.identities.Add(sum, id)
	}
	if err := s.provider.holds(id.span); err != nil {
		return Caller{}, err
	}
	a := s.projection.State().of(subject{s.provider.Issuer, id.subject})
	if a == nil || id.follows(a, s.Now()) {
		divisions, err := s.rostered(id)
		if err != nil {
			return Caller{}, err
		}
		if a == nil || id.differs(a, divisions) {
			if a, err = s.follow(ctx, id, divisions); err != nil {
				return Caller{}, err
			}
		}
	}
	if !a.Disabled.IsZero() {
		return Caller{}, fmt.Errorf("%w: its account is disabled", ErrToken)
	}
	return Caller{Account: a, expires: id.span.expires}, nil
}

// follows reports whether the account goes by the token, which is newer than what is known
// of it. One that was given by a clock that is ahead is not yet: the account would be
// pinned to it until the others have caught up.
func (id *identity) follows(a *Account, now time.Time) bool {
	return a.Disabled.IsZero() && id.span.issued.After(a.asOf) && !id.span.issued.After(now)
}

// differs reports whether the token says something else than what is known of the account.
func (id *identity) differs(a *Account, divisions []sites.DivisionCode) bool {
	return id.role != a.Role || id.displayName != "" && id.displayName != a.DisplayName || !slices.Equal(divisions, a.Divisions)
}

// follow creates the identity's account with the divisions, or changes it to what the
// token says.
func (s *Service) follow(ctx context.Context, id *identity, divisions []sites.DivisionCode) (*Account, error) {
	key := subject{s.provider.Issuer, id.subject}
	kind := KindChanged
	if s.projection.State().of(key) == nil {
		kind = KindCreated
	}
	// It is how these accounts sign in.
	_, _, err := s.change(ledger.WithReserve(ctx), By{Account: byProvider}, kind, func(st *state) (*content, error) {
		c := &content{
			Username: id.username, DisplayName: id.displayName, Role: id.role, Divisions: divisions,
			Issuer: s.provider.Issuer, Subject: id.subject, TokenTime: id.span.issued.UTC(),
		}
		a := st.of(key)
		switch {
		case a == nil && st.left(key):
			// Whose it is now, and whether it is disabled, somebody has decided.
			return nil, fmt.Errorf("%w: its account was moved to another identity provider, or has a password", ErrToken)
		case a == nil && kind == KindCreated:
			// Another account with the name may be another person.
			if st.named(id.username) != nil {
				return nil, &sites.FieldError{Field: "claims." + s.provider.UsernameClaim, Err: fmt.Errorf("%w: %w", ErrIdentity, ErrUsernameTaken)}
			}
			c.AccountID = s.NewID()
			return c, nil
		case a == nil || kind == KindCreated || !id.follows(a, s.Now()) || !id.differs(a, divisions):
			return nil, nil // another call was quicker
		}
		// The name in records stays, whatever it has become elsewhere.
		c.AccountID, c.Username = a.ID, a.Username
		if c.DisplayName == "" {
			c.DisplayName = a.DisplayName
		}
		return c, nil
	})
	if errors.Is(err, ErrUsernameTaken) && s.UsernameTaken != nil {
		s.UsernameTaken(id.username, key.issuer, key.id)
	}
	if err != nil {
		return nil, err
	}
	a := s.projection.State().of(key)
	if a == nil {
		return nil, ledger.ErrMoved
	}
	return a, nil
}
