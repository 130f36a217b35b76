package accounts

import (
	"context"
	"errors"

	"xuncha/ledger"
	"xuncha/sites"
)

// ResetPassword gives an account a one-time password and signs out all of its
// devices. A repeat of the request returns another one, and the first is void; where that
// was used or replaced, it returns none.
func (s *Service) ResetPassword(ctx context.Context, by By, id string) (oneTime string, err error) {
	ctx = ledger.WithReserve(ctx)
	by = by.saying("ResetPassword", func(d *ledger.Digester) { d.Add(id) })
	var value []byte
	for {
		// First it is seen what is stored, and then whether this is a repeat. So it voids
		// nothing where the same request comes to another server meanwhile, and its password
		// is used.
		revision, err := s.newest(ctx, passwordSecret(id))
		if err != nil {
			return "", err
		}
		if again, err := s.repeated(ctx, by); err != nil {
			return "", err
		} else if again != nil {
			return s.resetBefore(ctx, again)
		}
		if err := s.canReset(by, id); err != nil {
			return "", err
		}
		if value == nil {
			if value, oneTime, err = s.hashed(ctx, id, "", by.Request.ID); err != nil {
				return "", err
			}
			// Which took a while, and the first one is void from here on.
			if err := s.canReset(by, id); err != nil {
				return "", err
			}
		}
		if err = s.Secrets.PutSecret(ctx, passwordSecret(id), revision, value); err == nil {
			break
		}
		if !errors.Is(err, ledger.ErrMoved) {
			return "", err
		}
	}
	again, err := s.newGeneration(ctx, by, id, KindPasswordReset)
	if err != nil {
		return "", err
	}
	if again != nil {
		return s.resetBefore(ctx, again)
	}
	return oneTime, nil
}

// canReset returns why the account's password cannot be reset.
func (s *Service) canReset(by By, id string) error {
	st := s.projection.State()
	a, err := st.find(id)
	switch {
	case err != nil:
		return err
	case !a.Disabled.IsZero():
		return &sites.FieldError{Field: "account_id", Err: ErrDisabled}
	case a.External():
		return &sites.FieldError{Field: "account_id", Err: ErrKeptElsewhere}
	}
	return by.keeps(st, a)
}

// newGeneration signs out all of an account's devices. Where the request has done so
// before, again is its entry.
func (s *Service) newGeneration(ctx context.Context, by By, id string, kind ledger.Kind) (again *ledger.Entry, err error) {
	_, again, err = s.change(ctx, by, kind, func(st *state) (*content, error) {
		a, err := st.find(id)
		if err == nil && a.External() {
			err = &sites.FieldError{Field: "account_id", Err: ErrKeptElsewhere} // since just now
		}
		if err != nil {
			return nil, err
		}
		return &content{AccountID: id, Username: a.Username}, nil
	})
	if err != nil || again != nil {
		return again, err
	}
	if a, err := s.Get(id); err == nil {
		s.forgetDevices(ctx, id, a.generation)
	}
	return nil, nil
}
