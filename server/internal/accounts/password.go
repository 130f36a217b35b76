package accounts

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"xuncha/ledger"
	"xuncha/sites"
)

// Lengths in characters that a password may have. The least is that of NIST
// SP 800-63B-4, section 3.1.1.2, for passwords beside which nothing else is
// asked for.
const (
	MinPassword = 15
	MaxPassword = 128
)

// The parameters of new hashes, the second choice of OWASP's password storage
// cheat sheet: 19 MiB, 2 passes, 1 lane. A hash names its own, so they can be
// raised at any time.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
	argonLanes  = 1
	saltBytes   = 16
	keyBytes    = 32
)

// Hashes with other parameters than these bounds are not computed: a store that
// was tampered with must not use up the server's memory.
const (
	maxArgonMemory = 256 << 10 // KiB
	maxArgonPasses = 16
	maxArgonLanes  = 16
)

// CheckPassword returns what is wrong with a new password: an ErrWeakPassword of the field.
func CheckPassword(field, password, username string) error {
	n := utf8.RuneCountInString(password)
	if n < MinPassword || n > MaxPassword || !utf8.ValidString(password) || strings.EqualFold(password, username) {
		return &sites.FieldError{Field: field, Err: fmt.Errorf("%w: it must have %d to %d characters and not be the username", ErrWeakPassword, MinPassword, MaxPassword)}
	}
	if isCommon(password, username) {
		return &sites.FieldError{Field: field, Err: fmt.Errorf("%w: it is made of what is commonly used", ErrWeakPassword)}
	}
	return nil
}

// hashPassword returns the hash in the PHC string format:
//
//	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<key>
//
// with salt and key in base64 without padding.
func (s *Service) hashPassword(password string) string {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails
	key := s.argon([]byte(password), salt, argonPasses, argonMemory, argonLanes, keyBytes)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// errPassword means that what is stored of a password is nothing that this version has
// stored. It is no fault of the caller's.
var errPassword = fmt.Errorf("%w: what is stored of a password cannot be read", ledger.ErrBadRecord)

// An argon computes a hash, as argon2.IDKey does.
type argon = func(password, salt []byte, passes, memory uint32, lanes uint8, length uint32) []byte

// An argonHash is a hash with its parameters.
type argonHash struct {
	memory, passes uint32
	lanes          uint8
	salt, key      []byte
}

// parseHash reads what hashPassword has written.
func parseHash(text string) (h argonHash, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errPassword
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.passes, &h.lanes); err != nil ||
		h.memory > maxArgonMemory || h.passes < 1 || h.passes > maxArgonPasses || h.lanes < 1 || h.lanes > maxArgonLanes {
		return h, errPassword
	}
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return h, errPassword
	}
	if h.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(h.key) < 16 || len(h.key) > 64 {
		return h, errPassword
	}
	return h, nil
}

// matches reports whether the password is the one that was hashed.
func (s *Service) matches(hash, password string) (bool, error) {
	h, err := parseHash(hash)
	if err != nil {
		return false, err
	}
	got := s.argon([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(got, h.key) == 1, nil
}

// nobodys is a hash that no password has. Whoever signs in as nobody waits for
// it to be compared, so that the time tells them nothing.
var nobodys = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes,
	base64.RawStdEncoding.EncodeToString(make([]byte, saltBytes)), base64.RawStdEncoding.EncodeToString(make([]byte, keyBytes)))
