package accounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"xuncha/ledger"
)

// ErrOtherSecret means that a server has changed a secret in the target of a copy.
var ErrOtherSecret = errors.New("a server has changed a secret in the target, so copy to an empty store instead")

// copied is the revision that a secret has which a copy has stored. A server that
// changes a secret gives it a greater one.
const copied = 1

// sums returns the names of all secrets and the hash of each.
func sums(ctx context.Context, s Secrets) (map[string][sha256.Size]byte, error) {
	out := map[string][sha256.Size]byte{}
	err := s.Secrets(ctx, "", func(name string, value []byte) error {
		out[name] = sha256.Sum256(value)
		return nil
	})
	return out, err
}

// CopySecrets gives one store the secrets of another. What an earlier copy has brought
// there and has changed since becomes what it is now, and what is gone goes: whoever has
// signed out must stay signed out. Where a server has changed a secret in the target, the
// error is ErrOtherSecret and names it.
func CopySecrets(ctx context.Context, from, to Secrets) error {
	there, err := sums(ctx, to)
	if err != nil {
		return err
	}
	err = from.Secrets(ctx, "", func(name string, value []byte) error {
		sum, found := there[name]
		delete(there, name)
		if found && sum == sha256.Sum256(value) {
			return nil
		}
		if found {
			if err := drop(ctx, to, name); err != nil {
				return err
			}
		}
		err := to.PutSecret(ctx, name, copied-1, value)
		if errors.Is(err, ledger.ErrMoved) {
			return fmt.Errorf("%w: %s: %w", ErrOtherSecret, name, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	for name := range there {
		if err := drop(ctx, to, name); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a secret that an earlier copy has stored.
func drop(ctx context.Context, to Secrets, name string) error {
	_, revision, err := to.Secret(ctx, name)
	if errors.Is(err, ErrNoSecret) {
		return nil
	}
	if err == nil && revision != copied {
		err = fmt.Errorf("%w: %s", ErrOtherSecret, name)
	}
	if err != nil {
		return err
	}
	return to.DeleteSecret(ctx, name)
}

// DifferentSecrets returns how many secrets one of two stores has and the other has not,
// or has another one.
func DifferentSecrets(ctx context.Context, from, to Secrets) (n int, err error) {
	there, err := sums(ctx, to)
	if err != nil {
		return 0, err
	}
	err = from.Secrets(ctx, "", func(name string, value []byte) error {
		if sum, found := there[name]; !found || sum != sha256.Sum256(value) {
			n++
		}
		delete(there, name)
		return nil
	})
	return n + len(there), err
}
