package accounts

import (
	"testing"

	"golang.org/x/crypto/argon2"
)

// hasher hashes passwords as a service does.
var hasher = &Service{argon: argon2.IDKey}

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
