package accounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"xuncha/sites"
)

var (
	// ErrIdentity means that a token of the identity provider is right, and that
	// no account can be made of what it says.
	ErrIdentity = errors.New("the identity provider's token cannot be used")
	// ErrProvider means that the identity provider has not given the keys that are
	// needed to judge a token. That says nothing about the token.
	ErrProvider = errors.New("the identity provider cannot be used")
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
	// Clients are further apps of the provider, by their client ids, to which a token
	// for Audience may have been given. Audience is always one.
	Clients []string
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
	// Client asks the provider; nil for the standard one. What it is asked for is bounded
	// in time and size all the same.
	Client *http.Client
	// Until ends what is under way with the provider, when the server stops; nil for
	// never.
	Until context.Context
	// Report is told what is wrong with the provider, with how many calls were refused
	// for it since it was told last: at most once in troubleEvery. It is told a nil
	// trouble once the provider can be used again. Nil tells nobody.
	Report func(trouble error, refused int64)
	// Passed is told the codes of divisions that a token names and the roster does not
	// know, where others of the token hold: at most once in troubleEvery. Nil tells
	// nobody.
	Passed func(codes []string)
}

// An identity is what a token of the provider says.
type identity struct {
	subject, username string
	displayName       string // empty where the token does not say it
	role              Role
	divisions         []sites.DivisionCode // whether or not the roster knows them
	strange           []string             // what else the token names as divisions
	span              tokenSpan
	// key is what the token rests on, and until when nobody looks anew whether it is good.
	key   string
	until time.Time
}

// A subject is who somebody is for an issuer, for ever.
type subject struct{ issuer, id string }

// A tokenSum is the SHA-256 of a token, which may be long.
type tokenSum [sha256.Size]byte

// byProvider is who made the entries that follow a token.
const byProvider = "oidc"

const (
	// providerTimeout is how long the provider may take to answer in all.
	providerTimeout = 10 * time.Second
	// askedAgain is how long after a question that failed the next one may follow.
	askedAgain = 2 * time.Second
	// keyFetchEvery and keyFetchBurst bound how often the provider is asked for the sake
	// of keys that are not known: anyone can send tokens that name such.
	keyFetchEvery = 30 * time.Second
	keyFetchBurst = 4
	// keysRenewed is how old the keys become before the provider is asked anew, beside
	// the calls: a key that it has withdrawn then ends here too.
	keysRenewed = 10 * time.Minute
	// identityKept is how long a token is known to be good without being looked at anew.
	identityKept = 15 * time.Minute
	// maxAsking is how many calls wait for the provider at once. It is less than the
	// streams of one connection, so that a connection whose calls wait takes others.
	maxAsking = 32
	// maxAnswer is how many bytes an answer of the provider may have, unpacked, and
	// maxAnswerHeader its header.
	maxAnswer, maxAnswerHeader = 1 << 20, 64 << 10
	// maxRedirects is how often the provider may send the server elsewhere.
	maxRedirects = 3
	// maxProviderKeys is how many keys a provider may have, and maxTried how many of them
	// are tried for a token that does not name one.
	maxProviderKeys, maxTried = 500, 10
	// longestAhead is how long whoever has a token of a clock that is ahead waits at most
	// before the next try: the clock may have been set right.
	longestAhead = time.Minute
	// troubleEvery is how often at most is told what is wrong with a provider.
	troubleEvery = time.Minute
	// maxTokenLife is the longest life of a provider's token: what nobody can call back
	// for longer is not taken.
	maxTokenLife = 24 * time.Hour
	// MaxSubject is the greatest length of the claim sub, and of a subject that an operator
	// gives, in characters (OpenID Connect Core 1.0 section 2).
	MaxSubject = 255
)

// External reports whether an identity provider keeps the account.
func (a *Account) External() bool { return a.subject != subject{} }

// Discover asks the identity provider for what is needed to check its tokens, where there
// is one, and waits for that until ctx ends. The error is ErrProvider or that of ctx; the
// provider is asked again when a token comes.
func (s *Service) Discover(ctx context.Context) error {
	if s.provider == nil {
		return nil
	}
	_, _, err := s.provider.newer(ctx, nil)
	return err
}

// takesPasswords returns ErrNoPasswords where the server takes none.
func (s *Service) takesPasswords() error {
	if s.provider != nil && s.provider.Only {
		return ErrNoPasswords
	}
	return nil
}
