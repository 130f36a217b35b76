package accounts

import (
	"fmt"
	"iter"
	"time"

	"github.com/tidwall/btree"

	"xuncha/ledger"
	"xuncha/sites"
)

// A state is all accounts as of an entry of their history. It never changes once made.
// One made from another shares with it what is the same in both, so a change costs the
// same however many accounts there are.
type state struct {
	byID   btree.Map[string, *Account]
	byName btree.Map[string, *Account]
	// bySubject has the accounts under the subject's key, also under those of subjects that
	// they were moved away from: then the account is another's, or has a password.
	bySubject btree.Map[string, *Account]
	// changed is when an account was created, changed or disabled last.
	changed time.Time
	// revoked are the devices that were signed out lately, with when. Whoever was
	// signed out longer ago than an access token lives has none.
	revoked btree.Map[string, time.Time]
	// revocations are the same, by when.
	revocations btree.Map[string, string]
}

// key returns the subject as one text. No issuer, which is a URL, has a line break.
func (s subject) key() string { return s.issuer + "\n" + s.id }

// revocation returns the text by which the entry that signs out a device is ordered.
func revocation(q ledger.Sequence) string { return fmt.Sprintf("%020d", q) }

// clone returns a state that can be changed while others read st. Two of them must not
// be made at once, which the projection sees to.
func (st *state) clone() *state {
	return &state{
		byID: *st.byID.Copy(), byName: *st.byName.Copy(), bySubject: *st.bySubject.Copy(), changed: st.changed,
		revoked: *st.revoked.Copy(), revocations: *st.revocations.Copy(),
	}
}

// apply returns the state after the entries.
func (st *state) apply(entries []ledger.Entry) (*state, error) {
	out := st.clone()
	for _, e := range entries {
		if err := out.add(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add changes the state by one entry. A repair, and what one has set aside, changes
// nothing.
func (st *state) add(e ledger.Entry) error {
	if e.Kind == ledger.KindRepaired || e.Kind == ledger.KindSetAside {
		return nil
	}
	var c content
	if err := readContent(e, &c); err != nil {
		return err
	}
	a := &Account{ID: c.AccountID, Username: c.Username, Created: e.Time}
	old, known := st.byID.Get(c.AccountID)
	if known {
		*a = *old
	}
	switch e.Kind {
	case KindCreated, KindChanged:
		a.DisplayName, a.Role, a.Divisions = c.DisplayName, c.Role, c.Divisions
		a.subject, a.asOf = subject{c.Issuer, c.Subject}, c.TokenTime
		if a.asOf.After(e.Time) {
			a.asOf = e.Time // by a clock that was ahead: what is told later is newer
		}
		a.shown, st.changed = e.Sequence, e.Time
		if known {
			if a.subject != old.subject {
				// Whatever it has signed in with until now is worth nothing any more.
				a.generation = int64(e.Sequence)
				if old.External() {
					st.bySubject.Set(old.subject.key(), a)
				}
			}
			from := e.Time
			if !c.TokenTime.IsZero() && c.TokenTime.Before(from) {
				from = c.TokenTime
			}
			a.remember(old, from, e.Time)
		}
	case KindDisabled:
		a.Disabled = e.Time
		a.shown, st.changed = e.Sequence, e.Time
	case KindPasswordChanged, KindPasswordReset:
		a.generation = int64(e.Sequence)
	case KindDeviceRevoked:
		st.revoked.Set(c.DeviceID, e.Time)
		st.revocations.Set(revocation(e.Sequence), c.DeviceID)
	default:
		return fmt.Errorf("%s at sequence %d: %w: unknown kind %q", e.History, e.Sequence, ledger.ErrBadRecord, e.Kind)
	}
	st.byID.Set(a.ID, a)
	st.byName.Set(a.Username, a)
	if a.External() {
		st.bySubject.Set(a.subject.key(), a)
	}
	st.forget(e.Time)
	return nil
}

// forget drops the devices that were signed out so long ago that their tokens have
// expired.
func (st *state) forget(now time.Time) {
	expired := func(at time.Time) bool { return now.Sub(at) > 2*AccessLifetime }
	for {
		first, device, ok := st.revocations.Min()
		if !ok {
			return
		}
		at, ok := st.revoked.Get(device)
		if ok && !expired(at) {
			return
		}
		st.revocations.Delete(first)
		st.revoked.Delete(device)
	}
}

// find returns the account with the id.
func (st *state) find(id string) (*Account, error) {
	a, ok := st.byID.Get(id)
	if !ok {
		return nil, &sites.FieldError{Field: "account_id", Err: ErrUnknown}
	}
	return a, nil
}

// named returns the account with the username, or nil.
func (st *state) named(username string) *Account {
	a, _ := st.byName.Get(username)
	return a
}

// after gives the accounts with a username greater than the one given, by username.
func (st *state) after(username string) iter.Seq[*Account] {
	return func(yield func(*Account) bool) {
		st.byName.Ascend(username, func(name string, a *Account) bool { return name == username || yield(a) })
	}
}

// of returns the account of the identity provider's subject, or nil.
func (st *state) of(s subject) *Account {
	if a, ok := st.bySubject.Get(s.key()); ok && a.subject == s {
		return a
	}
	return nil
}

// left reports whether an account was moved away from the identity provider's subject.
func (st *state) left(s subject) bool {
	a, ok := st.bySubject.Get(s.key())
	return ok && a.subject != s
}

// signedOut reports whether the device was signed out lately.
func (st *state) signedOut(device string) bool {
	_, ok := st.revoked.Get(device)
	return ok
}
