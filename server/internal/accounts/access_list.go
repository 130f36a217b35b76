package accounts

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"xuncha/ledger"
)

// A RecordedAccess is an access as it is on record.
type RecordedAccess struct {
	Access
	History  ledger.History
	Sequence ledger.Sequence
	Time     time.Time
	// Account is the username.
	Account string
	Hash    ledger.Hash
}

// An AccessQuery says which accesses a list has.
type AccessQuery struct {
	// Account is whose they are; empty for everybody's.
	Account string
	// Start and End bound their times, from Start to before End. Zero is no bound.
	Start, End time.Time
}

// histories returns the histories that can have such accesses.
func (q AccessQuery) histories() []ledger.History {
	if q.Account == "" {
		return accessHistories
	}
	return []ledger.History{ledger.Accesses, AccessHistory(q.Account)}
}

// An AccessCursor says where a page of a list of accesses begins: for each history that
// the list reads, in their order, with the entry before that sequence; 1 is the end.
// None is the newest page. What is put on record once a list has begun is not on its
// later pages.
type AccessCursor []ledger.Sequence

// Takes reports whether the cursor may be one of the query's.
func (q AccessQuery) Takes(c AccessCursor) bool {
	return len(c) == len(q.histories()) && slices.Min(c) >= 1
}

// An AccessPage is a part of a list of accesses.
type AccessPage struct {
	Accesses []*RecordedAccess
	// Next is where the next page begins; none at the end. There may be more even if this
	// page has fewer than asked for.
	Next AccessCursor
	// Looked is how many entries were looked at.
	Looked int
}

// Accesses returns up to n accesses that the query asks for and match lets through,
// newest first: by their times, those of one time by their histories' names and then by
// their sequences, all from the greatest on. It passes over entries that this version
// does not know or cannot read. A cursor must be one that the query takes.
func (s *Service) Accesses(ctx context.Context, q AccessQuery, from AccessCursor, n int, match func(*RecordedAccess) bool) (AccessPage, error) {
	var piles []*pile
	for i, h := range q.histories() {
		p := &pile{history: h}
		if len(from) > 0 {
			p.before = from[i]
		}
		piles = append(piles, p)
	}
	if len(from) == 0 && !q.End.IsZero() {
		_, err := readAhead(ctx, s.Ledger, piles, firstRead(len(piles), n))
		if err == nil {
			err = skipFrom(ctx, s.Ledger, piles, q.End)
		}
		if err != nil {
			return AccessPage{}, err
		}
	}
	var page AccessPage
	var err error
	page.Looked, err = newestFirst(ctx, s.Ledger, piles, n, func(e ledger.Entry) (more bool, err error) {
		if e.Time.Before(q.Start) {
			return false, errEnd
		}
		if a, ok := readAccess(e); ok && q.has(a) && match(a) {
			page.Accesses = append(page.Accesses, a)
		}
		return len(page.Accesses) < n, nil
	})
	if err != nil {
		return AccessPage{}, err
	}
	if slices.ContainsFunc(piles, func(p *pile) bool { return !p.empty() }) {
		for _, p := range piles {
			page.Next = append(page.Next, p.before)
		}
	}
	return page, nil
}

// has reports whether the access is one that the query asks for.
func (q AccessQuery) has(a *RecordedAccess) bool {
	return (q.Account == "" || a.Account == q.Account) &&
		!a.Time.Before(q.Start) && (q.End.IsZero() || a.Time.Before(q.End))
}

// readAccess returns the access that an entry is of, if this version can tell.
func readAccess(e ledger.Entry) (*RecordedAccess, bool) {
	var c accessContent
	if e.Kind != KindAccessed || json.Unmarshal(ledger.Content(e.Record), &c) != nil {
		return nil, false
	}
	return &RecordedAccess{
		Access: Access(c), History: e.History, Sequence: e.Sequence, Time: e.Time, Account: e.Account, Hash: e.Hash,
	}, true
}
