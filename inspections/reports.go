package inspections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
)

// A Question is a coverage query, as known at a time or now.
type Question struct {
	Division sites.DivisionCode
	// Start and End bound the window, [Start, End), which is no longer than
	// coverage.MaxWindow.
	Start, End time.Time
	// Known is the time as known at which is asked; zero, or a time to come,
	// means now.
	Known time.Time
	// Depth is how many levels below the division a report goes, and MaxRows how many
	// rows it may have; 0 sets no limit.
	Depth, MaxRows int
}

// query returns the question for the index, with the roster of the past where
// it is about what was known then.
func (s *Service) query(ctx context.Context, q Question) (coverage.Query, error) {
	// Who has changed the roster is answered by it, whoever else asks.
	s.index.SetRoster(s.Roster.Roster())
	now := s.Now()
	out := coverage.Query{Division: q.Division, Start: q.Start, End: q.End, Now: now, Depth: q.Depth, MaxRows: q.MaxRows}
	if q.Known.IsZero() || !q.Known.Before(now) {
		return out, nil
	}
	var err error
	out.Known = q.Known
	out.Roster, err = s.Roster.RosterKnown(ctx, q.Known)
	return out, err
}

// inQuestion names the field that a coverage error is about.
func inQuestion(err error) error {
	switch {
	case errors.Is(err, coverage.ErrWindow), errors.Is(err, coverage.ErrWindowTooLong):
		return &sites.FieldError{Field: "end_time", Err: err}
	case errors.Is(err, coverage.ErrTooManyRows):
		return &sites.FieldError{Field: "depth", Err: err}
	case errors.Is(err, sites.ErrDivisionUnknown):
		return &sites.FieldError{Field: "division_code", Err: err}
	}
	return err
}

// CheckQuestion returns all that is wrong with a question, whatever its answer would be.
func (s *Service) CheckQuestion(q Question) error {
	var f sites.Faults
	if q.Division != "" && len(s.Roster.Roster().Versions(q.Division)) == 0 {
		f.Add("division_code", fmt.Errorf("%s: %w", q.Division, sites.ErrDivisionUnknown))
	}
	f.Join(inQuestion((&coverage.Query{Start: q.Start, End: q.End}).Check()))
	return f.Err()
}

// A Coverage is a report with what it may lack because histories do not verify.
type Coverage struct {
	coverage.Answer
	// SitesAltered is how many sites stand in a division, at the window's last moment,
	// whose histories do not verify; a division without any is not in it.
	SitesAltered map[sites.DivisionCode]int64
	// RosterAltered reports whether the roster's own history does not verify.
	RosterAltered bool
}

// Coverage answers how many sites were due and inspected. Its stamp tells how long the
// answer holds, unless Altered changes. Here and in the lists, a question that fails tells
// its cost, too. Errors are sites.ErrDivisionUnknown, coverage.ErrWindow,
// coverage.ErrWindowTooLong and a *coverage.TooManyRowsError.
func (s *Service) Coverage(ctx context.Context, question Question) (Coverage, error) {
	q, err := s.query(ctx, question)
	if err != nil {
		return Coverage{}, err
	}
	a, err := s.index.Report(ctx, q)
	out := Coverage{Answer: a, RosterAltered: s.Altered.Of(ledger.Roster) != nil}
	if err == nil {
		out.SitesAltered = s.sitesAltered(cmp.Or(q.Roster, s.Roster.Roster()), q.End.Add(-1))
	}
	return out, inQuestion(err)
}

// DueSites lists up to n of the sites behind a figure of Coverage, by village and
// registration number. They begin behind the site that after names; the zero SiteRef
// starts at the first. Errors are those of Coverage.
func (s *Service) DueSites(ctx context.Context, question Question, state coverage.State, after coverage.SiteRef, n int) (coverage.SitePage, error) {
	q, err := s.query(ctx, question)
	if err != nil {
		return coverage.SitePage{}, err
	}
	page, err := s.index.Sites(ctx, q, state, after, n)
	return page, inQuestion(err)
}

// A CheckInPage is a part of a list of check-ins.
type CheckInPage struct {
	CheckIns []*Stored
	// Altered is how many check-ins are left out of this part, because their entries do
	// not verify or cannot be read.
	Altered int
	// Next names the last of them; it is zero at the end of the list.
	Next coverage.VisitRef
	Cost coverage.Cost
}

// List returns up to n check-ins behind the sums of Coverage, the newest visit
// first. They begin behind the visit that after names; the zero VisitRef starts
// at the newest. Where the filter names a site, the division does not matter: its
// check-ins are listed wherever it was counted.
// Errors are those of Coverage and sites.ErrSiteUnknown.
func (s *Service) List(ctx context.Context, question Question, f coverage.VisitFilter, after coverage.VisitRef, n int) (CheckInPage, error) {
	if f.Site != "" {
		if _, err := s.Roster.Roster().SiteEver(f.Site); err != nil {
			return CheckInPage{}, &sites.FieldError{Field: "site_id", Err: err}
		}
		question.Division = ""
	}
	q, err := s.query(ctx, question)
	if err != nil {
		return CheckInPage{}, err
	}
	refs, cost, err := s.index.Visits(ctx, q, f, after, n+1)
	page := CheckInPage{Cost: cost}
	if err != nil {
		return page, inQuestion(err)
	}
	if len(refs) > n {
		refs = refs[:n]
		page.Next = refs[n-1]
	}
	keys := make([]ledger.Key, len(refs))
	for i, r := range refs {
		keys[i] = ledger.Key{History: r.Site.History(), Sequence: r.Sequence}
	}
	page.CheckIns, page.Altered, err = s.readable(ctx, keys)
	if err != nil {
		return CheckInPage{}, err
	}
	return page, nil
}

// A HistoryCursor says where the list of a site's history goes on: only entries
// with lower sequences follow. The zero cursor is the beginning.
type HistoryCursor struct {
	Site   ledger.Sequence `json:"s,omitempty"`
	Roster ledger.Sequence `json:"r,omitempty"`
}

// History returns up to n entries of the site's own history and of the
// roster's that concern it, by the time of receipt, newest first, and the
// cursor behind them; zero at the end. Parse and sites.ParseContent read what
// they say. The error is sites.ErrSiteUnknown.
func (s *Service) History(ctx context.Context, id sites.SiteID, from HistoryCursor, n int) ([]ledger.Entry, HistoryCursor, error) {
	roster := s.Roster.Roster()
	site, err := roster.SiteEver(id)
	if err != nil {
		return nil, from, &sites.FieldError{Field: "site_id", Err: err}
	}
	own, err := s.Ledger.Newest(ctx, id.History(), from.Site, n+1)
	if err != nil {
		return nil, from, err
	}
	events := roster.Concerning(site)
	if from.Roster > 0 {
		events = slices.DeleteFunc(events, func(e sites.Event) bool { return e.Sequence >= from.Roster })
	}
	out := make([]ledger.Entry, 0, min(n, len(own)+len(events)))
	next := from
	for len(out) < n && len(own)+len(events) > 0 {
		last := len(events) - 1
		if last < 0 || len(own) > 0 && !own[0].Time.Before(events[last].Time) {
			out = append(out, own[0])
			next.Site, own = own[0].Sequence, own[1:]
			continue
		}
		entry, err := s.Roster.Entry(ctx, events[last].Sequence)
		if err != nil {
			return nil, from, err
		}
		out = append(out, entry)
		next.Roster, events = events[last].Sequence, events[:last]
	}
	if len(own)+len(events) == 0 {
		return out, HistoryCursor{}, nil
	}
	// What has come to its end stays there, also when entries come.
	if len(events) == 0 && next.Roster == 0 {
		next.Roster = 1
	}
	if len(own) == 0 && next.Site == 0 {
		next.Site = 1
	}
	return out, next, nil
}

// A HistoryVersion names a state of a site's history. As long as it is the same, so is
// what History returns.
type HistoryVersion struct {
	Newest ledger.Hash // of the site's own entries; zero where there are none
	Roster ledger.Sequence
}

// HistoryVersion returns that of the site, for much less than History takes. The error
// is sites.ErrSiteUnknown.
func (s *Service) HistoryVersion(ctx context.Context, id sites.SiteID) (v HistoryVersion, err error) {
	roster := s.Roster.Roster()
	if _, err := roster.SiteEver(id); err != nil {
		return v, &sites.FieldError{Field: "site_id", Err: err}
	}
	v.Roster = roster.Revision()
	newest, err := s.Ledger.Newest(ctx, id.History(), 0, 1)
	if len(newest) > 0 {
		v.Newest = newest[0].Hash
	}
	return v, err
}
