package accounts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"xuncha/ledger"
)

func passwordSecret(account string) string { return "password/" + account }

// A passwordRecord is what is stored of a password.
type passwordRecord struct {
	Hash string `json:"hash"`
	// OneTime tells that it has to be changed with its first use, until Expires.
	OneTime bool      `json:"one_time,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	// Request is the id of the request that gave the password, for whoever repeats that. It
	// is empty where that had none, and once somebody has chosen another password.
	Request string `json:"request,omitempty"`
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
	who, known := fmt.Sprintf("an account with the id %q, which nobody knows,", id), false
	if a, ok := st.byID.Get(id); ok {
		who, known = "the account "+a.Username, true
	}
	out, mend := fmt.Sprintf("%q lies among what accounts sign in with, and nobody looks for it", name), ""
	switch {
	case name == keysSecret:
		return "the keys of the accounts cannot be read; account replace-keys makes new ones"
	case name == proofSecret:
		return "the key by which devices show that they were signed in cannot be read; account replace-keys makes a new one"
	case kind == "password":
		out, mend = fmt.Sprintf("the password of %s cannot be read", who), "; reset it"
	case kind == "device":
		out, mend = fmt.Sprintf("a device of %s cannot be read", who), "; it has to sign in again"
	}
	if !known {
		return out
	}
	return out + mend
}

// CheckSecrets calls found for each thing that accounts sign in with and that cannot be
// read or is lost, with whose it is and what to do, and never with what is stored. It
// looks at the form alone: nobody can tell whether a hash is that of the right password.
// Servers may be at work meanwhile.
func CheckSecrets(ctx context.Context, store ledger.Store, secrets Secrets, found func(why string)) error {
	people := ledger.NewProjection(store, ledger.Accounts, new(state), func(_ context.Context, st *state, entries []ledger.Entry) (*state, error) {
		return st.apply(entries)
	})
	// Of a history that is damaged there is what came before the fault.
	whole := func() bool { return people.Refresh(ctx) == nil && people.Altered() == nil }
	known := whole()
	before := people.State()
	there := map[string]bool{}
	err := secrets.Secrets(ctx, "", func(name string, value []byte) error {
		there[name] = true
		if !wellFormed(name, value) {
			found(before.unreadable(name))
		}
		return nil
	})
	if errors.Is(err, ledger.ErrDamaged) {
		found("what accounts sign in with cannot be read in whole: " + err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	// An account is made after its password, and ends before it.
	if !known || !whole() {
		return nil
	}
	before.byName.Scan(func(_ string, a *Account) bool {
		now, ok := people.State().byID.Get(a.ID)
		if ok && now.Disabled.IsZero() && !now.External() && !there[passwordSecret(a.ID)] {
			found(fmt.Sprintf("the password of the account %s is missing; reset it", a.Username))
		}
		return true
	})
	return nil
}

// wellFormed reports whether what is stored under the name is what this version stores
// there, as far as that can be seen.
func wellFormed(name string, value []byte) bool {
	kind, of, _ := strings.Cut(name, "/")
	switch {
	case name == keysSecret:
		keys, err := parseKeys(value)
		return err == nil && only(value, &keys) && !slices.ContainsFunc(keys, func(k signingKey) bool { return k.ID == "" || k.Created.IsZero() })
	case name == proofSecret:
		k, err := parseProofKey(value)
		return err == nil && only(value, k) && !k.Created.IsZero()
	case kind == "password":
		r, err := readPassword(value)
		return err == nil && only(value, &r) && r.OneTime != r.Expires.IsZero()
	case kind == "device" && strings.Contains(of, "/"):
		d, err := readDevice(value)
		sum := func(b []byte) bool { return len(b) == 0 || len(b) == sha256.Size }
		return err == nil && only(value, &d) && sum(d.Spent) && sum(d.Retry) && sum(d.Former) && !d.Expires.IsZero()
	}
	return false
}

// only reports whether a JSON text has no other fields than its type.
func only(value []byte, into any) bool {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	return d.Decode(into) == nil
}
