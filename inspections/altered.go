package inspections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

// This file holds what is different where a history does not verify: of a site, of the
// roster, or an entry that nobody has found yet.

// submitAltered answers a check-in of a site whose history does not verify. One that was
// accepted before stays accepted if its entry verifies. Any other has to wait: nothing
// can be added, and nobody can say that it is not there.
func (s *Service) submitAltered(ctx context.Context, c *CheckIn, altered error) (*Stored, bool, error) {
	e, err := s.Ledger.Entry(ctx, c.Site.History(), string(c.ID))
	known, _ := s.Altered.OfEntry(e)
	if errors.Is(err, ledger.ErrNotFound) || err == nil && known {
		err = altered
	}
	if err != nil {
		return nil, false, err
	}
	return s.repeat(ctx, e, c)
}

// restOnRoster are the refusals of a check-in that another roster would not make.
var restOnRoster = []error{sites.ErrSiteUnknown, ErrNotRegistered, ErrNoOrder, ErrBeforeOrder}

// ErrClockDoubtful means that a check-in would be refused because of the time, and that
// the server's clock waits for somebody to confirm it.
var ErrClockDoubtful = errors.New("the server's clock waits to be confirmed")

// restOnClock are the refusals of a check-in that another clock would not make. The time
// of a visit is that of a phone by the server's clock.
var restOnClock = []error{ErrNotRegistered, ErrNoOrder, ErrBeforeOrder, ErrFuture}

// sure returns the refusal of a check-in, or an error that says why it is not for good:
// the roster that it rests on does not verify, and the rest of it may allow the check-in,
// or the clock may be wrong.
func (s *Service) sure(refused error) error {
	if s.Doubtful != nil && s.Doubtful() && slices.ContainsFunc(restOnClock, func(e error) bool { return errors.Is(refused, e) }) {
		return fmt.Errorf("%w: %v", ErrClockDoubtful, refused)
	}
	altered := s.Altered.Of(ledger.Roster)
	if altered != nil && slices.ContainsFunc(restOnRoster, func(e error) bool { return errors.Is(refused, e) }) {
		return altered
	}
	return refused
}

// surelyNot returns the refusal of whoever may not report the visit, or an error that says
// that it is not for good: when the visit was is known by the server's clock.
func (s *Service) surelyNot(refused error) error {
	if s.Doubtful != nil && s.Doubtful() {
		return fmt.Errorf("%w: %v", ErrClockDoubtful, refused)
	}
	return refused
}

// verify returns an *AlteredError where the entry does not follow from the one before it.
// It is for entries of which something final is to be said; all others are checked beside
// the calls.
func (s *Service) verify(ctx context.Context, e ledger.Entry) error {
	altered := func(why string) error {
		return &ledger.AlteredError{Fault: ledger.Fault{History: e.History, Sequence: e.Sequence, Why: why, Since: s.Now()}}
	}
	var before ledger.Head
	if e.Sequence > 1 {
		entries, err := s.Ledger.Entries(ctx, []ledger.Key{{History: e.History, Sequence: e.Sequence - 1}})
		if errors.Is(err, ledger.ErrNotFound) {
			return altered("the entry before it is missing")
		}
		if err != nil {
			return err
		}
		before = entries[0].Head()
	}
	if _, err := before.Follow(e); err != nil {
		return altered(err.Error())
	}
	return nil
}

// readable reads check-ins, and leaves out those whose entries are missing, do not verify,
// were set aside or cannot be read. It returns how many those are.
func (s *Service) readable(ctx context.Context, keys []ledger.Key) (out []*Stored, altered int, err error) {
	entries, err := s.Ledger.Entries(ctx, keys)
	if errors.Is(err, ledger.ErrNotFound) {
		entries, err = s.present(ctx, keys)
	}
	if err != nil {
		return nil, 0, err
	}
	out = make([]*Stored, 0, len(keys))
	for _, e := range entries {
		c, err := Parse(e)
		if altered, aside := s.Altered.OfEntry(e); err == nil && !altered && !aside {
			out = append(out, c)
		}
	}
	return out, len(keys) - len(out), nil
}

// present returns those of the entries that are there.
func (s *Service) present(ctx context.Context, keys []ledger.Key) (out []ledger.Entry, err error) {
	for _, k := range keys {
		e, err := s.Ledger.Entries(ctx, []ledger.Key{k})
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, e...)
	}
	return out, nil
}

// SiteAltered reports whether the history of the site does not verify.
func (s *Service) SiteAltered(id sites.SiteID) bool { return s.Altered.Of(id.History()) != nil }

// sitesAltered counts the sites whose histories do not verify, by each division in which
// they stand at the time. It is nil where there are none.
func (s *Service) sitesAltered(roster *sites.Roster, at time.Time) map[sites.DivisionCode]int64 {
	var out map[sites.DivisionCode]int64
	for _, h := range s.Altered.Histories() {
		id, ok := sites.SiteOf(h)
		if !ok {
			continue
		}
		site, err := roster.Site(id)
		if err != nil {
			continue // it is in no report of this roster
		}
		if out == nil {
			out = map[sites.DivisionCode]int64{}
		}
		for _, code := range roster.Path(site.PlaceAt(at).Division, at) {
			out[code]++
		}
	}
	return out
}
