package rpc

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/google/uuid"

	"xuncha/ledger/ledgertest"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/accounts/accountstest"
	"xuncha/server/internal/accounts/oidctest"
	"xuncha/sites"
)

// TestVisitsOfIdentities ensures that an officer whom an identity provider gives another
// county loses no visit, whether the phone went by what the provider says or by what this
// server knew when the visit was.
func TestVisitsOfIdentities(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	wang := oidctest.User{ID: "f2b6c6ba", Username: "wang.fang", Name: "王芳", Claims: map[string]any{"xuncha_role": "officer", "xuncha_divisions": "511602"}}
	provider := oidctest.Start(t, wang)
	var ahead time.Duration
	now := func() time.Time { return time.Now().Add(ahead) }
	people := must(accounts.Open(t.Context(), accounts.Config{
		Ledger: ledgertest.New(t), Secrets: new(accountstest.MemorySecrets), Now: now, NewID: uuid.NewString, Random: rand.Reader,
		Provider: &accounts.IdentityProvider{
			Issuer: provider.Issuer, Audience: oidctest.Audience,
			UsernameClaim: "preferred_username", RoleClaim: "xuncha_role", DivisionsClaim: "xuncha_divisions",
		},
	}))(t)
	tokens := provider.SignIn(t, oidctest.Audience, wang)
	must(people.Verify(t.Context(), tokens.ID))(t)
	wang.Claims["xuncha_divisions"] = "511603"
	provider.SetUsers(t, wang)
	ahead = 20 * time.Second // for the phone calls with it later
	var given time.Time
	var caller accounts.Caller
	for caller.Account == nil || caller.Account.Divisions[0] != "511603" { // tokens know no parts of a second
		tokens, given = provider.Refresh(t, oidctest.Audience, tokens), time.Now()
		caller = must(people.Verify(t.Context(), tokens.ID))(t)
	}
	ahead = time.Hour
	s := &scope{ctx: t.Context(), config: &w.config, caller: &caller, rosterAt: w.config.Roster.Roster(), now: now()}
	for _, c := range []struct {
		name        string
		at          time.Time
		here, there bool // in which of the two counties the visit may have been
	}{
		{"before the token", given.Add(-time.Hour), true, false},
		{"between the token and the first call with it", given.Add(10 * time.Second), true, true},
		{"after that", given.Add(40 * time.Minute), false, true},
	} {
		for i, want := range []bool{c.here, c.there} {
			site := must(s.rosterAt.SiteEver(sites.SiteID(areas[i].site)))(t)
			if err := s.visited("site_id", areas[i].site, site, c.at); (err == nil) != want {
				t.Errorf("%s, in %s: got %v, want %t", c.name, areas[i].division, err, want)
			}
		}
	}
}
