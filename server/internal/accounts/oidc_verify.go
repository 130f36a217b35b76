package accounts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// An identityToken is a token that says that it is the provider's, before anybody knows
// whether it is.
type identityToken struct {
	signed    *jwt.Token
	text      string // what is signed
	algorithm string
	keyID     string // empty where it names none
	claims    jwt.MapClaims
	span      tokenSpan
}

// issued reports whether a token says that it is the provider's. That says
// nothing about whether it is.
func (p *provider) issued(token string) bool {
	var c issuerClaim
	_, _, err := jwt.NewParser().ParseUnverified(token, &c)
	return err == nil && c.Issuer == p.Issuer
}

// An issuerClaim is the one claim that says whose a token is. Nobody asks it for others.
type issuerClaim struct {
	jwt.Claims `json:"-"`
	Issuer     string `json:"iss"`
}

// types are the types that the header of an ID token or an access token may name (RFC 7519
// section 5.1, RFC 9068 section 2.1). A logout token, which is signed by the same keys, has
// another.
var types = []string{"jwt", "at+jwt"}

// parse reads a token, and returns ErrToken for what no signature could make good.
func (p *provider) parse(token string) (*identityToken, error) {
	wrong := func(format string, args ...any) (*identityToken, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrToken}, args...)...)
	}
	t := &identityToken{claims: jwt.MapClaims{}}
	var err error
	if t.signed, _, err = jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(token, t.claims); err != nil {
		return nil, ErrToken // the library's error may quote the token
	}
	t.text = token[:strings.LastIndexByte(token, '.')]
	t.algorithm = t.signed.Method.Alg()
	if algorithms[t.algorithm] == "" {
		return wrong("it is not signed as a token of an identity provider is")
	}
	header := t.signed.Header
	if typ, ok := header["typ"]; ok {
		name, _ := typ.(string)
		if !slices.Contains(types, strings.TrimPrefix(strings.ToLower(name), "application/")) {
			return wrong("its type is that of another kind of token")
		}
	}
	if _, ok := header["crit"]; ok { // RFC 7515 section 4.1.11
		return wrong("its header demands what the server does not know")
	}
	if id, ok := header["kid"]; ok {
		if t.keyID, ok = id.(string); !ok {
			return wrong("its header names no key")
		}
	}
	// OpenID Connect Back-Channel Logout 1.0 section 2.4.
	if _, ok := t.claims["events"]; ok {
		return wrong("it is a token that signs out, and none to call with")
	}
	if t.claims["iss"] != p.Issuer {
		return wrong("it is another provider's")
	}
	audience, err := t.claims.GetAudience()
	if err != nil || !slices.Contains(audience, p.Audience) {
		return wrong("it is for another app")
	}
	if err := p.checkParty(t.claims, len(audience)); err != nil {
		return nil, err
	}
	for name, at := range map[string]*time.Time{"iat": &t.span.issued, "nbf": &t.span.begins, "exp": &t.span.expires} {
		if value, ok := t.claims[name]; ok {
			if *at, ok = numericDate(value); !ok {
				return wrong("its claim %s is no time", name)
			}
		}
	}
	if t.span.expires.IsZero() {
		return wrong("it does not say when it expires")
	}
	return t, t.span.lasts(p.now())
}

// holds returns an error where a token that the provider has signed is not valid now. One
// that was given in the future says that one of both clocks is wrong, and not that its
// caller is: the same token is good a little later.
func (p *provider) holds(span tokenSpan) error {
	now := p.now()
	ahead := span.ahead(now)
	if ahead == 0 {
		return span.lasts(now)
	}
	err := &providerError{
		why:  fmt.Sprintf("it gives tokens that are %s ahead of this server's clock; set the one of both that is wrong", span.issued.Sub(now).Round(time.Second)),
		wait: min(ahead, longestAhead),
	}
	p.refused.Add(1)
	p.report(err)
	return err
}

// checkParty returns ErrToken where the token was given to another app, although it is for
// this one too (OpenID Connect Core 1.0 section 3.1.3.7, points 4 and 5). An access token
// may name the app by client_id (RFC 9068 section 2.2).
func (p *provider) checkParty(claims jwt.MapClaims, audiences int) error {
	party, named := claims["azp"]
	if !named && audiences > 1 {
		party, named = claims["client_id"]
	}
	if !named {
		if audiences > 1 {
			return fmt.Errorf("%w: it is for several apps and does not say to which of them it was given (azp)", ErrToken)
		}
		return nil
	}
	if app, _ := party.(string); app != p.Audience && !slices.Contains(p.Clients, app) {
		return fmt.Errorf("%w: it was given to another app (azp)", ErrToken)
	}
	return nil
}

// latestDate is the greatest time that a claim can say: far more than any token needs, and
// little enough to be reckoned with.
const latestDate = 1 << 38

// numericDate returns the time that a claim says in seconds (RFC 7519 section 2). That may
// be 0, by which earlier Keycloaks say of nbf that a token holds from the first.
func numericDate(claim any) (time.Time, bool) {
	seconds, ok := claim.(float64)
	if !ok || !(seconds >= 0 && seconds < latestDate) {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// signer returns the key that the token rests on, and asks the provider for it where it is
// not known. The error is ErrToken where the provider has no such key, and ErrProvider
// where that cannot be told.
func (p *provider) signer(ctx context.Context, t *identityToken) (*providerKey, error) {
	keys := p.keys.Load()
	if keys != nil {
		p.renew(keys)
		if k := keys.signer(t); k != nil {
			return k, nil
		}
		if keys.judges(t) {
			return nil, p.refusal(keys, t)
		}
	}
	newer, began, err := p.newer(ctx, keys)
	if err != nil {
		return nil, err
	}
	if k := newer.signer(t); k != nil {
		return k, nil
	}
	if began || newer.judges(t) {
		return nil, p.refusal(newer, t)
	}
	return nil, troubled("the token is newer than its keys that are known")
}

// refusal is the error for a token that none of the provider's keys has signed.
func (p *provider) refusal(keys *keySet, t *identityToken) error {
	if why := keys.unread[t.keyID]; why != nil && t.keyID != "" {
		err := troubled("its key %s %v", spelled(t.keyID), why)
		p.report(err)
		return err
	}
	return fmt.Errorf("%w: none of the identity provider's keys has signed it", ErrToken)
}

// verify returns what a good token says.
func (p *provider) verify(ctx context.Context, token string) (*identity, error) {
	t, err := p.parse(token)
	if err != nil {
		return nil, err
	}
	key, err := p.signer(ctx, t)
	if errors.Is(err, ErrProvider) {
		p.refused.Add(1)
	}
	if err != nil {
		return nil, err
	}
	if err := p.holds(t.span); err != nil {
		return nil, err
	}
	id, err := p.read(t.span, t.claims)
	if err != nil {
		return nil, err
	}
	id.key, id.until = key.print, p.now().Add(identityKept)
	return id, nil
}

// known returns the keys that are known; nil for none, also of no provider.
func (p *provider) known() *keySet {
	if p == nil {
		return nil
	}
	return p.keys.Load()
}

// still reports whether what is known of a token holds without looking at it anew.
func (p *provider) still(id *identity) bool {
	keys := p.keys.Load()
	if keys == nil {
		return false
	}
	p.renew(keys)
	now := p.now()
	// A clock that was set back makes nothing last longer.
	return keys.has(id.key) && now.Before(id.until) && id.until.Sub(now) <= identityKept
}

// tooLong returns why a token is not even read, for its length.
func (p *provider) tooLong(token string) error {
	err := fmt.Errorf("%w: it has %d bytes, and a token has at most %d", ErrToken, len(token), maxToken)
	if p != nil && len(token) <= maxToken*2 && p.issued(token) {
		err = fmt.Errorf("%w: it has %d bytes, and a token has at most %d; let the provider put fewer claims in it", ErrIdentity, len(token), maxToken)
	}
	return err
}
