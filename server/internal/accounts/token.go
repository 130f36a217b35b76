package accounts

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"xuncha/ledger"
)

const (
	// AccessLifetime is how long an access token is valid.
	AccessLifetime = 15 * time.Minute
	// keyLifetime is how long a key signs before a new one replaces it.
	keyLifetime = 30 * 24 * time.Hour
	// keyKept is how long a key that signs no more is kept, for the tokens that
	// it has signed and for servers that have not yet heard of the next one.
	keyKept = 24 * time.Hour
	// keysEvery is how often the server looks whether there are other keys.
	keysEvery = 30 * time.Second
	// keysAgain is how often at most an unknown key makes the server look for
	// new ones, which another server may have made.
	keysAgain = time.Second
	// clockAllowance is how far the clocks of two machines may lie apart: a token that
	// was given, or begins, later than that by the server's clock is not taken.
	clockAllowance = time.Minute
	// maxVerified is how many access tokens are known without their signature
	// being checked once more.
	maxVerified = 16_384
	// issuer and audience stand in the tokens, so that those of another program
	// with the same key are none.
	issuer = "xuncha"
)

// keysSecret is the name of the keys among the store's secrets.
const keysSecret = "keys"

// A signingKey is one key of the server. The last one signs.
type signingKey struct {
	ID      string    `json:"id"`
	Seed    []byte    `json:"seed"`
	Created time.Time `json:"created"`

	private ed25519.PrivateKey
}

// A keyRing is what is known of the keys.
type keyRing struct {
	keys     []signingKey
	revision int64
	read     time.Time
}

// claims are what an access token says: an account, a device and the
// generation of the password with which it signed in.
type claims struct {
	jwt.RegisteredClaims
	Device     string `json:"device"`
	Generation int64  `json:"generation"`

	key string // that has signed it
}

// readKeys reads the keys from the store. Where they were changed there, it returns a ring
// without keys beside ledger.ErrDamaged, so that they can be replaced.
func (s *Service) readKeys(ctx context.Context) (*keyRing, error) {
	ring := &keyRing{read: s.Now()}
	value, revision, err := s.Secrets.Secret(ctx, keysSecret)
	if errors.Is(err, ErrNoSecret) {
		return ring, nil
	}
	if err != nil {
		return nil, err
	}
	ring.revision = revision
	ring.keys, err = parseKeys(value)
	return ring, err
}

// parseKeys reads what is stored of the keys.
func parseKeys(value []byte) (keys []signingKey, err error) {
	if err := json.Unmarshal(value, &keys); err != nil {
		return nil, fmt.Errorf("%w: %w: the stored keys cannot be read", ledger.ErrUnavailable, ledger.ErrDamaged) // and the error may quote them
	}
	for i, k := range keys {
		if len(k.Seed) != ed25519.SeedSize {
			return nil, fmt.Errorf("%w: %w: a stored key has the wrong length", ledger.ErrUnavailable, ledger.ErrDamaged)
		}
		keys[i].private = ed25519.NewKeyFromSeed(k.Seed)
	}
	return keys, nil
}

// RotateKeys lets a new key sign. Tokens that others have signed stay valid, so
// nobody is signed out.
func (s *Service) RotateKeys(ctx context.Context) error {
	done, err := s.keysTurn.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	return s.rotate(ctx, false)
}

// ReplaceKeys lets a new key sign and forgets all others, as when somebody may
// have read them. Access tokens that they have signed are not valid any more;
// devices stay signed in and refresh theirs, and show only then again that they have been
// signed in. Other servers of the store know it
// keysEvery later at the latest.
func (s *Service) ReplaceKeys(ctx context.Context) error {
	done, err := s.keysTurn.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	return errors.Join(s.rotate(ctx, true), s.replaceProofKey(ctx))
}

// rotate adds a key, or takes over the one that another server has just added.
// Where it is to be the only one, it forgets the others.
func (s *Service) rotate(ctx context.Context, only bool) error {
	for range 10 {
		ring, err := s.readKeys(ctx)
		if only && ring != nil && errors.Is(err, ledger.ErrDamaged) {
			err = nil // they are forgotten anyway
		}
		if err != nil {
			return err
		}
		now := s.Now()
		old := s.ring.Load()
		if n := len(ring.keys); !only && n > 0 && ring.revision != old.revision && now.Sub(ring.keys[n-1].Created) < keyLifetime {
			s.ring.Store(ring)
			return nil
		}
		seed := make([]byte, ed25519.SeedSize)
		if _, err := s.Random.Read(seed); err != nil {
			return err
		}
		// A key is needed until keyKept after the next one replaced it.
		keys := slices.Clone(ring.keys)
		if only {
			keys = nil
		}
		for len(keys) > 1 && now.Sub(keys[1].Created) > keyKept {
			keys = keys[1:]
		}
		keys = append(keys, signingKey{ID: s.NewID(), Seed: seed, Created: now, private: ed25519.NewKeyFromSeed(seed)})
		value, err := json.Marshal(keys)
		if err != nil {
			return err
		}
		err = s.Secrets.PutSecret(ctx, keysSecret, ring.revision, value)
		if err == nil {
			s.ring.Store(&keyRing{keys, ring.revision + 1, now})
			return nil
		}
		if !errors.Is(err, ledger.ErrMoved) {
			return err
		}
	}
	return ledger.ErrMoved
}

// sign returns an access token of the account's device and when it expires.
func (s *Service) sign(ctx context.Context, a *Account, device string) (token string, expires time.Time, err error) {
	now := s.Now()
	ring := s.ring.Load()
	if n := len(ring.keys); n == 0 || now.Sub(ring.keys[n-1].Created) >= keyLifetime {
		done, err := s.keysTurn.take(ctx)
		if err != nil {
			return "", expires, err
		}
		if s.ring.Load() == ring {
			err = s.rotate(ctx, false)
		}
		done()
		if err != nil {
			return "", expires, err
		}
		ring = s.ring.Load()
	}
	key := ring.keys[len(ring.keys)-1]
	expires = now.Add(AccessLifetime)
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Audience: jwt.ClaimStrings{issuer}, Subject: a.ID,
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires),
		},
		Device: device, Generation: a.generation,
	})
	t.Header["kid"] = key.ID
	token, err = t.SignedString(key.private)
	return token, expires, err
}

// find returns the public key with the id, or nil.
func (r *keyRing) find(id string) ed25519.PublicKey {
	for _, k := range r.keys {
		if k.ID == id {
			return k.private.Public().(ed25519.PublicKey)
		}
	}
	return nil
}

// has reports whether there is a key with the id.
func (r *keyRing) has(id string) bool {
	return slices.ContainsFunc(r.keys, func(k signingKey) bool { return k.ID == id })
}

// keyOf returns the public key that a token names. Anyone can send tokens that name keys
// which there are not. So the store is asked for them once in keysAgain at most, whether or
// not it answers.
func (s *Service) keyOf(ctx context.Context, id string) (ed25519.PublicKey, error) {
	find := func() ed25519.PublicKey { return s.ring.Load().find(id) }
	if key := find(); key != nil {
		return key, nil
	}
	done, err := s.keysTurn.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if key := find(); key != nil {
		return key, nil
	}
	if s.Now().Sub(s.ring.Load().read) < keysAgain {
		return nil, ErrToken
	}
	if age := s.Now().Sub(s.keysFailed); s.keysFailure != nil && age >= 0 && age < keysAgain {
		return nil, s.keysFailure
	}
	ring, err := s.readKeys(ctx)
	if err != nil {
		if ctx.Err() == nil { // of a caller that has left it says nothing
			s.keysFailed, s.keysFailure = s.Now(), err
		}
		return nil, err
	}
	s.keysFailure = nil
	s.ring.Store(ring)
	if key := find(); key != nil {
		return key, nil
	}
	return nil, ErrToken
}

// A tokenSpan is what a token says of the time in which it is valid. What it does not
// say is zero.
type tokenSpan struct{ issued, begins, expires time.Time }

// span returns what the claims say of the time.
func (c *claims) span() tokenSpan {
	s := tokenSpan{expires: c.ExpiresAt.Time}
	if c.IssuedAt != nil {
		s.issued = c.IssuedAt.Time
	}
	if c.NotBefore != nil {
		s.begins = c.NotBefore.Time
	}
	return s
}

// holds returns ErrToken where the token is not valid now. A token from a clock that is
// ahead would be valid for longer than any should be, and the role that it tells would
// outlast later ones. What has expired gets no allowance: the server's own tokens come
// from its own clock, and a phone renews in time.
func (s tokenSpan) holds(now time.Time) error {
	if s.ahead(now) > 0 {
		return fmt.Errorf("%w: it was given in the future, by the server's clock", ErrToken)
	}
	return s.lasts(now)
}

// lasts is holds without what a clock that is ahead does to a good token.
func (s tokenSpan) lasts(now time.Time) error {
	switch {
	case !now.Before(s.expires):
		return fmt.Errorf("%w: it has expired", ErrToken)
	case s.ahead(now) == 0 && s.begins.After(now.Add(clockAllowance)):
		return fmt.Errorf("%w: it is not valid yet", ErrToken)
	}
	return nil
}

// ahead returns how long it is until the token was given no further ahead than clocks may
// differ; 0 where that is so.
func (s tokenSpan) ahead(now time.Time) time.Duration {
	if latest := now.Add(clockAllowance); s.issued.After(latest) {
		return s.issued.Sub(latest)
	}
	return 0
}

// maxToken is the length in bytes beyond which nothing is an access token.
const maxToken = 16 << 10

// Verify returns who a call with the access token comes from. The error is
// ErrToken, whatever is wrong with it.
func (s *Service) Verify(ctx context.Context, token string) (Caller, error) {
	if len(token) > maxToken {
		return Caller{}, s.provider.tooLong(token)
	}
	now, accounts, keys, provided := s.Now(), s.projection.State(), s.ring.Load(), s.provider.known()
	c, err := s.verify(ctx, token)
	c.accounts, c.keys, c.provided, c.verified = accounts, keys, provided, now
	return c, err
}

// altersEvery is how often Still asks the store while the history of accounts does not
// verify, when a device that signs out is not on record.
const altersEvery = time.Second

// Still returns the caller as it is now, of a call that lasts. The token is the one that
// it was found by, and the error that of Verify. Where nothing has changed since, nothing
// is computed.
func (s *Service) Still(ctx context.Context, c Caller, token string) (Caller, error) {
	now := s.Now()
	same := c.accounts == s.projection.State() && c.keys == s.ring.Load() && c.provided == s.provider.known() && now.Before(c.expires)
	if same && (s.Altered() == nil || now.Sub(c.verified) < altersEvery) {
		return c, nil
	}
	return s.Verify(ctx, token)
}

func (s *Service) verify(ctx context.Context, token string) (Caller, error) {
	c, known := s.verified.Get(token)
	known = known && s.ring.Load().has(c.key)
	if !known && s.provider != nil {
		sum := tokenSum(sha256.Sum256([]byte(token)))
		if s.identities.Contains(sum) || s.provider.issued(token) {
			return s.verifyIdentity(ctx, token, sum)
		}
		if s.provider.Only {
			return Caller{}, ErrToken
		}
	}
	if !known {
		c = new(claims)
		var lookup error
		_, err := jwt.ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
			c.key, _ = t.Header["kid"].(string)
			var key ed25519.PublicKey
			key, lookup = s.keyOf(ctx, c.key)
			return key, lookup
		}, jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithTimeFunc(s.Now),
			jwt.WithLeeway(clockAllowance), jwt.WithIssuer(issuer), jwt.WithAudience(issuer), jwt.WithExpirationRequired())
		if lookup != nil && !errors.Is(lookup, ErrToken) {
			return Caller{}, lookup
		}
		if errors.Is(err, jwt.ErrTokenExpired) {
			return Caller{}, fmt.Errorf("%w: it has expired", ErrToken)
		}
		if err != nil {
			return Caller{}, ErrToken // the library's error may quote the token
		}
		s.verified.Add(token, c)
	}
	if err := c.span().holds(s.Now()); err != nil {
		return Caller{}, err
	}
	a, ok := s.projection.State().byID.Get(c.Subject)
	if !ok || !a.Disabled.IsZero() || a.generation != c.Generation {
		return Caller{}, fmt.Errorf("%w: it is signed out", ErrToken)
	}
	if err := s.isSignedOut(ctx, a.ID, c.Device); err != nil {
		return Caller{}, err
	}
	return Caller{Account: a, Device: c.Device, expires: c.ExpiresAt.Time}, nil
}
