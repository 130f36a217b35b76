package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"xuncha/ledger"
)

// A device that was signed in shows it by any refresh token that it has had, also one that
// was spent or has expired: what the device's refresh tokens have in common is made of the
// account and the device with a key of the store. So nothing has to be kept of devices that
// are signed out, and nobody else can make such a token.

// proofSecret is the name of that key among the store's secrets.
const proofSecret = "device-key"

// A proofKey is what is stored of it.
type proofKey struct {
	Seed    []byte    `json:"seed"`
	Created time.Time `json:"created"`

	revision int64
}

// parseProofKey reads what is stored of the key.
func parseProofKey(value []byte) (*proofKey, error) {
	k := new(proofKey)
	if json.Unmarshal(value, k) != nil || len(k.Seed) != sha256.Size {
		return nil, fmt.Errorf("%w: the key of devices cannot be read", ledger.ErrDamaged) // and the error may quote it
	}
	return k, nil
}

// readProofKey takes over the key that is stored, if there is one. One that cannot be read
// keeps nobody from signing in: devices then show nothing until it is replaced.
func (s *Service) readProofKey(ctx context.Context) error {
	value, revision, err := s.Secrets.Secret(ctx, proofSecret)
	if errors.Is(err, ErrNoSecret) {
		s.proof.Store(nil)
		return nil
	}
	if err != nil && !errors.Is(err, ledger.ErrDamaged) {
		return err
	}
	k, unread := parseProofKey(value)
	if err != nil || unread != nil {
		if old := s.proof.Swap(&proofKey{revision: revision}); old == nil || old.revision != revision {
			s.damaged(proofSecret)
		}
		return nil
	}
	k.revision = revision
	s.proof.Store(k)
	return nil
}

// newProofKey stores a key after the revision.
func (s *Service) newProofKey(ctx context.Context, revision int64) error {
	k := &proofKey{Seed: make([]byte, sha256.Size), Created: s.Now(), revision: revision + 1}
	if _, err := s.Random.Read(k.Seed); err != nil {
		return err
	}
	value, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := s.Secrets.PutSecret(ctx, proofSecret, revision, value); err != nil {
		return err
	}
	s.proof.Store(k)
	return nil
}

// replaceProofKey makes a new key: what devices have shown with the one before shows nothing
// any more, until they refresh their tokens.
func (s *Service) replaceProofKey(ctx context.Context) error {
	for {
		revision, err := s.newest(ctx, proofSecret)
		if err != nil {
			return err
		}
		if err := s.newProofKey(ctx, revision); !errors.Is(err, ledger.ErrMoved) {
			return err
		}
	}
}

// family returns what the refresh tokens of the device have in common, or nil where there is
// no key that can be read.
func (s *Service) family(account, device string) []byte {
	k := s.proof.Load()
	if k == nil || len(k.Seed) == 0 {
		return nil
	}
	h := hmac.New(sha256.New, k.Seed)
	h.Write([]byte("xuncha device v1\n" + account + "\n" + device))
	return h.Sum(nil)
}

// madeFamily is family with the key that it makes where there is none. Nobody is kept from
// signing in because that fails.
func (s *Service) madeFamily(ctx context.Context, account, device string) []byte {
	if s.proof.Load() == nil {
		if err := s.newProofKey(ctx, 0); errors.Is(err, ledger.ErrMoved) {
			_ = s.readProofKey(ctx) // another server was quicker
		}
	}
	return s.family(account, device)
}

// newFamily returns what the refresh tokens of a new device are to have in common. Where
// there is no key, that is random, and shows nothing later.
func (s *Service) newFamily(ctx context.Context, account, device string) ([]byte, error) {
	if f := s.madeFamily(ctx, account, device); f != nil {
		return f, nil
	}
	random := make([]byte, sha256.Size)
	_, err := s.Random.Read(random)
	return random, err
}

// familyOr returns the family of the device whose token it is, so that one of before there
// was the key shows something too; that of the token where there is none.
func (s *Service) familyOr(ctx context.Context, t refreshToken) []byte {
	if f := s.madeFamily(ctx, t.account, t.device); f != nil {
		return f
	}
	return t.family
}

// deviceOf returns the device of the account, which is nil for nobody's, that shows by the
// text that it was signed in; empty where it shows nothing.
func (s *Service) deviceOf(a *Account, text string) string {
	if text == "" || a == nil {
		return ""
	}
	t, err := parseRefreshToken(text)
	if err != nil || t.account != a.ID || !hmac.Equal(t.family, s.family(t.account, t.device)) {
		return ""
	}
	return t.device
}
