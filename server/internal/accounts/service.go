package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/argon2"

	"xuncha/ledger"
	"xuncha/sites"
)

// Config is what a Service works with. All fields but Provider, Roster,
// Altered, Unrecorded, Damaged and UsernameTaken are required.
type Config struct {
	// Ledger keeps the histories of accounts and of accesses, and Secrets what no
	// history may hold.
	Ledger  ledger.Store
	Secrets Secrets
	// Now returns the server's clock.
	Now func() time.Time
	// NewID returns a new UUID in lower-case text.
	NewID func() string
	// Random is where keys, tokens and one-time passwords come from, such as
	// crypto/rand's Reader.
	Random io.Reader
	// Provider is whose tokens are taken too; nil for none.
	Provider *IdentityProvider
	// Roster returns the roster as it is known now, which says what divisions there are
	// for the provider's tokens to name; nil where any code may be one.
	Roster func() *sites.Roster
	// Altered has the histories that do not verify; nil where none is known.
	Altered *ledger.Alterations
	// Unrecorded is called for a device that is signed out while its account's history
	// takes no entry of it, with the reason as an entry has it and what hinders; nil for
	// nobody.
	Unrecorded func(username, device, reason string, why error)
	// Damaged is called where something that accounts sign in with cannot be read, and
	// told whose it is and what to do; nil for nobody.
	Damaged func(what string)
	// UsernameTaken is called for each token of the identity provider that is refused
	// because another account has the username, and told whose it says to be; nil for
	// nobody. It may be the same person, at a provider that has moved, or somebody who has
	// chosen the name: only people can tell.
	UsernameTaken func(username, issuer, subject string)
}

// A Service is the accounts with the rules by which they change. Each change is
// one entry of their history. It is safe for concurrent use.
//
// Where the store is full, signing in and out, new tokens and passwords, disabling
// accounts, and the record of who looked at what may use its reserve.
type Service struct {
	Config
	projection *ledger.Projection[*state]

	ring     atomic.Pointer[keyRing]
	keysLost error  // why the keys could not be read when the service began
	keysTurn single // of whoever asks for the keys, or changes them
	// keysFailure is why the store did not tell the keys when it was asked last, and
	// keysFailed when that was. They need keysTurn.
	keysFailure error
	keysFailed  time.Time
	verified    *lru.Cache[string, *claims]
	provider    *provider // nil for none
	identities  *lru.Cache[tokenSum, *identity]
	accessed    *lru.Cache[accessKey, struct{}]
	throttle    *throttle
	hashes      *turns
	argon       argon
	proof       atomic.Pointer[proofKey] // nil for none yet
}

// A Caller is who calls: an account, on one of its devices.
type Caller struct {
	Account *Account
	Device  string

	// expires is when the token does. accounts, keys, provided and verified are by what and
	// when it was found to be good.
	expires  time.Time
	accounts *state
	keys     *keyRing
	provided *keySet
	verified time.Time
}

// The kinds of entries.
const (
	KindCreated         ledger.Kind = "account_created"
	KindChanged         ledger.Kind = "account_changed"
	KindDisabled        ledger.Kind = "account_disabled"
	KindPasswordChanged ledger.Kind = "password_changed"
	KindPasswordReset   ledger.Kind = "password_reset"
	KindDeviceRevoked   ledger.Kind = "device_revoked"
)

// A content is what an entry says. Its keys and their order are a promise.
type content struct {
	AccountID   string               `json:"account_id"`
	Username    string               `json:"username"`
	DisplayName string               `json:"display_name,omitempty"`
	Role        Role                 `json:"role,omitempty"`
	Divisions   []sites.DivisionCode `json:"division_codes,omitempty"`
	DeviceID    string               `json:"device_id,omitempty"`
	// Reason is "logout", or "reuse" where a refresh token was used twice, of a device that
	// was signed out; and what an operator says for whose sake an account was moved.
	Reason string `json:"reason,omitempty"`
	// Issuer, Subject and TokenTime say which token of an identity provider is
	// followed.
	Issuer    string    `json:"issuer,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	TokenTime time.Time `json:"token_time,omitzero"`
	// Request is the SHA-256, in hexadecimal, of what the request says that made the entry,
	// and whose id is the entry's; passwords are not in it. It is empty where the request
	// had no id.
	Request string `json:"request_sha256,omitempty"`
}

// Open reads the history of accounts from the store.
func Open(ctx context.Context, c Config) (*Service, error) {
	s := &Service{Config: c, throttle: newThrottle(), hashes: newTurns(), argon: argon2.IDKey, keysTurn: newSingle()}
	s.projection = ledger.NewProjection(c.Ledger, ledger.Accounts, new(state),
		func(_ context.Context, st *state, entries []ledger.Entry) (*state, error) {
			return st.apply(entries)
		})
	s.projection.Report(c.Altered, c.Now)
	var err error
	if s.verified, err = lru.New[string, *claims](maxVerified); err != nil {
		return nil, err
	}
	if s.accessed, err = lru.New[accessKey, struct{}](maxAccesses); err != nil {
		return nil, err
	}
	if s.identities, err = lru.New[tokenSum, *identity](maxVerified); err != nil {
		return nil, err
	}
	if c.Provider != nil {
		s.provider = newProvider(*c.Provider, c.Now)
	}
	if err := s.projection.Refresh(ctx); err != nil {
		return nil, fmt.Errorf("reading the accounts: %w", err)
	}
	ring, err := s.readKeys(ctx)
	if errors.Is(err, ledger.ErrDamaged) {
		// Whoever need not sign in is served all the same.
		ring, s.keysLost, err = &keyRing{read: s.Now()}, err, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keys of the accounts: %w", err)
	}
	s.ring.Store(ring)
	if err := s.readProofKey(ctx); err != nil {
		return nil, fmt.Errorf("reading the key of devices: %w", err)
	}
	return s, nil
}

// Any reports whether there are accounts, or an identity provider that brings
// them. A server without asks nobody who they are. Where the history of accounts does
// not verify, there were some, whatever can be read of them.
func (s *Service) Any() bool {
	return s.provider != nil || s.projection.State().byID.Len() > 0 || s.projection.Begun() || s.projection.Altered() != nil
}

// KeysLost returns why the keys that sign access tokens could not be read, although the
// store has answered: its bytes were changed. Nobody is signed in then.
func (s *Service) KeysLost() error { return s.keysLost }

// Altered returns a *ledger.AlteredError where the history of accounts does not verify:
// accounts are then what they were before, and nothing changes them.
func (s *Service) Altered() error { return s.projection.Altered() }

// Take notes an entry of the feed; CatchUp applies it where it is of an account.
func (s *Service) Take(e ledger.Entry) error { return s.projection.Take(e) }

// Reread takes in what other servers have changed, whether or not Take has noted it.
func (s *Service) Reread(ctx context.Context) error { return s.projection.Refresh(ctx) }

// CatchUp takes in what other servers have changed: the entries that Take has
// noted, and, every now and then, the keys.
func (s *Service) CatchUp(ctx context.Context) error {
	if err := s.projection.CatchUp(ctx); err != nil {
		return err
	}
	if s.Now().Sub(s.ring.Load().read) < keysEvery {
		return nil
	}
	done, err := s.keysTurn.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	ring, err := s.readKeys(ctx)
	if err == nil {
		s.ring.Store(ring)
		err = s.readProofKey(ctx)
	}
	return err
}

// change appends the entry that decide makes of the accounts as they are, and
// decides anew where they were changed meanwhile. A nil content changes nothing. It
// returns the accounts afterwards.
//
// Where the request has made an entry before, decide is not asked, nothing is changed, and
// again is that entry, which the accounts may not have taken in yet.
func (s *Service) change(ctx context.Context, by By, kind ledger.Kind, decide func(*state) (*content, error)) (after *state, again *ledger.Entry, err error) {
	after, err = s.projection.Change(ctx, func(st *state) (*ledger.Draft, error) {
		// The same request may have come to another server since it was looked for last.
		if again, err = s.repeated(ctx, by); again != nil || err != nil {
			return nil, err
		}
		c, err := decide(st)
		if err != nil || c == nil {
			return nil, err
		}
		if err := by.allows(st, c); err != nil {
			return nil, err
		}
		c.Request = by.Request.Sum
		b, err := json.Marshal(c)
		return &ledger.Draft{ID: by.Request.IDOr(s.NewID), Kind: kind, Time: s.Now(), Account: by.Account, Content: b}, err
	})
	return after, again, err
}

// Get returns the account with the id, or ErrUnknown.
func (s *Service) Get(id string) (*Account, error) { return s.projection.State().find(id) }

// After gives the accounts with a username greater than the one given, by username,
// the disabled ones too. Its cost is that of the accounts that are taken from it.
func (s *Service) After(username string) iter.Seq[*Account] {
	return s.projection.State().after(username)
}

// NewAccount is what is needed to create an account.
type NewAccount struct {
	Username, DisplayName string
	Role                  Role
	Divisions             []sites.DivisionCode
	// Password is the account's own; empty asks for a one-time password.
	Password string
}

// Create creates an account, by whom the username says. It returns a one-time
// password where none was given. A repeat of the request returns another one, and the
// first is void; where that was used or replaced, it returns none.
func (s *Service) Create(ctx context.Context, by By, n NewAccount) (_ *Account, oneTime string, err error) {
	if err := s.takesPasswords(); err != nil {
		return nil, "", err
	}
	by = by.saying("CreateAccount", func(d *ledger.Digester) {
		d.Add(n.Username, n.DisplayName, string(n.Role), strconv.FormatBool(n.Password != ""))
		addCodes(d, n.Divisions)
	})
	// Where the request makes the account just now, the name is taken, and it is a repeat.
	wrong := s.Check(n)
	if again, err := s.repeated(ctx, by); err != nil {
		return nil, "", err
	} else if again != nil {
		return s.createdBefore(ctx, by, again, n.Password)
	}
	if wrong != nil {
		return nil, "", wrong
	}
	a := &Account{
		ID: s.NewID(), Username: n.Username, DisplayName: n.DisplayName, Role: n.Role, Divisions: shortest(n.Divisions),
	}
	// The password first: an account that is there can be signed in to.
	if oneTime, err = s.setPassword(ctx, a.ID, n.Password, by.Request.ID, s.newest); err != nil {
		return nil, "", err
	}
	st, again, err := s.change(ctx, by, KindCreated, func(st *state) (*content, error) {
		return &content{AccountID: a.ID, Username: a.Username, DisplayName: a.DisplayName, Role: a.Role, Divisions: a.Divisions}, taken(st, a)
	})
	if again != nil || err != nil && !mayBeStored(err) {
		// Nobody can find the password of no account; it is only litter.
		err = errors.Join(err, s.Secrets.DeleteSecret(context.WithoutCancel(ctx), passwordSecret(a.ID)))
	}
	if err != nil {
		return nil, "", err
	}
	if again != nil {
		return s.createdBefore(ctx, by, again, n.Password)
	}
	made, err := st.find(a.ID)
	return made, oneTime, err
}

// mayBeStored reports whether an entry may be in the store although appending it has
// failed with the error.
func mayBeStored(err error) bool {
	return errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// A Change is what Update changes of an account; nil leaves it as it is.
type Change struct {
	DisplayName *string
	Role        *Role
	Divisions   []sites.DivisionCode
}

// Update changes an account. The error is ErrLastAdministrator where that leaves a division
// without an administrator who can sign in, unless by forces it.
func (s *Service) Update(ctx context.Context, by By, id string, c Change) (*Account, error) {
	by = by.saying("UpdateAccount", func(d *ledger.Digester) {
		d.Add(id)
		for _, text := range []*string{c.DisplayName, (*string)(c.Role)} {
			if text == nil {
				d.Add("")
			} else {
				d.Add("=" + *text) // an empty one is not the same as none
			}
		}
		addCodes(d, c.Divisions)
	})
	st, again, err := s.change(ctx, by, KindChanged, func(st *state) (*content, error) {
		old, err := st.find(id)
		if err != nil {
			return nil, err
		}
		if old.External() {
			return nil, &sites.FieldError{Field: "account_id", Err: ErrKeptElsewhere}
		}
		a := *old
		if c.DisplayName != nil {
			a.DisplayName = *c.DisplayName
		}
		if c.Role != nil {
			a.Role = *c.Role
		}
		if c.Divisions != nil {
			a.Divisions = shortest(c.Divisions)
		}
		if a.DisplayName == old.DisplayName && a.Role == old.Role && slices.Equal(a.Divisions, old.Divisions) {
			return nil, nil
		}
		// What stays as it is may be of a time with other rules, also where it is sent again.
		changed := c
		if a.DisplayName == old.DisplayName {
			changed.DisplayName = nil
		}
		made := &content{AccountID: id, Username: a.Username, DisplayName: a.DisplayName, Role: a.Role, Divisions: a.Divisions}
		if err := changed.Check(); err != nil {
			return nil, err
		}
		return made, s.staysKept(ctx, by, st, old, &a, made)
	})
	if err != nil {
		return nil, err
	}
	if again != nil {
		return s.accountAfter(ctx, again)
	}
	return st.find(id)
}

// Disable ends an account: it signs in no more, and its tokens are not valid
// from now on. One that is disabled already stays so. The error is ErrLastAdministrator as
// with Update.
func (s *Service) Disable(ctx context.Context, by By, id string) (*Account, error) {
	ctx = ledger.WithReserve(ctx)
	by = by.saying("DisableAccount", func(d *ledger.Digester) { d.Add(id) })
	st, again, err := s.change(ctx, by, KindDisabled, func(st *state) (*content, error) {
		a, err := st.find(id)
		if err != nil || !a.Disabled.IsZero() {
			return nil, err
		}
		after, made := *a, &content{AccountID: id, Username: a.Username}
		after.Disabled = s.Now()
		return made, s.staysKept(ctx, by, st, a, &after, made)
	})
	if err != nil {
		return nil, err
	}
	if err := s.Secrets.DeleteSecret(ctx, passwordSecret(id)); err != nil {
		return nil, err
	}
	s.forgetDevices(ctx, id, -1)
	if again != nil {
		return s.accountAfter(ctx, again)
	}
	return st.find(id)
}
