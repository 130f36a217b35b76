package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"xuncha/internal/texts"
	"xuncha/ledger"
	"xuncha/sites"
)

const (
	// RefreshLifetime is how long a device stays signed in that does not refresh
	// its tokens.
	RefreshLifetime = 30 * 24 * time.Hour
	// OneTimeLifetime is how long a one-time password is good for.
	OneTimeLifetime = 7 * 24 * time.Hour
	// MaxDeviceName is the greatest length of a device's name in characters, and
	// MaxSentDeviceName that of one that is not cut yet.
	MaxDeviceName     = 64
	MaxSentDeviceName = 1000
	// MaxRefreshToken is the length in bytes beyond which nothing is a refresh
	// token.
	MaxRefreshToken = 512
)

// Tokens are what a device calls with.
type Tokens struct {
	Access         string
	AccessExpires  time.Time
	Refresh        string
	RefreshExpires time.Time
}

// newest says after which revision a password is stored, whatever it is.
func (s *Service) newest(ctx context.Context, name string) (int64, error) {
	_, revision, err := s.Secrets.Secret(ctx, name)
	if errors.Is(err, ErrNoSecret) {
		return 0, nil
	}
	return revision, err
}

// setPassword stores the hash of a password, or of a new one-time password where
// it is empty, which is returned, after the revision that after gives. The request is that
// which gives the password, if it has an id. Where the change could not be put on record,
// nothing is stored: nobody would know the new password.
func (s *Service) setPassword(ctx context.Context, account, password, request string, after func(context.Context, string) (int64, error)) (oneTime string, err error) {
	value, oneTime, err := s.hashed(ctx, password, request)
	if err != nil {
		return "", err
	}
	name := passwordSecret(account)
	revision, err := after(ctx, name)
	if err != nil {
		return "", err
	}
	return oneTime, s.Secrets.PutSecret(ctx, name, revision, value)
}

// hashed returns what is stored of a password, or of a new one-time password where it is
// empty, which is returned too. The error is of setPassword.
func (s *Service) hashed(ctx context.Context, password, request string) (value []byte, oneTime string, err error) {
	if err := s.Altered(); err != nil {
		return nil, "", err
	}
	record := passwordRecord{Request: request}
	if password == "" {
		if oneTime, err = s.oneTimePassword(); err != nil {
			return nil, "", err
		}
		password = oneTime
		record.OneTime, record.Expires = true, s.Now().Add(OneTimeLifetime)
	}
	if err := s.hashing(ctx, func() { record.Hash = hashPassword(password) }); err != nil {
		return nil, "", err
	}
	value, err = json.Marshal(record)
	return value, oneTime, err
}

// oneTimePassword returns 100 random bits as five groups of four letters and
// digits, which can be read out and typed.
func (s *Service) oneTimePassword() (string, error) {
	b := make([]byte, 13)
	if _, err := s.Random.Read(b); err != nil {
		return "", err
	}
	text := strings.ToLower(base32.StdEncoding.EncodeToString(b))[:20]
	return strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:16], text[16:]}, "-"), nil
}

// A SignIn is one attempt to sign in.
type SignIn struct {
	Username, Password string
	// NewPassword replaces a one-time password. With any other it must be empty.
	NewPassword string
	// DeviceName is what the phone calls itself. It is cleaned.
	DeviceName string
	// Address is where the call comes from.
	Address string
}

// Login signs a device in. The error is ErrSignIn, ErrThrottled,
// ErrPasswordChange or ErrWeakPassword.
func (s *Service) Login(ctx context.Context, in SignIn) (*Account, Tokens, error) {
	ctx = ledger.WithReserve(ctx)
	if err := s.takesPasswords(); err != nil {
		return nil, Tokens{}, err
	}
	// A keyboard's suggestion ends with a space, and what is pasted may have more around it.
	name := strings.ToLower(strings.TrimSpace(texts.Clean(in.Username)))
	if err := s.throttle.try(s.Now(), name, in.Address); err != nil {
		return nil, Tokens{}, err
	}
	a := s.projection.State().named(name)
	record := passwordRecord{Hash: nobodys}
	var revision int64
	// Nobody's password is looked up too, so that it takes as long.
	id := "none"
	if a != nil {
		id = a.ID
	}
	value, revision, err := s.Secrets.Secret(ctx, passwordSecret(id))
	switch {
	case errors.Is(err, ErrNoSecret):
	case err != nil:
		return nil, Tokens{}, err
	default:
		if record, err = readPassword(value); err != nil {
			s.damaged(passwordSecret(id))
			return nil, Tokens{}, err
		}
	}
	right := false
	if hashed := s.hashing(ctx, func() { right, err = matches(record.Hash, in.Password) }); hashed != nil {
		return nil, Tokens{}, hashed
	}
	if err != nil {
		return nil, Tokens{}, err
	}
	if a == nil || !right || !a.Disabled.IsZero() || a.External() || record.OneTime && !s.Now().Before(record.Expires) {
		return nil, Tokens{}, ErrSignIn
	}
	s.throttle.succeed(name, in.Address)
	if record.OneTime {
		if in.NewPassword == "" {
			return nil, Tokens{}, &sites.FieldError{Field: "new_password", Err: ErrPasswordChange}
		}
		if a, err = s.replacePassword(ctx, a, in.NewPassword, revision, in.Password); err != nil {
			return nil, Tokens{}, err
		}
	} else if in.NewPassword != "" {
		return nil, Tokens{}, sites.Invalid("new_password", "can only be given with a one-time password")
	}
	t, err := s.newDevice(ctx, a, in.DeviceName)
	return a, t, err
}

// replacePassword replaces the password with the revision by a new one and signs
// out all devices.
func (s *Service) replacePassword(ctx context.Context, a *Account, password string, revision int64, old string) (*Account, error) {
	if err := CheckPassword("new_password", password, a.Username); err != nil {
		return nil, err
	}
	if password == old {
		return nil, &sites.FieldError{Field: "new_password", Err: fmt.Errorf("%w: it is the old one", ErrWeakPassword)}
	}
	_, err := s.setPassword(ctx, a.ID, password, "", func(context.Context, string) (int64, error) { return revision, nil })
	if errors.Is(err, ledger.ErrMoved) {
		return nil, ErrSignIn // someone else has just used it up
	}
	if err != nil {
		return nil, err
	}
	if _, err := s.newGeneration(ctx, By{Account: a.Username}, a.ID, KindPasswordChanged); err != nil {
		return nil, err
	}
	return s.Get(a.ID)
}

// ChangePassword replaces the caller's own password, signs out all of the
// account's devices and signs the caller's in anew.
func (s *Service) ChangePassword(ctx context.Context, c Caller, old, password, address string) (Tokens, error) {
	ctx = ledger.WithReserve(ctx)
	if c.Account.External() {
		return Tokens{}, ErrKeptElsewhere
	}
	if err := s.throttle.try(s.Now(), c.Account.Username, address); err != nil {
		return Tokens{}, err
	}
	value, revision, err := s.Secrets.Secret(ctx, passwordSecret(c.Account.ID))
	if errors.Is(err, ErrNoSecret) {
		return Tokens{}, ErrSignIn
	}
	if err != nil {
		return Tokens{}, err
	}
	record, err := readPassword(value)
	if err != nil {
		s.damaged(passwordSecret(c.Account.ID))
		return Tokens{}, err
	}
	right := false
	if hashed := s.hashing(ctx, func() { right, err = matches(record.Hash, old) }); hashed != nil {
		return Tokens{}, hashed
	}
	if err != nil {
		return Tokens{}, err
	}
	if !right {
		return Tokens{}, ErrSignIn
	}
	s.throttle.succeed(c.Account.Username, address)
	name := ""
	if value, _, err := s.Secrets.Secret(ctx, deviceSecret(c.Account.ID, c.Device)); err == nil {
		if d, err := readDevice(value); err == nil {
			name = d.Name
		}
	}
	a, err := s.replacePassword(ctx, c.Account, password, revision, old)
	if err != nil {
		return Tokens{}, err
	}
	return s.newDevice(ctx, a, name)
}

// A refreshToken is account.device.family.secret, the latter two 32 random
// bytes in base64.
type refreshToken struct {
	account, device string
	family, secret  []byte
}

func (t refreshToken) String() string {
	e := base64.RawURLEncoding
	return strings.Join([]string{t.account, t.device, e.EncodeToString(t.family), e.EncodeToString(t.secret)}, ".")
}

// parseRefreshToken reads what String has written; anything else is ErrToken.
func parseRefreshToken(text string) (t refreshToken, err error) {
	parts := strings.Split(text, ".")
	if len(text) > MaxRefreshToken || len(parts) != 4 || strings.Contains(text, "/") {
		return t, ErrToken
	}
	t.account, t.device = parts[0], parts[1]
	e := base64.RawURLEncoding.Strict()
	if t.family, err = e.DecodeString(parts[2]); err != nil || len(t.family) != 32 {
		return t, ErrToken
	}
	if t.secret, err = e.DecodeString(parts[3]); err != nil || len(t.secret) != 32 {
		return t, ErrToken
	}
	// Base64 is also read where line ends are strewn in.
	if t.String() != text {
		return t, ErrToken
	}
	return t, nil
}

func hash(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// newDevice signs a new device of the account in.
func (s *Service) newDevice(ctx context.Context, a *Account, name string) (Tokens, error) {
	t := refreshToken{account: a.ID, device: s.NewID(), family: make([]byte, 32), secret: make([]byte, 32)}
	for _, b := range [][]byte{t.family, t.secret} {
		if _, err := s.Random.Read(b); err != nil {
			return Tokens{}, err
		}
	}
	d := deviceRecord{Name: texts.CleanName(name, MaxDeviceName), Family: hash(t.family), Current: hash(t.secret)}
	return s.put(ctx, a, t, d, 0)
}

// put stores a device after the revision and returns its tokens.
func (s *Service) put(ctx context.Context, a *Account, t refreshToken, d deviceRecord, revision int64) (Tokens, error) {
	d.Expires, d.Generation = s.Now().Add(RefreshLifetime), a.generation
	value, err := json.Marshal(d)
	if err != nil {
		return Tokens{}, err
	}
	if err := s.Secrets.PutSecret(ctx, deviceSecret(a.ID, t.device), revision, value); err != nil {
		return Tokens{}, err
	}
	return s.tokens(ctx, a, t, d)
}

func (s *Service) tokens(ctx context.Context, a *Account, t refreshToken, d deviceRecord) (out Tokens, err error) {
	out.Refresh, out.RefreshExpires = t.String(), d.Expires
	out.Access, out.AccessExpires, err = s.sign(ctx, a, t.device)
	return out, err
}

// Refresh spends a refresh token for new tokens. A repeat with the same retry id,
// which is the caller's secret and not empty, gets the answer once more, as when
// a reply was lost; any other use of a spent token signs the device out and is
// on record. The error is ErrToken.
func (s *Service) Refresh(ctx context.Context, text, retry string) (*Account, Tokens, error) {
	ctx = ledger.WithReserve(ctx)
	if err := s.takesPasswords(); err != nil {
		return nil, Tokens{}, err
	}
	t, err := parseRefreshToken(text)
	if err != nil {
		return nil, Tokens{}, err
	}
	for {
		a, err := s.Get(t.account)
		if err != nil || !a.Disabled.IsZero() {
			return nil, Tokens{}, ErrToken
		}
		value, revision, err := s.Secrets.Secret(ctx, deviceSecret(t.account, t.device))
		if errors.Is(err, ErrNoSecret) {
			return nil, Tokens{}, ErrToken
		}
		if err != nil {
			return nil, Tokens{}, err
		}
		d, err := readDevice(value)
		if err != nil {
			// The phone then asks for the password, and is a new device.
			s.damaged(deviceSecret(t.account, t.device))
			return nil, Tokens{}, errors.Join(err, s.Secrets.DeleteSecret(ctx, deviceSecret(t.account, t.device)))
		}
		if !same(d.Family, hash(t.family)) || d.Generation != a.generation || !s.Now().Before(d.Expires) {
			return nil, Tokens{}, ErrToken
		}
		next := refreshToken{t.account, t.device, t.family, make([]byte, 32)}
		switch presented := hash(t.secret); {
		case same(d.Current, presented):
		case retry != "" && same(d.Spent, presented) && same(d.Retry, hash([]byte(retry))):
			next.secret = derive(t.secret, retry)
			if !same(d.Current, hash(next.secret)) {
				return nil, Tokens{}, ErrToken
			}
			out, err := s.tokens(ctx, a, next, d)
			return a, out, err
		default:
			return nil, Tokens{}, errors.Join(ErrToken, s.reused(ctx, a, t.device))
		}
		if retry != "" {
			next.secret, d.Retry = derive(t.secret, retry), hash([]byte(retry))
		} else if _, err := s.Random.Read(next.secret); err != nil {
			return nil, Tokens{}, err
		} else {
			d.Retry = nil
		}
		d.Spent, d.Current = d.Current, hash(next.secret)
		out, err := s.put(ctx, a, next, d, revision)
		if errors.Is(err, ledger.ErrMoved) {
			continue // another call was quicker; this one is a repeat now
		}
		return a, out, err
	}
}

// derive returns the secret of the token after the one with the secret.
func derive(secret []byte, retry string) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("xuncha refresh v1\n" + retry))
	return h.Sum(nil)
}
