package accounts

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"xuncha/ledger"
	"xuncha/sites"
)

// KindAccessed is the kind of the entries of the history of accesses.
const KindAccessed ledger.Kind = "accessed"

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
	_, _, err = s.Ledger.Append(ctx, ledger.Draft{
		History: ledger.Accesses, ID: id, Kind: KindAccessed, Time: now, Account: by, Content: b,
	})
	if err != nil {
		return fmt.Errorf("putting on record what is looked at: %w", err)
	}
	s.accessed.Add(key, struct{}{})
	return nil
}

// A RecordedAccess is an access as it is on record.
type RecordedAccess struct {
	Access
	Sequence ledger.Sequence
	Time     time.Time
	// Account is the username.
	Account string
	Hash    ledger.Hash
}

// Accesses returns up to n accesses of the time from start to before end, either
// of which may be zero for no limit, that match lets through, newest first, with
// a sequence less than before; a before of 0 starts at the newest. Where next is
// not 0, there may be more before it, even if there are fewer than n here.
func (s *Service) Accesses(ctx context.Context, before ledger.Sequence, n int, start, end time.Time, match func(*RecordedAccess) bool) (out []*RecordedAccess, next ledger.Sequence, err error) {
	if before == 0 && !end.IsZero() {
		if before, err = s.firstFrom(ctx, ledger.Accesses, end); err != nil {
			return nil, 0, err
		}
	}
	next, err = s.newestFirst(ctx, ledger.Accesses, before, n, func(e ledger.Entry) (more bool, err error) {
		if e.Time.Before(start) {
			return false, errEnd
		}
		if !end.IsZero() && !e.Time.Before(end) {
			return true, nil // it came after the search for the end
		}
		var c accessContent
		if err := readContent(e, &c); err != nil {
			return false, err
		}
		a := &RecordedAccess{
			Access: Access(c), Sequence: e.Sequence, Time: e.Time, Account: e.Account, Hash: e.Hash,
		}
		if match(a) {
			out = append(out, a)
		}
		return len(out) < n, nil
	})
	return out, next, err
}

// firstFrom returns the sequence of the history's first entry that was received at t
// or later, or the one after its newest. The times of a history never run backwards.
func (s *Service) firstFrom(ctx context.Context, h ledger.History, t time.Time) (ledger.Sequence, error) {
	newest, err := s.Ledger.Newest(ctx, h, 0, 1)
	if err != nil || len(newest) == 0 {
		return 0, err
	}
	low, high := ledger.Sequence(1), newest[0].Sequence+1
	for low < high {
		middle := (low + high) / 2
		e, err := s.Ledger.Newest(ctx, h, middle+1, 1)
		if err != nil {
			return 0, err
		}
		if len(e) == 0 || e[0].Time.Before(t) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}
