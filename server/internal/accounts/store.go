package accounts

import (
	"context"
	"errors"
)

// ErrNoSecret means that nothing is stored under a secret's name.
var ErrNoSecret = errors.New("no such secret")

// Secrets are what accounts need beside their history and no history may hold:
// hashes of passwords, devices that are signed in, keys. Implementations are safe
// for concurrent use. A failure that may pass wraps ledger.ErrUnavailable or
// ledger.ErrFull.
type Secrets interface {
	// Secret returns the value under the name and its revision, or ErrNoSecret.
	Secret(ctx context.Context, name string) (value []byte, revision int64, err error)

	// PutSecret stores the value under the name at the revision after the one
	// given, in place of what is there, and returns once it would survive a power
	// cut. A revision of 0 says that nothing is there. Where the newest revision
	// is another, nothing is changed and the error is ledger.ErrMoved; so of two
	// that put after the same revision, one fails.
	PutSecret(ctx context.Context, name string, revision int64, value []byte) error

	// DeleteSecret removes what is under the name. It is no error where nothing
	// is there.
	DeleteSecret(ctx context.Context, name string) error

	// Secrets calls each with every name that begins with the prefix and its
	// value, by name in the order of bytes, and stops at the first error, which it
	// returns.
	Secrets(ctx context.Context, prefix string, each func(name string, value []byte) error) error

	// SecretsAfter returns up to n secrets whose names begin with the prefix and go on
	// behind it, by name in the order of bytes, after the name given; an empty one begins at
	// the first. If there are fewer, there are no more. Its cost is that of the secrets
	// returned.
	SecretsAfter(ctx context.Context, prefix, after string, n int) ([]Secret, error)
}

// A Secret is one of the secrets.
type Secret struct {
	Name  string
	Value []byte
}
