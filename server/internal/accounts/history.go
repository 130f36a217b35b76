package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"xuncha/ledger"
	"xuncha/sites"
)

// An Event is what an entry of the history of accounts says.
type Event struct {
	Entry       ledger.Entry
	AccountID   string
	Username    string
	DisplayName string
	Role        Role
	Divisions   []sites.DivisionCode
	Device      string
	Reason      string
}

// History returns up to n entries of the history of accounts that match lets
// through, newest first, with a sequence less than before; a before of 0 starts
// at the newest. Where next is not 0, there may be more before it, even if there
// are fewer than n here.
func (s *Service) History(ctx context.Context, before ledger.Sequence, n int, match func(*Event) bool) (out []*Event, next ledger.Sequence, err error) {
	next, err = s.newestFirst(ctx, ledger.Accounts, before, n, func(e ledger.Entry) (more bool, err error) {
		var c content
		if err := readContent(e, &c); err != nil {
			return false, err
		}
		event := &Event{
			Entry: e, AccountID: c.AccountID, Username: c.Username, DisplayName: c.DisplayName, Role: c.Role,
			Divisions: c.Divisions, Device: c.DeviceID, Reason: c.Reason,
		}
		if match(event) {
			out = append(out, event)
		}
		return len(out) < n, nil
	})
	return out, next, err
}

// readContent reads what an entry says.
func readContent(e ledger.Entry, into any) error {
	if err := json.Unmarshal(ledger.Content(e.Record), into); err != nil {
		return fmt.Errorf("%s at sequence %d: %w: %v", e.History, e.Sequence, ledger.ErrBadRecord, err)
	}
	return nil
}

const (
	// readPage is how many entries are read at once at most.
	readPage = 500
	// MaxLooked is how many entries are looked through for one page of an answer. It
	// takes some ten milliseconds.
	MaxLooked = 5000
)

// errEnd says that no entry from here on is wanted.
var errEnd = errors.New("the end")

// newestFirst calls each with the entries of a history, newest first, until it
// wants no more or has seen MaxLooked, and returns the sequence before which to go
// on, or 0 at the end. Where it wants every entry, n are read, and else more and more
// at once.
func (s *Service) newestFirst(ctx context.Context, h ledger.History, before ledger.Sequence, n int, each func(ledger.Entry) (more bool, err error)) (next ledger.Sequence, err error) {
	for left := MaxLooked; left > 0; n *= 2 {
		n = min(n, readPage, left)
		left -= n
		page, err := s.Ledger.Newest(ctx, h, before, n)
		if err != nil {
			return 0, err
		}
		for _, e := range page {
			more, err := each(e)
			if errors.Is(err, errEnd) {
				return 0, nil
			}
			if err != nil {
				return 0, err
			}
			if before = e.Sequence; !more && before > 1 {
				return before, nil
			}
		}
		if len(page) < n || before == 1 {
			return 0, nil
		}
	}
	return before, nil
}
