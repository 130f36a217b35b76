package accounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"xuncha/internal/texts"
	"xuncha/ledger"
	"xuncha/sites"
)

var (
	// ErrIdentity means that a token of the identity provider is right, and that
	// no account can be made of what it says.
	ErrIdentity = errors.New("the identity provider's token cannot be used")
	// ErrProvider means that the identity provider cannot be asked for its keys.
	ErrProvider = errors.New("the identity provider cannot be reached")
	// ErrKeptElsewhere means that the identity provider keeps the account: what is
	// to be changed has to be changed there.
	ErrKeptElsewhere = errors.New("the identity provider keeps the account")
	// ErrNoPasswords means that the server takes no passwords.
	ErrNoPasswords = errors.New("the server takes no passwords")
)

// An IdentityProvider is whose tokens the server takes beside its own, by OpenID
// Connect Core 1.0: ID tokens, and access tokens that are signed JSON web tokens
// (RFC 9068). Whoever calls with a good one has an account from the first call
// on; the token says its role and divisions, and each change of them is an entry
// of the history of accounts.
type IdentityProvider struct {
	// Issuer is the provider's address, below which its discovery document lies.
	Issuer string
	// Audience must be among those that a token is for.
	Audience string
	// UsernameClaim, RoleClaim and DivisionsClaim name the claims that say who it
	// is, as what and where. A name with dots may also lead into an object, such
	// as realm_access.roles. Role and divisions are a text or a list of them; of
	// the texts of the role, exactly one must mean a role.
	UsernameClaim, RoleClaim, DivisionsClaim string
	// RoleOf says which role a text means. Where it is empty, the roles' own names
	// do.
	RoleOf map[string]Role
	// Only tells that passwords and the server's own tokens are not taken.
	Only bool
	// Client asks the provider; nil for the standard one.
	Client *http.Client
}

// An identity is what a token of the provider says.
type identity struct {
	subject, username string
	displayName       string // empty where the token does not say it
	role              Role
	divisions         []sites.DivisionCode
	span              tokenSpan
}

// A subject is who somebody is for an issuer, for ever.
type subject struct{ issuer, id string }

// A tokenSum is the SHA-256 of a token, which may be long.
type tokenSum [sha256.Size]byte

// byProvider is who made the entries that follow a token.
const byProvider = "oidc"

const (
	// discoverEvery is how often at most a provider that did not answer is asked
	// once more.
	discoverEvery = 2 * time.Second
	// providerTimeout is how long the provider may take to answer.
	providerTimeout = 10 * time.Second
	// keyFetches are how many times a second the provider is asked for its keys
	// at most, and how many times at once: anyone can send tokens whose key is
	// not known.
	keyFetches, keyFetchBurst = rate.Limit(1), 10
)

// algorithms are those that can be checked with a public key.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// A provider checks the tokens of an identity provider.
type provider struct {
	IdentityProvider
	now func() time.Time
	ctx context.Context // with the client that asks the provider

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the provider has answered
	asked    time.Time
	failure  error
}

func newProvider(p IdentityProvider, now func() time.Time) *provider {
	client := http.Client{}
	if p.Client != nil {
		client = *p.Client
	}
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	client.Transport = &keyTransport{client.Transport, rate.NewLimiter(keyFetches, keyFetchBurst)}
	client.Timeout = providerTimeout
	return &provider{IdentityProvider: p, now: now, ctx: oidc.ClientContext(context.Background(), &client)}
}

// A keyTransport turns all that is no good answer into ErrProvider, and does not
// ask too often.
type keyTransport struct {
	http.RoundTripper
	limit *rate.Limiter
}

// RoundTrip implements http.RoundTripper.
func (t *keyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !t.limit.Allow() {
		return nil, fmt.Errorf("%w: too often", ErrProvider)
	}
	answer, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProvider, err)
	}
	if answer.StatusCode != http.StatusOK {
		_ = answer.Body.Close() // nothing of it is read
		return nil, fmt.Errorf("%w: it answers %s", ErrProvider, answer.Status)
	}
	return answer, nil
}

// discover returns what checks tokens. It asks the provider the first time, and
// again where it did not answer.
func (p *provider) discover() (*oidc.IDTokenVerifier, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verifier != nil {
		return p.verifier, nil
	}
	if p.failure != nil && p.now().Sub(p.asked) < discoverEvery {
		return nil, p.failure
	}
	p.asked = p.now()
	found, err := oidc.NewProvider(p.ctx, p.Issuer)
	if err != nil {
		p.failure = fmt.Errorf("%w: %v", ErrProvider, err)
		return nil, p.failure
	}
	var document struct {
		Keys string `json:"jwks_uri"`
	}
	if err := found.Claims(&document); err != nil {
		p.failure = fmt.Errorf("%w: %v", ErrProvider, err)
		return nil, p.failure
	}
	p.verifier = oidc.NewVerifier(p.Issuer, keySet{oidc.NewRemoteKeySet(p.ctx, document.Keys)}, &oidc.Config{
		ClientID: p.Audience, SupportedSigningAlgs: algorithms, Now: p.now,
	})
	return p.verifier, nil
}

// A keySet tells apart that the provider did not answer and that a signature is
// wrong, which the verifier does not.
type keySet struct{ remote oidc.KeySet }

type unansweredKey struct{}

// VerifySignature implements oidc.KeySet.
func (k keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, token)
	if unanswered, ok := ctx.Value(unansweredKey{}).(*error); ok && (errors.Is(err, ErrProvider) || ctx.Err() != nil) {
		*unanswered = err
	}
	return payload, err
}

// issued reports whether a token says that it is the provider's. That says
// nothing about whether it is.
func (p *provider) issued(token string) bool {
	var c jwt.RegisteredClaims
	_, _, err := jwt.NewParser().ParseUnverified(token, &c)
	return err == nil && c.Issuer == p.Issuer
}

// verify returns what a good token says.
func (p *provider) verify(ctx context.Context, token string) (*identity, error) {
	verifier, err := p.discover()
	if err != nil {
		return nil, err
	}
	var unanswered error
	t, err := verifier.Verify(context.WithValue(ctx, unansweredKey{}, &unanswered), token)
	var expired *oidc.TokenExpiredError
	switch {
	case unanswered != nil:
		return nil, unanswered
	case errors.As(err, &expired):
		return nil, fmt.Errorf("%w: it has expired", ErrToken)
	case err != nil:
		return nil, ErrToken // the library's error may quote the token
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return nil, ErrToken
	}
	var begins struct {
		Time *jwt.NumericDate `json:"nbf"`
	}
	if err := t.Claims(&begins); err != nil {
		return nil, ErrToken
	}
	span := tokenSpan{issued: t.IssuedAt, expires: t.Expiry}
	if begins.Time != nil {
		span.begins = begins.Time.Time
	}
	// Before anything is made of it, and with less allowance than the library's.
	if err := span.holds(p.now()); err != nil {
		return nil, err
	}
	return p.read(t.Subject, span, claims)
}

// read returns what the claims mean.
func (p *provider) read(sub string, span tokenSpan, claims map[string]any) (*identity, error) {
	unusable := func(claim, format string, args ...any) error {
		return &sites.FieldError{Field: "claims." + claim, Err: fmt.Errorf("%w: it "+format, append([]any{ErrIdentity}, args...)...)}
	}
	if sub == "" {
		return nil, unusable("sub", "is missing")
	}
	// Without it nobody could tell which of two tokens has the role of today.
	if span.issued.Unix() <= 0 {
		return nil, unusable("iat", "is missing")
	}
	id := &identity{subject: sub, span: span}
	names, err := textsIn(claims, p.UsernameClaim)
	if err != nil || len(names) != 1 {
		return nil, unusable(p.UsernameClaim, "is no username")
	}
	id.username = strings.ToLower(names[0])
	if name, ok := claims["name"].(string); ok {
		id.displayName = texts.CleanName(name, MaxDisplayName) // nobody is kept out for a name
	}
	values, err := textsIn(claims, p.RoleClaim)
	if err != nil {
		return nil, unusable(p.RoleClaim, "%v", err)
	}
	var roles []Role
	for _, v := range values {
		role, ok := p.RoleOf[v]
		if len(p.RoleOf) == 0 {
			role, ok = Role(v), slices.Contains(Roles, Role(v))
		}
		if ok && !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	if len(roles) != 1 {
		return nil, unusable(p.RoleClaim, "means %d roles, want one", len(roles))
	}
	id.role = roles[0]
	codes, err := textsIn(claims, p.DivisionsClaim)
	if err != nil {
		return nil, unusable(p.DivisionsClaim, "%v", err)
	}
	for _, c := range codes {
		if code := sites.DivisionCode(c).Shortest(); !slices.Contains(id.divisions, code) {
			id.divisions = append(id.divisions, code)
		}
	}
	slices.Sort(id.divisions)
	a := Account{Username: id.username, Role: id.role, Divisions: id.divisions}
	var field *sites.FieldError
	if err := a.check(); errors.As(err, &field) {
		claim := p.DivisionsClaim
		if field.Field == "username" {
			claim = p.UsernameClaim
		}
		return nil, unusable(claim, "%v", field.Err)
	}
	return id, nil
}

// claimOf returns the claim with the name, or where the name leads, or nil.
func claimOf(claims map[string]any, name string) any {
	if v, ok := claims[name]; ok {
		return v
	}
	first, rest, _ := strings.Cut(name, ".")
	if object, ok := claims[first].(map[string]any); ok {
		return claimOf(object, rest)
	}
	return nil
}

// textsIn returns the texts of a claim: its own, separated by spaces or commas, or
// those of its list.
func textsIn(claims map[string]any, name string) ([]string, error) {
	switch v := claimOf(claims, name).(type) {
	case nil:
		return nil, errors.New("is missing")
	case string:
		return strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ',' }), nil
	case []any:
		out := make([]string, len(v))
		for i := range v {
			text, ok := v[i].(string)
			if !ok {
				return nil, errors.New("has a value that is not a text")
			}
			out[i] = text
		}
		return out, nil
	}
	return nil, errors.New("is neither a text nor a list")
}

// verifyIdentity returns who a call with a token of the provider comes from.
func (s *Service) verifyIdentity(ctx context.Context, token string, sum tokenSum) (Caller, error) {
	id, known := s.identities.Get(sum)
	if !known {
		var err error
		if id, err = s.provider.verify(ctx, token); err != nil {
			return Caller{}, err
		}
		s.identities.Add(sum, id)
	}
	if err := id.span.holds(s.Now()); err != nil {
		return Caller{}, err
	}
	a := s.projection.State().of(subject{s.provider.Issuer, id.subject})
	if a == nil || id.changes(a) {
		var err error
		if a, err = s.follow(ctx, id); err != nil {
			return Caller{}, err
		}
	}
	if !a.Disabled.IsZero() {
		return Caller{}, fmt.Errorf("%w: its account is disabled", ErrToken)
	}
	return Caller{Account: a, expires: id.span.expires}, nil
}

// changes reports whether the token is newer than what is known of the account,
// and says something else.
func (id *identity) changes(a *Account) bool {
	return a.Disabled.IsZero() && id.span.issued.After(a.asOf) &&
		(id.role != a.Role || id.displayName != "" && id.displayName != a.DisplayName || !slices.Equal(id.divisions, a.Divisions))
}

// follow creates the identity's account, or changes it to what the token says.
func (s *Service) follow(ctx context.Context, id *identity) (*Account, error) {
	key := subject{s.provider.Issuer, id.subject}
	kind := KindChanged
	if s.projection.State().of(key) == nil {
		kind = KindCreated
	}
	// It is how these accounts sign in.
	_, _, err := s.change(ledger.WithReserve(ctx), By{Account: byProvider}, kind, func(st *state) (*content, error) {
		c := &content{
			Username: id.username, DisplayName: id.displayName, Role: id.role, Divisions: id.divisions,
			Issuer: s.provider.Issuer, Subject: id.subject, TokenTime: id.span.issued.UTC(),
		}
		a := st.of(key)
		switch {
		case a == nil && st.left(key):
			// Whose it is now, and whether it is disabled, somebody has decided.
			return nil, fmt.Errorf("%w: its account was moved to another identity provider, or has a password", ErrToken)
		case a == nil && kind == KindCreated:
			// Another account with the name may be another person.
			if st.named(id.username) != nil {
				return nil, &sites.FieldError{Field: "claims." + s.provider.UsernameClaim, Err: fmt.Errorf("%w: %w", ErrIdentity, ErrUsernameTaken)}
			}
			c.AccountID = s.NewID()
			return c, nil
		case a == nil || kind == KindCreated || !id.changes(a):
			return nil, nil // another call was quicker
		}
		// The name in records stays, whatever it has become elsewhere.
		c.AccountID, c.Username = a.ID, a.Username
		if c.DisplayName == "" {
			c.DisplayName = a.DisplayName
		}
		return c, nil
	})
	if errors.Is(err, ErrUsernameTaken) && s.UsernameTaken != nil {
		s.UsernameTaken(id.username, key.issuer, key.id)
	}
	if err != nil {
		return nil, err
	}
	a := s.projection.State().of(key)
	if a == nil {
		return nil, ledger.ErrMoved
	}
	return a, nil
}

// External reports whether an identity provider keeps the account.
func (a *Account) External() bool { return a.subject != subject{} }

// Discover asks the identity provider for what is needed to check its tokens,
// where there is one. It is asked again when a token comes.
func (s *Service) Discover() error {
	if s.provider == nil {
		return nil
	}
	_, err := s.provider.discover()
	return err
}

// takesPasswords returns ErrNoPasswords where the server takes none.
func (s *Service) takesPasswords() error {
	if s.provider != nil && s.provider.Only {
		return ErrNoPasswords
	}
	return nil
}
