package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// A Session is what a device keeps to stay signed in. It is a secret: whoever has it
// can call the server as the account. The zero value is nobody's, and so is one with which
// SignedIn is false.
type Session struct {
	// AccessToken goes with every call.
	AccessToken string `json:"access_token,omitempty"`
	// RenewTime is when, by this machine's clock, AccessToken should be replaced. The
	// zero time means not before the server refuses it.
	RenewTime time.Time `json:"renew_time,omitzero"`
	// RefreshToken is spent for new tokens, once. Without one, AccessToken is used
	// until it expires, as with the token of an identity provider.
	RefreshToken string `json:"refresh_token,omitempty"`
	// RetryID goes with RefreshToken when that is spent. It is made before and kept
	// with it, so that an attempt whose answer was lost can be repeated, also by the
	// app's next run. Any other second attempt with the token signs the device out.
	RetryID string `json:"retry_id,omitempty"`
	// DeviceToken is what a device that is signed out shows when it signs in again: that it
	// was signed in before. Keep it too.
	DeviceToken string `json:"device_token,omitempty"`
}

// SignedIn reports whether somebody is signed in, as far as is known.
func (s Session) SignedIn() bool { return s.AccessToken != "" || s.RefreshToken != "" }

// String says whether somebody is signed in, and none of the secrets.
func (s Session) String() string {
	if !s.SignedIn() {
		return "signed out"
	}
	return "signed in"
}

const (
	// refreshTimeout is how long it may take to renew the tokens, which goes on when
	// the call that began it has ended.
	refreshTimeout = 30 * time.Second
	// refreshTries is how often that is tried before the calls that wait for it fail.
	refreshTries = 3
	// refreshAgain is how long calls go on with a token that is still valid, after it
	// could not be replaced, before that is tried again.
	refreshAgain = 10 * time.Second
	// shortestLifetime and longestLifetime bound for how long a new access token seems
	// to be valid. Beyond them this machine's clock must be wrong.
	shortestLifetime, longestLifetime = time.Minute, time.Hour
)

// A session is the client's present one, and how it is renewed.
type session struct {
	accounts xunchav1.AccountServiceClient // whose calls have no token
	config   Config
	sleep    sleeper
	flights  singleflight.Group // by refresh token
	ctx      context.Context    // ends with the client
	stop     context.CancelFunc

	changing sync.Mutex // held while a new session is kept
	mu       sync.Mutex
	current  Session
	refused  string    // the access token that the server did not take last
	notYet   time.Time // when it is tried again to replace one that is still valid
}

func (s *session) start(conn *grpc.ClientConn, c Config) {
	s.accounts, s.config, s.current = xunchav1.NewAccountServiceClient(conn), c, c.Session
	s.sleep = sleep
	s.ctx, s.stop = context.WithCancel(context.Background())
}

func (s *session) get() Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// set keeps the session and then uses it.
func (s *session) set(next Session) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.keep(next)
}

// replace is set, but for a session that is not before any more, as after a new
// sign-in.
func (s *session) replace(before, next Session) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.get().RefreshToken != before.RefreshToken {
		return nil
	}
	return s.keep(next)
}

// keep needs s.changing.
func (s *session) keep(next Session) error {
	if s.config.Keep != nil {
		if err := s.config.Keep(next); err != nil {
			return fmt.Errorf("keeping the session: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = next
	return nil
}

// signedOut returns what is left of the session of a device that is signed out.
func (s Session) signedOut() Session {
	if s.RefreshToken != "" {
		return Session{DeviceToken: s.RefreshToken}
	}
	return Session{DeviceToken: s.DeviceToken}
}

// made returns the session with tokens that came just now.
func (s *session) made(access, refresh string, expires time.Time) Session {
	out := Session{AccessToken: access, RefreshToken: refresh, RetryID: s.config.NewID()}
	now := s.config.Now()
	if lifetime := expires.Sub(now); lifetime >= shortestLifetime && lifetime <= longestLifetime {
		out.RenewTime = now.Add(lifetime * 3 / 4).Round(0) // as it is read again
	}
	return out
}

// token returns an access token, a new one where it is time for that. Calls that
// come at once wait for the same one.
func (s *session) token(ctx context.Context) (string, error) {
	s.mu.Lock()
	present := s.current
	renew := present.RefreshToken != "" && (s.useless(present) || s.due(present))
	s.mu.Unlock()
	if !renew {
		return present.AccessToken, nil
	}
	done := s.flights.DoChan(present.RefreshToken, func() (any, error) { return s.renew(present) })
	select {
	case r := <-done:
		token, _ := r.Val.(string)
		return token, r.Err
	case <-ctx.Done():
		return "", status.FromContextError(ctx.Err()).Err()
	}
}

// useless reports whether the server does not take the access token. It needs s.mu.
func (s *session) useless(p Session) bool { return p.AccessToken == "" || p.AccessToken == s.refused }

// due reports whether it is time to replace a token that is still valid. It needs
// s.mu.
func (s *session) due(p Session) bool {
	now := s.config.Now()
	return !p.RenewTime.IsZero() && !now.Before(p.RenewTime) && !now.Before(s.notYet)
}

// renew spends the refresh token of the session and returns the new access token.
// Where that fails, it is the present one, unless the server has refused that.
func (s *session) renew(present Session) (string, error) {
	if now := s.get(); now.RefreshToken != present.RefreshToken {
		return now.AccessToken, nil // somebody was quicker
	}
	ctx, cancel := context.WithTimeout(s.ctx, refreshTimeout)
	defer cancel()
	next, err := s.spend(ctx, present)
	if tokenInvalid(err) {
		next = present.signedOut()
	}
	if err == nil || tokenInvalid(err) {
		if kept := s.replace(present, next); kept != nil {
			err = status.Error(codes.Internal, kept.Error())
		}
	}
	if err == nil {
		return next.AccessToken, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == present && !s.useless(present) {
		s.notYet = s.config.Now().Add(refreshAgain)
		return present.AccessToken, nil
	}
	return "", err
}

// spend sends the refresh token until an answer comes.
func (s *session) spend(ctx context.Context, present Session) (Session, error) {
	for n := 0; ; n++ {
		answer, err := s.accounts.RefreshToken(ctx, &xunchav1.RefreshTokenRequest{RefreshToken: present.RefreshToken, RetryId: present.RetryID})
		if err == nil {
			return s.made(answer.AccessToken, answer.RefreshToken, answer.AccessExpireTime.AsTime()), nil
		}
		if n+1 == refreshTries {
			return Session{}, err
		}
		if err := s.sleep.pause(ctx, n, err); err != nil {
			return Session{}, err
		}
	}
}

// bearer returns the credentials of a call, or nil where nobody is signed in.
func (s *session) bearer() *bearer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.current.SignedIn() {
		return nil
	}
	return &bearer{session: s}
}

// A bearer puts the access token on a call. It implements
// credentials.PerRPCCredentials.
type bearer struct {
	session *session
	sent    atomic.Pointer[string]
}

// with returns the options and the bearer.
func (b *bearer) with(options []grpc.CallOption) []grpc.CallOption {
	return append(options[:len(options):len(options)], grpc.PerRPCCredentials(b))
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b *bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.session.token(ctx)
	if err != nil || token == "" {
		return nil, err
	}
	b.sent.Store(&token)
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b *bearer) RequireTransportSecurity() bool { return !b.session.config.Plaintext }

// refused takes note that the server did not take the token of the call, and
// reports whether another call can have another token.
func (b *bearer) refused() bool {
	s := b.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if sent := b.sent.Load(); sent != nil && *sent == s.current.AccessToken {
		s.refused = *sent
	}
	return s.current.RefreshToken != ""
}

// renewable reports whether the next call can have another token.
func (s *session) renewable() bool { return s.get().RefreshToken != "" }
