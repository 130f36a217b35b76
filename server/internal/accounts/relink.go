package accounts

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"xuncha/ledger"
	"xuncha/sites"
)

// ErrSubjectTaken means that the identity provider's subject is another account's.
var ErrSubjectTaken = errors.New("the subject is another account's")

// maxIssuer is the greatest length of an issuer in characters.
const maxIssuer = 1000

// A Link says who the account with the username is for an identity provider.
type Link struct{ Username, Subject string }

// A LinkError says what is wrong with one of several links.
type LinkError struct {
	// Index is that of the link.
	Index int
	// Err is a *sites.FieldError of username or subject.
	Err error
}

// A Relinking is what is to become of one account: another subject of an identity provider
// has it, or a password.
type Relinking struct {
	// Account is the account as it was when this was planned.
	Account  *Account
	from, to subject
}

// From returns whose the account was; empty texts where it had a password.
func (r Relinking) From() (issuer, subject string) { return r.from.issuer, r.from.id }

// To returns whose the account is to be; empty texts where it is to have a password.
func (r Relinking) To() (issuer, subject string) { return r.to.issuer, r.to.id }

// Done reports whether the account was the subject's, or had a password, already.
func (r Relinking) Done() bool { return r.from == r.to }

// LinksOf returns the accounts of the issuer with their subjects, by username, the disabled
// ones too: whoever is kept out must stay so at the provider that comes next.
func (s *Service) LinksOf(issuer string) (out []Link) {
	for a := range s.After("") {
		if a.subject.issuer == issuer && a.External() {
			out = append(out, Link{a.Username, a.subject.id})
		}
	}
	return out
}

// Issuers returns how many accounts each identity provider has, by its issuer.
func (s *Service) Issuers() map[string]int {
	out := map[string]int{}
	for a := range s.After("") {
		if a.External() {
			out[a.subject.issuer]++
		}
	}
	return out
}

// PlanRelinks returns what becomes of the accounts when they are the issuer's, each under
// the link's subject, and all that is wrong with the links as accounts are now. An empty
// issuer gives the accounts passwords; the links have no subjects then.
func (s *Service) PlanRelinks(issuer string, links []Link) (out []Relinking, wrong []LinkError) {
	st := s.projection.State()
	names, subjects := map[string]bool{}, map[string]string{}
	for i, l := range links {
		r, err := st.plan(issuer, l)
		if err == nil {
			// Two rows about one account, or about one person, cannot both be right.
			if names[r.Account.Username] {
				err = sites.Invalid("username", "%s is named twice", r.Account.Username)
			} else if other, twice := subjects[r.to.id]; twice && issuer != "" {
				err = sites.Invalid("subject", "is given to %s already", other)
			}
		}
		if err != nil {
			wrong = append(wrong, LinkError{i, err})
			continue
		}
		names[r.Account.Username], subjects[r.to.id] = true, r.Account.Username
		out = append(out, r)
	}
	return out, wrong
}

// rounded matches what spreadsheets make of long numbers. A subject such as 7e12 is none.
var rounded = regexp.MustCompile(`^[0-9]([.,][0-9]+)?E\+[0-9]+$`)

// plan returns what becomes of one account.
func (st *state) plan(issuer string, l Link) (Relinking, error) {
	name, err := identityUsername(strings.TrimSpace(l.Username))
	if err != nil {
		name = l.Username // no account has it
	}
	a := st.named(name)
	switch {
	case l.Username == "":
		return Relinking{}, sites.Missing("username", "")
	case a == nil:
		return Relinking{}, &sites.FieldError{Field: "username", Err: fmt.Errorf("%w: %q", ErrUnknown, l.Username)}
	}
	r := Relinking{Account: a, from: a.subject}
	if issuer == "" {
		return r, nil
	}
	if err := sites.CheckText("subject", l.Subject, 1, MaxSubject); err != nil {
		return r, err
	}
	if rounded.MatchString(l.Subject) {
		return r, sites.Invalid("subject", "%s is a number that a spreadsheet has rounded; make the column one of text, and fill it again", l.Subject)
	}
	r.to = subject{issuer, l.Subject}
	return r, st.free(r.to, a)
}

// free returns an error where the subject is another account's than a.
func (st *state) free(s subject, a *Account) error {
	if other := st.of(s); other != nil && other.ID != a.ID {
		return &sites.FieldError{Field: "subject", Err: fmt.Errorf("%w: %s, which has to give it up first", ErrSubjectTaken, other.Username)}
	}
	return nil
}

// Relink does what PlanRelinks has planned, with the reason on record, which may be empty.
// What the account signed in with until then is worth nothing any more: the tokens of the
// subject before, or the password and the devices. All else stays, such as what it could do
// at any time, and that it is disabled. Where it was so already, that is made sure of, and
// nothing goes on record.
//
// An account that is to have a password gets a one-time password, which is returned, also
// where it had a password already; a disabled one gets none.
func (s *Service) Relink(ctx context.Context, by By, r Relinking, reason string) (oneTime string, err error) {
	ctx = ledger.WithReserve(ctx) // it is how accounts sign in
	if err := sites.CheckText("reason", reason, 0, sites.MaxReason); err != nil {
		return "", err
	}
	if err := sites.CheckText("issuer", r.to.issuer, 0, maxIssuer); err != nil {
		return "", err
	}
	id := r.Account.ID
	if r.to != (subject{}) {
		if err := s.relink(ctx, by, r, reason); err != nil {
			return "", err
		}
		if err := s.Secrets.DeleteSecret(ctx, passwordSecret(id)); err != nil {
			return "", err
		}
		s.forgetDevices(ctx, id, -1)
		return "", nil
	}
	if !r.Account.Disabled.IsZero() {
		return "", s.relink(ctx, by, r, reason)
	}
	if r.Done() {
		return s.ResetPassword(ctx, by, id)
	}
	// The password first, which nobody can sign in with while the account is a provider's.
	if oneTime, err = s.setPassword(ctx, id, "", "", s.newest); err != nil {
		return "", err
	}
	if err = s.relink(ctx, by, r, reason); err != nil && !mayBeStored(err) {
		err = errors.Join(err, s.Secrets.DeleteSecret(context.WithoutCancel(ctx), passwordSecret(id)))
	}
	return oneTime, err
}

// relink puts on record whose the account is from now on. The kind of the entry is one that
// earlier versions read: they would stop their accounts at another.
func (s *Service) relink(ctx context.Context, by By, r Relinking, reason string) error {
	_, _, err := s.change(ctx, by, KindChanged, func(st *state) (*content, error) {
		a, err := st.find(r.Account.ID)
		if err != nil || a.subject == r.to {
			return nil, err
		}
		if a.subject != r.from {
			return nil, fmt.Errorf("%w: somebody else has just moved the account %s", ledger.ErrMoved, a.Username)
		}
		if r.to != (subject{}) {
			if err := st.free(r.to, a); err != nil {
				return nil, err
			}
		}
		// The next token of the issuer says what the account may do, however old it is.
		return &content{
			AccountID: a.ID, Username: a.Username, DisplayName: a.DisplayName, Role: a.Role, Divisions: a.Divisions,
			Reason: reason, Issuer: r.to.issuer, Subject: r.to.id,
		}, nil
	})
	return err
}
