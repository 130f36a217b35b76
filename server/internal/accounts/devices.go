package accounts

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"xuncha/ledger"
)

// devicesPrefix begins the names of all devices among the store's secrets.
const devicesPrefix = "device/"

func deviceSecret(account, device string) string { return devicesPrefix + account + "/" + device }

// A deviceRecord is what is stored of a device that is signed in. Of its tokens
// only hashes are; the tokens have 256 random bits, so a plain hash hides them.
type deviceRecord struct {
	Name       string    `json:"name"`
	Generation int64     `json:"generation"`
	Expires    time.Time `json:"expires"`
	// Family is the hash of what all refresh tokens of the device have in
	// common: a token that has it, and is not the current one, was spent.
	Family []byte `json:"family"`
	// Current is the hash of the one that has not been spent.
	Current []byte `json:"current"`
	// Spent and Retry are the hashes of the token spent last and of the id with
	// which it was: whoever has both gets the answer once more.
	Spent []byte `json:"spent,omitempty"`
	Retry []byte `json:"retry,omitempty"`
	// Former is the hash of what earlier tokens of the device had in common, before Family
	// took its place.
	Former []byte `json:"former,omitempty"`
}

// errDevice means that what is stored of a device is nothing that this version has
// stored. Whoever has it signs in again.
var errDevice = fmt.Errorf("%w: what is stored of its device cannot be read", ErrToken)

// readDevice reads what is stored of a device.
func readDevice(value []byte) (d deviceRecord, err error) {
	if json.Unmarshal(value, &d) != nil || len(d.Family) != sha256.Size || len(d.Current) != sha256.Size {
		return deviceRecord{}, errDevice
	}
	return d, nil
}

// forgetDevices removes the account's devices that are not of the generation, and those
// that cannot be read. All are signed out already, so what is left is only litter.
func (s *Service) forgetDevices(ctx context.Context, account string, generation int64) {
	var names []string
	_ = s.Secrets.Secrets(ctx, deviceSecret(account, ""), func(name string, value []byte) error {
		if d, err := readDevice(value); err != nil || d.Generation != generation {
			names = append(names, name)
		}
		return nil
	})
	for _, name := range names {
		_ = s.Secrets.DeleteSecret(ctx, name)
	}
}

// forgottenAfter is how long a device stays stored that has expired: no clock that is put back
// a little makes it one that has not.
const forgottenAfter = 24 * time.Hour

// A Forgetting is what ForgetDevices has done.
type Forgetting struct {
	// Seen is how many devices were looked at, and Removed how many are not stored any more.
	Seen, Removed int
	// Next is where to go on; empty where all were looked at.
	Next string
}

// ForgetDevices looks at up to n devices after one that was returned as Next, and removes
// those that are signed out: by another password, because their account is disabled, or
// because they have not refreshed their tokens until a day before the time that is believed,
// which is zero where none is.
func (s *Service) ForgetDevices(ctx context.Context, after string, n int, believed time.Time) (f Forgetting, err error) {
	st := s.projection.State() // before what is stored is read: it may be older than that, but not newer
	page, err := s.Secrets.SecretsAfter(ctx, devicesPrefix, after, n)
	if err != nil {
		return f, err
	}
	for _, secret := range page {
		if st.isOver(secret, believed) {
			if err := s.Secrets.DeleteSecret(ctx, secret.Name); err != nil {
				return f, err
			}
			f.Removed++
		}
		f.Seen++
		f.Next = secret.Name
	}
	if len(page) < n {
		f.Next = ""
	}
	return f, nil
}

// isOver reports whether a device is signed out for good. Of one that cannot be read, or is
// nobody's, it says no: those are found by a check.
func (st *state) isOver(secret Secret, believed time.Time) bool {
	account, _, _ := strings.Cut(strings.TrimPrefix(secret.Name, devicesPrefix), "/")
	a, ok := st.byID.Get(account)
	d, err := readDevice(secret.Value)
	if !ok || err != nil {
		return false
	}
	expired := !believed.IsZero() && believed.Sub(d.Expires) > forgottenAfter
	return expired || !a.Disabled.IsZero() || d.Generation < a.generation
}

// Logout signs the caller's device out. It is ErrKeptElsewhere for a caller whose
// token is not the server's own.
func (s *Service) Logout(ctx context.Context, c Caller) error {
	ctx = ledger.WithReserve(ctx)
	if c.Account.External() {
		return ErrKeptElsewhere // which has given the token, and takes it back
	}
	// The access token, with which a repeat comes, is valid until it is on record.
	if err := s.Secrets.DeleteSecret(ctx, deviceSecret(c.Account.ID, c.Device)); err != nil {
		return err
	}
	return s.revoke(ctx, c.Account, c.Device, "logout")
}

// reused signs a device out of which a refresh token was used twice.
func (s *Service) reused(ctx context.Context, a *Account, device string) error {
	// A repeat would not be known for one without the device, so this is on record first.
	if err := s.revoke(ctx, a, device, "reuse"); err != nil {
		return err
	}
	return s.Secrets.DeleteSecret(ctx, deviceSecret(a.ID, device))
}

// revoke puts on record that a device is signed out. Where nothing can be added to the
// history of accounts, Unrecorded gets it instead: a phone that was lost is not to stay
// signed in until somebody has repaired the history.
func (s *Service) revoke(ctx context.Context, a *Account, device, reason string) error {
	_, _, err := s.change(ctx, By{Account: a.Username}, KindDeviceRevoked, func(*state) (*content, error) {
		return &content{AccountID: a.ID, Username: a.Username, DeviceID: device, Reason: reason}, nil
	})
	if !errors.Is(err, ledger.ErrAltered) {
		return err
	}
	if s.Unrecorded != nil {
		s.Unrecorded(a.Username, device, reason, err)
	}
	return nil
}

// isSignedOut returns ErrToken where an access token's device is signed out. While
// nothing can be added to the history of accounts, only the device itself tells.
func (s *Service) isSignedOut(ctx context.Context, account, device string) error {
	out := s.projection.State().signedOut(device)
	if !out && s.Altered() != nil {
		_, _, err := s.Secrets.Secret(ctx, deviceSecret(account, device))
		out = errors.Is(err, ErrNoSecret)
	}
	if out {
		return fmt.Errorf("%w: its device is signed out", ErrToken)
	}
	return nil
}
