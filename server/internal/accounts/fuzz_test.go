package accounts

import (
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
)

// hasher hashes passwords as a service does.
var hasher = &Service{argon: argon2.IDKey}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"RSA","kid":7},null]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","x5c":["AA"],"key_ops":["verify"]}]}`))
	f.Add([]byte(`{"keys":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeySet(b, time.Now())
		if err == nil && len(keys.keys) == 0 {
			t.Error("there is no key, and no error")
		}
		if err != nil {
			return
		}
		for _, k := range keys.keys {
			if k.public == nil || k.print == "" || !keys.has(k.print) {
				t.Errorf("got %+v", k)
			}
		}
	})
}

func FuzzIdentityToken(f *testing.F) {
	f.Add("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2kiLCJhdWQiOiJhIiwiZXhwIjoxZTkwfQ.AA")
	f.Add("e30.e30.")
	p := newProvider(IdentityProvider{Issuer: "https://i", Audience: "a"}, func() time.Time { return time.Unix(1_800_000_000, 0) })
	f.Fuzz(func(t *testing.T, token string) {
		p.issued(token)
		if read, err := p.parse(token); err == nil && !read.span.expires.After(p.now()) {
			t.Errorf("%q is taken after it has expired", token)
		}
	})
}

func FuzzRefreshToken(f *testing.F) {
	f.Add("6f1c.7a.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("...")
	f.Add("a/../b.c.d.e")
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := parseRefreshToken(text); err == nil && token.String() != text {
			t.Errorf("%q is read as %q", text, token.String())
		}
	})
}

func FuzzPasswordHash(f *testing.F) {
	f.Add(nobodys)
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=8,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, hash string) {
		if ok, err := hasher.matches(hash, "password"); ok && err != nil {
			t.Errorf("%q matches, with error %v", hash, err)
		}
	})
}

func TestHash(t *testing.T) {
	hash := hasher.hashPassword("密码 correct horse")
	for password, want := range map[string]bool{"密码 correct horse": true, "密码 correct horsf": false, "": false} {
		if ok, err := hasher.matches(hash, password); ok != want || err != nil {
			t.Errorf("%q: got %v, %v; want %v", password, ok, err, want)
		}
	}
	// Nobody has it.
	if ok, err := hasher.matches(nobodys, ""); ok || err != nil {
		t.Errorf("nobody's password: got %v, %v", ok, err)
	}
}
