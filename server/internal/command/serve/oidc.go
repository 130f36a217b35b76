package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"time"

	"xuncha/client"
	"xuncha/server/internal/accounts"
)

// oidcConfig names the identity provider whose tokens the server accepts beside its
// own.
type oidcConfig struct {
	Issuer         string            `name:"oidc-issuer" placeholder:"URL" help:"Take the tokens of the OpenID Connect provider with this address, whose users need no other account."`
	Audience       string            `name:"oidc-audience" placeholder:"NAME" help:"Take those tokens alone that are for this app: its client id at the provider."`
	UsernameClaim  string            `name:"oidc-username-claim" default:"preferred_username" placeholder:"CLAIM" help:"Claim with the username, which records will have for ever. Default: ${default}."`
	RoleClaim      string            `name:"oidc-role-claim" default:"xuncha_role" placeholder:"CLAIM" help:"Claim with the role; realm_access.roles leads into an object. Default: ${default}."`
	DivisionsClaim string            `name:"oidc-divisions-claim" default:"xuncha_divisions" placeholder:"CLAIM" help:"Claim with the codes of the divisions. Default: ${default}."`
	Role           map[string]string `name:"oidc-role" placeholder:"VALUE=ROLE;…" help:"What the values of the role's claim mean, such as town-officers=officer;bureau=head. Default: the roles' own names: officer, head, auditor, admin."`
	Clients        []string          `name:"oidc-client" placeholder:"NAME" help:"Take a token for --oidc-audience also where it was given to this other app of the provider (its claim azp); may be given several times. Default: none."`
	Only           bool              `name:"oidc-only" help:"Take no passwords, and no tokens but the provider's."`
}

// provider returns the provider, or nil for none. The error names the flag.
func (c oidcConfig) provider() (*accounts.IdentityProvider, error) {
	if c.Issuer == "" {
		switch {
		case c.Only:
			return nil, errors.New("--oidc-only: needs --oidc-issuer")
		case c.Audience != "":
			return nil, errors.New("--oidc-audience: needs --oidc-issuer")
		case len(c.Clients) > 0:
			return nil, errors.New("--oidc-client: needs --oidc-issuer")
		}
		return nil, nil
	}
	if err := checkIssuer(c.Issuer); err != nil {
		return nil, fmt.Errorf("--oidc-issuer %s: %w", c.Issuer, err)
	}
	if c.Audience == "" {
		return nil, errors.New("--oidc-audience: is missing; without it, tokens for any other app of the provider would be taken")
	}
	p := &accounts.IdentityProvider{
		Issuer: c.Issuer, Audience: c.Audience, Clients: c.Clients, UsernameClaim: c.UsernameClaim, RoleClaim: c.RoleClaim,
		DivisionsClaim: c.DivisionsClaim, RoleOf: map[string]accounts.Role{}, Only: c.Only,
	}
	for value, role := range c.Role {
		if !slices.Contains(accounts.Roles, accounts.Role(role)) {
			return nil, fmt.Errorf("--oidc-role %s=%s: there is no role %s; want officer, head, auditor or admin", value, role, role)
		}
		p.RoleOf[value] = accounts.Role(role)
	}
	return p, nil
}

// checkIssuer returns an error for an address where somebody on the way could replace
// the provider's keys with their own.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	switch {
	case err != nil:
		return err
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("want https:// and a host")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("an issuer has neither a query nor a fragment")
	case u.Scheme == "http" && !client.IsLoopback(net.JoinHostPort(u.Hostname(), "0")):
		return errors.New("want https://, because whoever can change what is on the way could give out tokens")
	}
	return nil
}

// discoverPatience is how long the server waits at its start for the provider's keys, so
// that its first callers need not.
const discoverPatience = 2 * time.Second

// discover asks the provider for its keys.
func (r *Running) discover() {
	ctx, cancel := context.WithTimeout(r.beside, discoverPatience)
	defer cancel()
	_ = r.people.Discover(ctx) // what is wrong is logged, and it is asked again when a token comes
}

// logProvider returns what logs what is wrong with the provider.
func logProvider(log *slog.Logger) func(trouble error, refused int64) {
	return func(trouble error, refused int64) {
		if trouble == nil {
			log.Info("the identity provider answers again", "refused", refused)
			return
		}
		log.Error("the identity provider cannot be used; it is asked again when one of its tokens comes", "error", trouble.Error(), "refused", refused)
	}
}

// logPassedDivisions returns what logs codes of divisions that tokens name and nobody knows.
func logPassedDivisions(log *slog.Logger) func(codes []string) {
	return func(codes []string) {
		log.Warn("a token of the identity provider names divisions that are not on the roster; they are passed over", "codes", codes)
	}
}
