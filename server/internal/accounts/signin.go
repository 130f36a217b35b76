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
	value, oneTime, err := s.hashed(ctx, account, password, request)
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

// hashed returns what is stored of an account's password, or of a new one-time password
// where it is empty, which is returned too. The error is of setPassword.
func (s *Service) hashed(ctx context.Context, account, password, request string) (value []byte, oneTime string, err error) {
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
	if err := s.hashing(ctx, turn{known, account}, func() { record.Hash = s.hashPassword(password) }); err != nil {
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
	// DeviceToken is a refresh token that the device has had of the account, also one that
	// is good for nothing else any more. Others' failures do not keep such a device waiting.
	// What is none is passed over.
	DeviceToken string
	// Address is where the call comes from.
	Address string
}

// Login signs a device in. The error is ErrSignIn, ErrThrottled, ErrBusy,
// ErrPasswordChange or ErrWeakPassword. Up to ErrSignIn as much is done for a name that no
// account has as for any.
func (s *Service) Login(ctx context.Context, in SignIn) (*Account, Tokens, error) {
	ctx = ledger.WithReserve(ctx)
	if err := s.takesPasswords(); err != nil {
		return nil, Tokens{}, err
	}
	// A keyboard's suggestion ends with a space, and what is pasted may have more around it.
	name := strings.ToLower(strings.TrimSpace(texts.Clean(in.Username)))
	a := s.projection.State().named(name)
	buckets, at := s.throttle.of(a, name, in.Address), s.throttle.turnOf(a, in.Address)
	if device := s.deviceOf(a, in.DeviceToken); device != "" {
		buckets, at = s.throttle.ofDevice(a.ID, device), turn{known, a.ID}
	}
	record, revision, right, err := s.compare(ctx, a, in.Password, buckets, at)
	if err != nil {
		return nil, Tokens{}, err
	}
	if !right {
		return nil, Tokens{}, ErrSignIn
	}
	s.throttle.signedIn(a.ID, in.Address, s.Now())
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

// compare reports whether the account, which is nil for nobody's, is signed in to with the
// password. Whatever the answer, one secret is read, one hash is computed, and one failure
// is counted in each bucket, unless the password was right; so is one of a caller that is gone.
func (s *Service) compare(ctx context.Context, a *Account, password string, buckets []bucket, at turn) (record passwordRecord, revision int64, right bool, err error) {
	try, err := s.throttle.begin(ctx, s.Now, buckets)
	if err != nil {
		return record, 0, false, err
	}
	defer try.wrong()
	record.Hash = nobodys
	name := passwordSecret("none")
	if a != nil {
		name = passwordSecret(a.ID)
	}
	value, revision, err := s.Secrets.Secret(ctx, name)
	switch {
	case errors.Is(err, ErrNoSecret):
	case err != nil:
		if ctx.Err() == nil {
			try.void()
		}
		return record, 0, false, err
	default:
		if record, err = readPassword(value); err != nil {
			s.damaged(name)
			try.void()
			return record, 0, false, err
		}
	}
	same := false
	if err := s.hashing(ctx, at, func() { same, err = s.matches(record.Hash, password) }); err != nil {
		if errors.Is(err, ErrBusy) {
			try.void()
		}
		return record, 0, false, err
	}
	if err != nil {
		return record, 0, false, err
	}
	if a == nil || !same || a.External() || !a.Disabled.IsZero() || record.OneTime && !s.Now().Before(record.Expires) {
		return record, 0, false, nil
	}
	try.right()
	return record, revision, true, nil
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
// account's devices and signs the caller's in anew. The errors are those of Login.
func (s *Service) ChangePassword(ctx context.Context, c Caller, old, password string) (Tokens, error) {
	ctx = ledger.WithReserve(ctx)
	if c.Account.External() {
		return Tokens{}, ErrKeptElsewhere
	}
	// Whoever is signed in waits for no strangers' failures, and a token that was stolen
	// gives no more tries than any device has.
	_, revision, right, err := s.compare(ctx, c.Account, old, s.throttle.ofDevice(c.Account.ID, c.Device), turn{known, c.Account.ID})
	if err != nil {
		return Tokens{}, err
	}
	if !right {
		return Tokens{}, ErrSignIn
	}
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

// A refreshToken is account.device.family.secret, the latter two of 32 bytes in base64.
// The family is that of proof.go, or random where that was not to be had.
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
	t := refreshToken{account: a.ID, device: s.NewID(), secret: make([]byte, 32)}
	if _, err := s.Random.Read(t.secret); err != nil {
		return Tokens{}, err
	}
	var err error
	if t.family, err = s.newFamily(ctx, t.account, t.device); err != nil {
		return Tokens{}, err
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
		if presented := hash(t.family); !same(d.Family, presented) && !same(d.Former, presented) ||
			d.Generation != a.generation || !s.Now().Before(d.Expires) {
			return nil, Tokens{}, ErrToken
		}
		next := refreshToken{t.account, t.device, s.familyOr(ctx, t), make([]byte, 32)}
		family := hash(next.family)
		switch presented := hash(t.secret); {
		case same(d.Current, presented):
		case retry != "" && same(d.Spent, presented) && same(d.Retry, hash([]byte(retry))):
			next.secret = derive(t.secret, retry)
			if !same(d.Current, hash(next.secret)) || !same(d.Family, family) {
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
		if !same(d.Family, family) {
			d.Former, d.Family = d.Family, family
		}
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
