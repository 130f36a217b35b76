package accounts

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

func passwordSecret(account string) string { return "password/" + account }

// A passwordRecord is what is stored of a password.
type passwordRecord struct {
	Hash string `json:"hash"`
	// OneTime tells that it has to be changed with its first use, until Expires.
	OneTime bool      `json:"one_time,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

// readPassword reads what is stored of a password.
func readPassword(value []byte) (r passwordRecord, err error) {
	if json.Unmarshal(value, &r) != nil {
		return passwordRecord{}, errPassword // and the error may quote it
	}
	_, err = parseHash(r.Hash)
	return r, err
}

// damaged tells that what is stored under the name cannot be read.
func (s *Service) damaged(name string) {
	if s.Damaged != nil {
		s.Damaged(s.projection.State().unreadable(name))
	}
}

// unreadable says that the secret with the name cannot be read, and what to do. It does
// not say what is stored.
func (st *state) unreadable(name string) string {
	kind, of, _ := strings.Cut(name, "/")
	id, _, _ := strings.Cut(of, "/")
	who := fmt.Sprintf("the account with the id %q, which is not known", id)
	if a, ok := st.byID.Get(id); ok {
		who = "the account " + a.Username
	}
	switch kind {
	case keysSecret:
		return "the keys of the accounts cannot be read; account replace-keys makes new ones"
	case "password":
		return fmt.Sprintf("the password of %s cannot be read; reset it", who)
	case "device":
		return fmt.Sprintf("a device of %s cannot be read; it has to sign in again", who)
	}
	return fmt.Sprintf("%q is stored among what accounts sign in with, and nobody looks for it", name)
}
