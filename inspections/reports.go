package inspections

import (
	"context"
	"errors"
	"slices"
	"time"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
)

// A Question is a coverage query, as known at a time or now.
type Question struct {
	Division   sites.DivisionCode
	Start, End time.Time
	// Known is the time as known at which is asked; zero, or a time to come,
	// means now.
	Known time.Time
	Depth int
}

// query returns the question for the index, with the roster of the past where
// it is about what was known then.
func (s *Service) query(ctx context.Context, q Question) (coverage.Query, error) {
	// Who has changed the roster is answered by it, whoever else asks.
	s.index.SetRoster(s.Roster.Roster())
	now := s.Now()
	out := coverage.Query{Division: q.Division, Start: q.Start, End: q.End, Now: now, Depth: q.Depth}
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
	case errors.Is(err, coverage.ErrWindow):
		return &sites.FieldError{Field: "end_time", Err: err}
	case errors.Is(err, sites.ErrDivisionUnknown):
		return &sites.FieldError{Field: "division_code", Err: err}
	}
	return err
}

// Coverage answers how many sites were due and inspected. The stamp tells how
// long the answer holds. Errors are sites.ErrDivisionUnknown and
// coverage.ErrWindow.
func (s *Service) Coverage(ctx context.Context, question Question) (coverage.Report, coverage.Stamp, error) {
	q, err := s.query(ctx, question)
	if err != nil {
		return coverage.Report{}, coverage.Stamp{}, err
	}
	r, stamp, err := s.index.Report(q)
	return r, stamp, inQuestion(err)
}

// DueSites lists the sites behind a figure of Coverage, by village and
// registration number. Errors are those of Coverage.
func (s *Service) DueSites(ctx context.Context, question Question, state coverage.State) ([]coverage.SiteStatus, error) {
	q, err := s.query(ctx, question)
	if err != nil {
		return nil, err
	}
	list, err := s.index.Sites(q, state)
	return list, inQuestion(err)
}

// List returns up to n check-ins behind the sums of Coverage, the newest visit
// first. They begin behind the visit that after names; the zero VisitRef starts
// at the newest. Where the filter names a site, the division need not be given. The
// VisitRef returned names the last one; it is zero at the end.
// Errors are those of Coverage and sites.ErrSiteUnknown.
func (s *Service) List(ctx context.Context, question Question, f coverage.VisitFilter, after coverage.VisitRef, n int) ([]*Stored, coverage.VisitRef, error) {
	if f.Site != "" {
		roster := s.Roster.Roster()
		site, err := roster.Site(f.Site)
		if err != nil {
			return nil, after, &sites.FieldError{Field: "site_id", Err: err}
		}
		// Of the hierarchy only its top is needed, under which the site is
		// counted wherever it stood. Without one, its visits are all there is.
		question.Division = ""
		if path := roster.Path(site.PlaceAt(question.Start).Division, question.Start); len(path) > 0 {
			question.Division = path[len(path)-1]
		}
	}
	q, err := s.query(ctx, question)
	if err != nil {
		return nil, after, err
	}
	refs, err := s.index.Visits(q, f, after, n+1)
	if err != nil {
		return nil, after, inQuestion(err)
	}
	var last coverage.VisitRef
	if len(refs) > n {
		refs = refs[:n]
		last = refs[n-1]
	}
	keys := make([]ledger.Key, len(refs))
	for i, r := range refs {
		keys[i] = ledger.Key{History: r.Site.History(), Sequence: r.Sequence}
	}
	entries, err := s.Ledger.Entries(ctx, keys)
	if err != nil {
		return nil, after, err
	}
	out := make([]*Stored, len(entries))
	for i, e := range entries {
		if out[i], err = Parse(e); err != nil {
			return nil, after, err
		}
	}
	return out, last, nil
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
	site, err := roster.Site(id)
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
