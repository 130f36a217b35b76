package accounts

import "golang.org/x/crypto/argon2"

// A Hash is what a password is hashed with.
type Hash struct {
	Passes, Memory uint32
	Lanes          uint8
	Length         uint32
}

// OnHash lets f be called for each password that the service hashes, in its turn. Where
// quick is set, the hash is one that takes no time.
func (s *Service) OnHash(quick bool, f func(password string, h Hash)) {
	s.argon = func(password, salt []byte, passes, memory uint32, lanes uint8, length uint32) []byte {
		f(string(password), Hash{passes, memory, lanes, length})
		if quick {
			passes, memory, lanes = 1, 8, 1
		}
		return argon2.IDKey(password, salt, passes, memory, lanes, length)
	}
}

// Waiting returns how many passwords wait for their turn to be hashed.
func (s *Service) Waiting() int {
	s.hashes.mu.Lock()
	defer s.hashes.mu.Unlock()
	return s.hashes.lines[strangers].n + s.hashes.lines[known].n
}

// Held returns how many tries of a username, which may be nobody's, wait for those before.
func (s *Service) Held(username string) int {
	s.throttle.mu.Lock()
	defer s.throttle.mu.Unlock()
	if g := s.throttle.gates["name/"+username]; g != nil {
		return g.next.held
	}
	return 0
}

// Remembered returns how many failures count for a username.
func (s *Service) Remembered(username string) int {
	t := s.throttle
	b := t.of(s.projection.State().named(username), username, "")[0]
	t.mu.Lock()
	defer t.mu.Unlock()
	return b.counts.get(b.key, s.Now()).n
}

// MaxDevicesFailing is how many devices of an account are counted apart.
const MaxDevicesFailing = maxDevicesFailing
