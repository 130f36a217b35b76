package accounts

import (
	"context"
	"encoding/json"
	"fmt"

	"xuncha/ledger"
	"xuncha/sites"
)

// An Event is what an entry of the history of accounts says.
type Event struct {
	Entry ledger.Entry
	// Unreadable tells that nobody can read what the entry says, because it was altered.
	// All below is empty then.
	Unreadable  bool
	AccountID   string
	Username    string
	DisplayName string
	Role        Role
	Divisions   []sites.DivisionCode
	Device      string
	Reason      string
	// Issuer and Subject are whose the account is from then on, where an identity provider
	// keeps it.
	Issuer, Subject string
}

// History returns up to n entries of the history of accounts that match lets
// through, newest first, with a sequence less than before; a before of 0 starts
// at the newest. Where next is not 0, there may be more before it, even if there
// are fewer than n here.
func (s *Service) History(ctx context.Context, before ledger.Sequence, n int, match func(*Event) bool) (out []*Event, next ledger.Sequence, err error) {
	p := &pile{history: ledger.Accounts, before: before}
	_, err = newestFirst(ctx, s.Ledger, []*pile{p}, n, func(e ledger.Entry) (more bool, err error) {
		var c content
		unreadable := readContent(e, &c) != nil
		if unreadable {
			c = content{}
		}
		event := &Event{
			Entry: e, Unreadable: unreadable, AccountID: c.AccountID, Username: c.Username, DisplayName: c.DisplayName, Role: c.Role,
			Divisions: c.Divisions, Device: c.DeviceID, Reason: c.Reason, Issuer: c.Issuer, Subject: c.Subject,
		}
		if match(event) {
			out = append(out, event)
		}
		return len(out) < n, nil
	})
	if err != nil {
		return nil, 0, err
	}
	if !p.empty() {
		next = p.before
	}
	return out, next, nil
}

// readContent reads what an entry says.
func readContent(e ledger.Entry, into any) error {
	if err := json.Unmarshal(ledger.Content(e.Record), into); err != nil {
		return fmt.Errorf("%s at sequence %d: %w: %v", e.History, e.Sequence, ledger.ErrBadRecord, err)
	}
	return nil
}

// CheckEntry returns an error where an entry of the history of accounts cannot be read.
func CheckEntry(e ledger.Entry) error { return new(state).add(e) }
