package accounts

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"xuncha/ledger"
	"xuncha/sites"
)

// KindAccessed is the kind of the entries of the histories of accesses.
const KindAccessed ledger.Kind = "accessed"

// accessHistories are the histories of accesses by name. A history takes one entry
// after another, so in one alone every server would wait for the others. Entries of
// the first, which earlier versions wrote, stay where they are; none are added.
var accessHistories = func() []ledger.History {
	out := []ledger.History{ledger.Accesses}
	for _, digit := range "0123456789abcdef" {
		out = append(out, ledger.Accesses+"/"+ledger.History(digit))
	}
	return out
}()

// AccessHistory returns the history that has the accesses of the account with the
// username: "accesses/" and the first hexadecimal digit of the username's SHA-256. So
// one account's accesses lie in one history, in their order.
func AccessHistory(username string) ledger.History {
	return accessHistories[1+sha256.Sum256([]byte(username))[0]>>4]
}

// An Access is something that an account looked at.
type Access struct {
	// Method is the call's full name, such as
	// "xuncha.v1.AuditService/ListSiteHistory".
	Method string
	// Site is whose history or photo it was; empty for none.
	Site sites.SiteID
	// Division is what a report was about; empty for none.
	Division sites.DivisionCode
	// CheckIn and Photo, the SHA-256 in hexadecimal, say which photo it was.
	CheckIn, Photo string
}

// An accessContent is what an entry says of an Access. Its keys and their order
// are a promise.
type accessContent struct {
	Method   string             `json:"method"`
	Site     sites.SiteID       `json:"site_id,omitempty"`
	Division sites.DivisionCode `json:"division_code,omitempty"`
	CheckIn  string             `json:"check_in_id,omitempty"`
	Photo    string             `json:"photo_sha256,omitempty"`
}

// AccessWindow is the time in which the same account's looking at the same thing
// in the same way is one access, as when it turns pages: a minute of the clock.
const AccessWindow = time.Minute

// An accessKey is what makes two accesses the same one.
type accessKey struct {
	by     string
	window int64
	access Access
}

// maxAccesses is how many of the latest accesses are known to be on record
// without asking the store.
const maxAccesses = 8192

// Accessed puts on record what the username looks at, and returns once the record
// would survive a power cut: nobody is shown what is not on record.
func (s *Service) Accessed(ctx context.Context, by string, a Access) error {
	now := s.Now()
	key := accessKey{by, now.UnixNano() / int64(AccessWindow), a}
	if s.accessed.Contains(key) {
		return nil
	}
	b, err := json.Marshal(accessContent(a))
	if err != nil {
		return err
	}
	// The id is the same for the same access, so the store keeps it once however
	// many calls and servers there are.
	id := uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "xuncha access\n%s\n%d\n%s", by, key.window, b)).String()
	_, _, err = s.Ledger.Append(ledger.WithReserve(ctx), ledger.Draft{
		History: AccessHistory(by), ID: id, Kind: KindAccessed, Time: now, Account: by, Content: b,
	})
	if err != nil {
		return fmt.Errorf("putting on record what is looked at: %w", err)
	}
	s.accessed.Add(key, struct{}{})
	return nil
}
