// Package accounts knows who may use the server: accounts with their roles and
// divisions, the passwords and devices with which people sign in, and the tokens
// that their calls carry.
//
// Accounts change only by entries of a history of their own, "accounts", which
// is chained like the others and never holds a secret. What is secret stands
// beside it, in the store's secrets: hashes of passwords, hashes of refresh
// tokens, and the keys that sign access tokens.
package accounts

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

var (
	// ErrUnknown means that there is no such account.
	ErrUnknown = errors.New("there is no such account")
	// ErrUsernameTaken means that another account has the username, or had it.
	ErrUsernameTaken = errors.New("the username is taken")
	// ErrDisabled means that the account is disabled.
	ErrDisabled = errors.New("the account is disabled")
	// ErrWeakPassword means that a new password is too short, too long, the
	// username or the old password, or a common one.
	ErrWeakPassword = errors.New("this password cannot be used")
	// ErrSignIn means that a username and a password do not sign anyone in. It
	// does not say why.
	ErrSignIn = errors.New("the username or the password is wrong")
	// ErrPasswordChange means that a one-time password is right, and that a new
	// password has to be given with it.
	ErrPasswordChange = errors.New("a one-time password needs a new password with it")
	// ErrToken means that a token was not given by this server, has expired, or
	// is of a device or an account that is signed out.
	ErrToken = errors.New("the token is not valid")
)

// A Role is what an account may do.
type Role string

// The roles. Each is bound to divisions and everything below them.
const (
	// Officer submits check-ins.
	Officer Role = "officer"
	// Head asks for coverage.
	Head Role = "head"
	// Auditor reads histories.
	Auditor Role = "auditor"
	// Admin keeps the roster, the closure orders and the accounts.
	Admin Role = "admin"
)

// Roles are all roles.
var Roles = []Role{Officer, Head, Auditor, Admin}

// An Account is one person's. Its username never changes and is never given to
// another, because records name it.
type Account struct {
	ID          string
	Username    string
	DisplayName string
	Role        Role
	Divisions   []sites.DivisionCode
	Created     time.Time
	// Disabled is when the account was disabled; zero while it is not.
	Disabled time.Time

	// subject is who it is for the identity provider that keeps the account, and
	// asOf when the token was issued that says what is above. Both are zero where
	// there is none.
	subject subject
	asOf    time.Time

	// generation is raised by each change of the password. Tokens and devices
	// of an earlier one are signed out.
	generation int64

	// past is what it could do before its last change; nil where that was always the same.
	past *past
	// shown is the entry that last changed what is above.
	shown ledger.Sequence
}

const (
	// MaxUsername is the greatest length of a username in characters. The least
	// is 2.
	MaxUsername = 32
	// MaxDisplayName is the greatest length of a display name in characters.
	MaxDisplayName = 64
	// MaxDivisions is how many divisions one account can be bound to.
	MaxDivisions = 200
)

// usernames are in lower case, so that two never differ in case alone.
var usernames = regexp.MustCompile(fmt.Sprintf(`^[a-z0-9][a-z0-9._-]{1,%d}$`, MaxUsername-1))

// reserved are the names that records have of those who have no account.
var reserved = map[string]string{
	"local":     "whoever calls a server without accounts",
	"operator":  "whoever changes the store itself",
	byProvider:  "the identity provider",
	"retention": "the server itself, where it stores and deletes photos",
}

// shortest returns the codes of an account's divisions in their shortest form. A
// code need not be in the division table yet.
func shortest(codes []sites.DivisionCode) []sites.DivisionCode {
	out := make([]sites.DivisionCode, len(codes))
	for i, c := range codes {
		out[i] = c.Shortest()
	}
	return out
}

// check returns all that is wrong with the account in itself: a *sites.FieldError or
// sites.FieldErrors.
func (a *Account) check() error {
	var f sites.Faults
	switch {
	case a.Username == "":
		f.Join(sites.Missing("username", ""))
	case !usernames.MatchString(a.Username):
		f.Join(sites.Invalid("username", "must have 2 to %d of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit", MaxUsername))
	case reserved[a.Username] != "":
		f.Join(sites.Invalid("username", "cannot be %s, which stands for %s", a.Username, reserved[a.Username]))
	}
	f.Join(checkDisplayName(a.DisplayName))
	f.Join(checkRole(a.Role))
	f.Join(checkDivisions(a.Divisions))
	return f.Err()
}

func checkDisplayName(name string) error {
	return sites.CheckText("display_name", name, 0, MaxDisplayName)
}

func checkRole(role Role) error {
	switch {
	case role == "":
		return sites.Missing("role", ": it is officer, head, auditor or admin")
	case !slices.Contains(Roles, role):
		return sites.Invalid("role", "must be officer, head, auditor or admin")
	}
	return nil
}

func checkDivisions(codes []sites.DivisionCode) error {
	switch n := len(codes); {
	case n == 0:
		return sites.Missing("division_codes", fmt.Sprintf(": an account is bound to 1 to %d divisions", MaxDivisions))
	case n > MaxDivisions:
		return sites.TooLong("division_codes", n, MaxDivisions, sites.Items)
	}
	var f sites.Faults
	for i, c := range codes {
		name := fmt.Sprintf("division_codes[%d]", i)
		if _, err := sites.ParseDivisionCode(string(c)); err != nil {
			f.Add(name, err)
		} else if slices.Contains(codes[:i], c) {
			f.Join(sites.Invalid(name, "%s is named twice", c))
		}
	}
	return f.Err()
}

// Check returns all that is wrong with the account that is to be created, as accounts are
// now.
func (s *Service) Check(n NewAccount) error { return s.checkNew(s.projection.State(), n) }

func (s *Service) checkNew(st *state, n NewAccount) error {
	a := Account{Username: n.Username, DisplayName: n.DisplayName, Role: n.Role, Divisions: shortest(n.Divisions)}
	var f sites.Faults
	f.Join(a.check())
	f.Join(taken(st, &a))
	if n.Password != "" {
		f.Join(CheckPassword("password", n.Password, n.Username))
	}
	return f.Err()
}

// taken returns what is wrong with a new account for the sake of those that there are.
func taken(st *state, a *Account) error {
	var f sites.Faults
	if st.named(a.Username) != nil {
		f.Add("username", ErrUsernameTaken)
	}
	if st.byID.Len() == 0 && a.Role != Admin {
		f.Join(sites.Invalid("role", "must be admin: the first account is an administrator's, who creates the others"))
	}
	return f.Err()
}

// Check returns all that is wrong with the change in itself.
func (c Change) Check() error {
	var f sites.Faults
	if c.DisplayName != nil {
		f.Join(checkDisplayName(*c.DisplayName))
	}
	if c.Role != nil {
		f.Join(checkRole(*c.Role))
	}
	if c.Divisions != nil {
		f.Join(checkDivisions(shortest(c.Divisions)))
	}
	return f.Err()
}
