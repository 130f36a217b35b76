package accounts

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"xuncha/ledger"
	"xuncha/sites"
)

// A By is who changes accounts, and by which request.
type By struct {
	// Account is the name that the entry has.
	Account string
	// Request is what a repeat is known by; the zero Request for none. Its ID is enough:
	// the methods of Service make the Sum of what they are given.
	Request ledger.Request
	// May reports whether the account by, which makes the change, keeps accounts with the
	// division. It is asked for each division that the change leaves or gives, every time
	// that the change is decided, with what the account by is then; nil answers always yes.
	// It is asked of other administrators too, for the last one is not to go.
	May func(by *Account, code sites.DivisionCode) bool
	// Force makes a change also where it leaves a division without an administrator. A
	// repeat is not compared by it: it says nothing of what is changed.
	Force bool
	// KeepsLost reports whether the account by keeps accounts with the division although
	// May does not say so, because the division is none that anybody may be given; nil
	// answers always no.
	KeepsLost func(by *Account, code sites.DivisionCode) bool
}

// keeps returns nil where the change may be made of an account that has the divisions.
func (b By) keeps(st *state, a *Account) error {
	if b.May == nil {
		return nil
	}
	by := st.named(b.Account)
	if by == nil || slices.ContainsFunc(a.Divisions, func(code sites.DivisionCode) bool {
		return !b.May(by, code) && (b.KeepsLost == nil || !b.KeepsLost(by, code))
	}) {
		return &sites.FieldError{Field: "account_id", Err: ErrUnknown}
	}
	return nil
}

// gives returns nil where the change may give an account the divisions.
func (b By) gives(st *state, codes []sites.DivisionCode) error {
	if b.May == nil {
		return nil
	}
	var f sites.Faults
	by := st.named(b.Account)
	for i, code := range codes {
		if by == nil || !b.May(by, code) {
			f.Add(fmt.Sprintf("division_codes[%d]", i), fmt.Errorf("division %s: %w", code, sites.ErrDivisionUnknown))
		}
	}
	return f.Err()
}

// allows returns nil where the change may be made.
func (b By) allows(st *state, c *content) error {
	old, err := st.find(c.AccountID)
	if err != nil { // it is made just now
		return b.gives(st, c.Divisions)
	}
	if err := b.keeps(st, old); err != nil {
		return err // and nothing of the divisions that it has
	}
	return b.gives(st, c.Divisions)
}

// saying returns b with the digest of what its request says: the method, and what texts adds,
// which is never a password.
func (b By) saying(method string, texts func(*ledger.Digester)) By {
	b.Request = b.Request.Saying(method, texts)
	return b
}

// addCodes adds the codes of divisions in their shortest form.
func addCodes(d *ledger.Digester, codes []sites.DivisionCode) {
	for _, c := range codes {
		d.Add(string(c.Shortest()))
	}
}

// errRequest is the error of a request whose id was used for another one.
func errRequest(err error) error { return &sites.FieldError{Field: "request_id", Err: err} }

// repeated returns the entry that the request has made before, or nil.
func (s *Service) repeated(ctx context.Context, by By) (*ledger.Entry, error) {
	e, err := s.projection.Repeated(ctx, by.Request, by.Account)
	if errors.Is(err, ledger.ErrRequestConflict) {
		err = errRequest(err)
	}
	return e, err
}

// accountAfter returns the account as it was after the entry that a request has made
// before.
func (s *Service) accountAfter(ctx context.Context, e *ledger.Entry) (*Account, error) {
	var c content
	if err := readContent(*e, &c); err != nil {
		return nil, err
	}
	// Another server may have made it just now.
	if err := s.projection.Refresh(ctx); err != nil {
		return nil, err
	}
	a, err := s.Get(c.AccountID)
	if err != nil || a.shown <= e.Sequence {
		return a, err
	}
	st, err := s.projection.Replay(ctx, new(state), 0, e.Sequence)
	if err != nil {
		return nil, err
	}
	return st.find(c.AccountID)
}

// createdBefore answers a request for an account that has made it before. To whoever does
// not keep the account any more, its username is taken: a password for it is not theirs.
func (s *Service) createdBefore(ctx context.Context, by By, e *ledger.Entry, own string) (_ *Account, oneTime string, err error) {
	a, err := s.accountAfter(ctx, e)
	if err != nil {
		return nil, "", err
	}
	st := s.projection.State()
	if now, err := st.find(a.ID); err != nil {
		return nil, "", err
	} else if by.keeps(st, now) != nil {
		return nil, "", &sites.FieldError{Field: "username", Err: ErrUsernameTaken}
	}
	oneTime, err = s.passwordAgain(ctx, a.ID, e.ID, own)
	return a, oneTime, err
}

// resetBefore answers a request for a new password that has made one before.
func (s *Service) resetBefore(ctx context.Context, e *ledger.Entry) (oneTime string, err error) {
	a, err := s.accountAfter(ctx, e)
	if err != nil {
		return "", err
	}
	return s.passwordAgain(ctx, a.ID, e.ID, "")
}

// passwordAgain gives the account a new one-time password in place of the one that the
// request has given it. It gives none where that was used or replaced, or the account is
// disabled. Nobody can tell the first one any more, since only its hash is stored.
//
// Where the request has a password of its own, which own is, it is compared with the one
// that is stored, as long as that is the request's.
func (s *Service) passwordAgain(ctx context.Context, account, request, own string) (oneTime string, err error) {
	if err := s.Altered(); err != nil {
		return "", err
	}
	name := passwordSecret(account)
	var value []byte
	for {
		a, err := s.Get(account)
		if err != nil || !a.Disabled.IsZero() {
			return "", err
		}
		stored, revision, err := s.Secrets.Secret(ctx, name)
		if errors.Is(err, ErrNoSecret) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		record, err := readPassword(stored)
		if err != nil {
			s.damaged(name)
			return "", err
		}
		if record.Request != request {
			return "", nil
		}
		if !record.OneTime {
			return "", s.sameOwn(ctx, account, record, own)
		}
		if value == nil {
			if value, oneTime, err = s.hashed(ctx, account, "", request); err != nil {
				return "", err
			}
		}
		// Whoever signs in with the first one meanwhile puts after the same revision, and
		// one of the two fails.
		if err = s.Secrets.PutSecret(ctx, name, revision, value); err == nil {
			return oneTime, nil
		}
		if !errors.Is(err, ledger.ErrMoved) {
			return "", err
		}
	}
}

// sameOwn returns an error where the password of a repeat is another than the first one.
func (s *Service) sameOwn(ctx context.Context, account string, record passwordRecord, own string) (err error) {
	same := false
	if hashed := s.hashing(ctx, turn{known, account}, func() { same, err = s.matches(record.Hash, own) }); hashed != nil {
		return hashed
	}
	if err == nil && !same {
		err = errRequest(ledger.ErrRequestConflict)
	}
	return err
}
