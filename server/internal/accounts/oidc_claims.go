package accounts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"xuncha/internal/texts"
	"xuncha/sites"
)

// unusable is the error for a claim of a good token that no account can be made of.
func unusable(claim, format string, args ...any) error {
	return &sites.FieldError{Field: "claims." + claim, Err: fmt.Errorf("%w: it "+format, append([]any{ErrIdentity}, args...)...)}
}

// read returns what the claims of a good token mean.
func (p *provider) read(span tokenSpan, claims map[string]any) (*identity, error) {
	sub, _ := claims["sub"].(string)
	switch {
	case sub == "":
		return nil, unusable("sub", "is missing")
	case utf8.RuneCountInString(sub) > MaxSubject:
		return nil, unusable("sub", "has more than %d characters", MaxSubject)
	case span.issued.IsZero(): // nobody could tell which of two tokens has the role of today
		return nil, unusable("iat", "is missing")
	case span.expires.Sub(span.issued) > maxTokenLife:
		return nil, unusable("exp", "lies more than %d hours after iat", int(maxTokenLife.Hours()))
	}
	id := &identity{subject: sub, span: span}
	names, err := textsIn(claims, p.UsernameClaim)
	if err != nil || len(names) != 1 {
		return nil, unusable(p.UsernameClaim, "is no username")
	}
	if id.username, err = identityUsername(names[0]); err != nil {
		return nil, unusable(p.UsernameClaim, "%v", err)
	}
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
		code := sites.DivisionCode(c).Shortest()
		if _, err := sites.ParseDivisionCode(string(code)); err != nil {
			id.strange = append(id.strange, spelled(c))
		} else if !slices.Contains(id.divisions, code) {
			id.divisions = append(id.divisions, code)
		}
	}
	switch n := len(id.divisions); {
	case len(codes) == 0:
		return nil, unusable(p.DivisionsClaim, "names no division")
	case n == 0:
		return nil, unusable(p.DivisionsClaim, "has %s, which is no code of a division", id.strange[0])
	case n > MaxDivisions:
		return nil, unusable(p.DivisionsClaim, "names %d divisions, more than %d", n, MaxDivisions)
	}
	slices.Sort(id.divisions)
	return id, nil
}

// MaxIdentityUsername is the greatest length, in characters, of a username that an
// identity provider gives.
const MaxIdentityUsername = 128

// signsOfNames are what a username of a provider may have beside letters and digits, as
// e-mail addresses have them. What means something to shells, paths and spreadsheets is
// not among them.
const signsOfNames = "._-+@#'"

// identityUsername returns a provider's username as records have it: in lower case, of the
// usual width and in form NFC (RFC 8265 section 3.3), so that two that look the same to
// those rules are the same.
func identityUsername(name string) (string, error) {
	if len(name) > 4*MaxIdentityUsername {
		return "", fmt.Errorf("has more than %d characters", MaxIdentityUsername)
	}
	out, err := precis.UsernameCaseMapped.String(name)
	if err != nil {
		return "", errors.New("is no username by RFC 8265")
	}
	if utf8.RuneCountInString(out) > MaxIdentityUsername {
		return "", fmt.Errorf("has more than %d characters", MaxIdentityUsername)
	}
	for i, r := range out {
		plain := unicode.IsLetter(r) || unicode.IsDigit(r)
		switch {
		case i == 0 && !plain:
			return "", errors.New("is no username: it must begin with a letter or a digit")
		case !plain && !unicode.IsMark(r) && !strings.ContainsRune(signsOfNames, r):
			return "", fmt.Errorf("is no username: beside letters and digits it may have %s", signsOfNames)
		}
	}
	if who := reserved[out]; who != "" {
		return "", fmt.Errorf("is %s, which stands for %s", out, who)
	}
	return out, nil
}

// rostered returns the divisions of the identity that the roster knows, now, for later or
// from before. Others of the token are passed over, and told, so that a code that is
// mistyped or not imported yet keeps nobody from working where it should be. Before any
// division is imported, none can be known, and all hold: somebody has to import them.
func (s *Service) rostered(id *identity) ([]sites.DivisionCode, error) {
	known, strange := id.divisions, id.strange
	if s.Roster != nil {
		if r := s.Roster(); r.HasDivisions() {
			known = nil
			for _, code := range id.divisions {
				if r.Knows(code) {
					known = append(known, code)
				} else {
					strange = append(strange[:len(strange):len(strange)], string(code))
				}
			}
		}
	}
	if len(known) == 0 {
		return nil, unusable(s.provider.DivisionsClaim, "names %s, which is not on the roster", strange[len(strange)-1])
	}
	if len(strange) > 0 {
		s.provider.pass(strange)
	}
	return known, nil
}

// maxPassed is how many codes are told at once.
const maxPassed = 10

// pass tells codes of divisions that were passed over.
func (p *provider) pass(codes []string) {
	p.mu.Lock()
	age := p.now().Sub(p.passed)
	tell := p.Passed != nil && (age < 0 || age >= troubleEvery)
	if tell {
		p.passed = p.now()
	}
	p.mu.Unlock()
	if tell {
		p.Passed(codes[:min(len(codes), maxPassed)])
	}
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
