package inspections

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"xuncha/inspections/coverage"
	"xuncha/ledger"
	"xuncha/sites"
)

// The limits by which a check-in is flagged or refused.
const (
	// FutureTolerance is how far in the future a visit may seem to lie.
	FutureTolerance = 5 * time.Minute
	// ClockTolerance is how far a phone's clock may be off before it is
	// corrected. It is more than a slow network takes to deliver a call.
	ClockTolerance = 2 * time.Minute
	// SyncedLateAfter is how long after the visit a check-in may arrive.
	SyncedLateAfter = time.Hour
	// AwayFromSiteBeyond is how far from the site, in metres, the phone may
	// have been, beyond its own estimate of its error.
	AwayFromSiteBeyond = 300.0
)

// Config is what a Service works with. All fields are required.
type Config struct {
	// Ledger keeps the sites' histories.
	Ledger ledger.Store
	Claims Claims
	Roster *sites.Service
	// Now returns the server's clock.
	Now func() time.Time
}

// A Service takes check-ins and answers from them. It is safe for concurrent
// use.
type Service struct {
	Config
	index *coverage.Index
}

// New returns a service that has counted nothing yet: Take is to be given the feed.
func New(c Config) *Service { return &Service{Config: c, index: coverage.New()} }

// Take counts an entry of the feed where it is a check-in. Other kinds, also those
// that a newer server may have written, do not count.
func (s *Service) Take(e ledger.Entry) error {
	if e.Kind != KindCheckIn {
		return nil
	}
	stored, err := Parse(e)
	if err == nil {
		s.index.Add(visit(stored))
	}
	return err
}

// visit returns what the coverage index needs of a check-in.
func visit(s *Stored) coverage.Visit {
	return coverage.Visit{
		Site: s.Site, Sequence: s.Entry.Sequence, Capture: s.VisitTime, Receive: s.Entry.Time,
		Open: s.Finding == FoundOpen, VisitedLate: s.Has(VisitedLate), SyncedLate: s.Has(SyncedLate),
		CancelledEvents: s.CancelledEvents, DispersedPeople: s.DispersedPeople,
	}
}

// Submit stores the check-in as the next entry of its site's history, or
// nothing. The clientTime is the phone's clock at sending; zero means that it
// is right.
//
// A repeat of an id with equal content returns what was stored first and
// duplicate true, whatever has become of the site or the order since. With
// other content it is ErrConflict.
func (s *Service) Submit(ctx context.Context, account string, c CheckIn, clientTime time.Time) (stored *Stored, duplicate bool, err error) {
	now := s.Now()
	draft, err := s.accept(c, clientTime, now)
	if err != nil {
		// What was accepted once stays accepted, also where today's roster
		// would refuse it.
		if first, found := s.Get(ctx, c.Site, c.ID); found == nil {
			return s.repeat(ctx, first, &c)
		}
		return nil, false, err
	}
	if err := s.findReused(ctx, draft); err != nil {
		return nil, false, err
	}
	content, err := marshalContent(draft)
	if err != nil {
		return nil, false, err
	}
	e, existed, err := s.Ledger.Append(ctx, ledger.Draft{
		History: c.Site.History(), ID: string(c.ID), Kind: KindCheckIn, Time: now, Account: account, Content: content,
	})
	if err != nil {
		return nil, false, err
	}
	if existed {
		first, err := Parse(e)
		if err != nil {
			return nil, false, err
		}
		return s.repeat(ctx, first, &c)
	}
	draft.Entry = e
	return draft, false, s.stored(ctx, draft)
}

// stored does what follows from a check-in that is in its history. It may be done
// any number of times: a phone that got no answer sends its check-in again.
func (s *Service) stored(ctx context.Context, c *Stored) error {
	s.index.Add(visit(c))
	if len(c.Photos) == 0 {
		return nil
	}
	return s.Claims.Claim(ctx, c.Sums(), c.Ref())
}

// findReused flags a check-in some of whose photos were used for another. Nothing
// is claimed yet, because nobody knows whether it will be stored.
func (s *Service) findReused(ctx context.Context, c *Stored) error {
	if len(c.Photos) == 0 {
		return nil
	}
	firsts, err := s.UsedBefore(ctx, c.Sums(), c.Ref())
	if err != nil {
		return err
	}
	for i, first := range firsts {
		if first != (CheckInRef{}) {
			c.Reused = append(c.Reused, ReusedPhoto{c.Photos[i].SHA256, first})
		}
	}
	if len(c.Reused) > 0 {
		c.Flags = append(c.Flags, PhotoReused)
	}
	return nil
}

// UsedBefore returns for each of the hashes which other check-in than by claimed it
// first, or the zero one where none did.
func (s *Service) UsedBefore(ctx context.Context, sums []Digest, by CheckInRef) ([]CheckInRef, error) {
	firsts, err := s.Claims.Claimed(ctx, sums)
	if err != nil {
		return nil, err
	}
	for i, first := range firsts {
		if first == by {
			firsts[i] = CheckInRef{}
		}
		if firsts[i] == (CheckInRef{}) {
			continue
		}
		// Earlier versions claimed before they stored the check-in, and kept the claim
		// where storing it failed.
		_, err := s.Ledger.Entry(ctx, first.Site.History(), string(first.CheckIn))
		if errors.Is(err, ledger.ErrNotFound) {
			firsts[i] = CheckInRef{}
		} else if err != nil {
			return nil, err
		}
	}
	return firsts, nil
}

// repeat answers a check-in whose id is taken by first. The first may have come to
// another server, or its answer may have been lost before it was counted.
func (s *Service) repeat(ctx context.Context, first *Stored, c *CheckIn) (*Stored, bool, error) {
	if !sameContent(&first.CheckIn, c) {
		return nil, false, &sites.FieldError{Field: "check_in_id", Err: fmt.Errorf("%s: %w", c.ID, ErrConflict)}
	}
	return first, true, s.stored(ctx, first)
}

// accept applies the rules to a check-in that arrives now.
func (s *Service) accept(c CheckIn, clientTime, now time.Time) (*Stored, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	field := func(name string, err error) error { return &sites.FieldError{Field: name, Err: err} }
	roster := s.Roster.Roster()
	site, err := roster.Site(c.Site)
	if err != nil {
		return nil, field("site_id", err)
	}
	out := &Stored{CheckIn: c, VisitTime: c.Captured.UTC()}
	var flags [4]bool // in the order of the API's enum
	if !clientTime.IsZero() {
		if off := now.Sub(clientTime); off > ClockTolerance || off < -ClockTolerance {
			out.VisitTime = out.VisitTime.Add(off)
			flags[3] = true
		}
	}
	if out.VisitTime.After(now.Add(FutureTolerance)) {
		return nil, field("capture_time", fmt.Errorf("%s %w", out.VisitTime.Format(time.RFC3339), ErrFuture))
	}
	if !site.RegisteredAt(out.VisitTime) {
		return nil, field("site_id", fmt.Errorf("%s at %s: %w", c.Site, out.VisitTime.Format(time.RFC3339), ErrNotRegistered))
	}
	order := roster.OrderAt(site, out.VisitTime)
	if order == nil {
		if next := roster.OrderAt(site, now); next != nil && out.VisitTime.Before(next.Start) {
			return nil, field("capture_time", fmt.Errorf("%s %w %s, which starts at %s",
				out.VisitTime.Format(time.RFC3339), ErrBeforeOrder, next.Number, next.Start.Format(time.RFC3339)))
		}
		return nil, field("capture_time", fmt.Errorf("%s: %w", out.VisitTime.Format(time.RFC3339), ErrNoOrder))
	}
	out.Order = order.ID
	flags[0] = now.Sub(out.VisitTime) > SyncedLateAfter
	flags[1] = s.visitedLate(site, order, out.VisitTime)
	if at := site.PlaceAt(out.VisitTime).Position; at != nil && c.Location != nil {
		point := c.Location.Point
		if c.Location.GCJ02 {
			point = toWGS84(point)
		}
		metres := math.Round(distance(point, *at))
		out.Distance = &metres
		flags[2] = metres-c.Location.Accuracy > AwayFromSiteBeyond
	}
	out.Location = nil
	for i, f := range []Flag{SyncedLate, VisitedLate, AwayFromSite, ClockCorrected} {
		if flags[i] {
			out.Flags = append(out.Flags, f)
		}
	}
	return out, nil
}

// visitedLate reports whether a visit comes later than the order's interval
// after the visit before it, or after the site became due.
func (s *Service) visitedLate(site *sites.Site, order *sites.ClosureOrder, at time.Time) bool {
	since := order.Start
	if site.Registered.After(since) {
		since = site.Registered
	}
	if last, ok := s.index.Last(site.ID, at); ok && last.After(since) {
		since = last
	}
	return at.Sub(since) > time.Duration(order.Interval)
}

// Get returns a check-in. The error is sites.ErrSiteUnknown or ErrNotFound.
func (s *Service) Get(ctx context.Context, site sites.SiteID, id CheckInID) (*Stored, error) {
	if _, err := s.Roster.Roster().Site(site); err != nil {
		return nil, &sites.FieldError{Field: "site_id", Err: err}
	}
	e, err := s.Ledger.Entry(ctx, site.History(), string(id))
	if err != nil {
		if errors.Is(err, ledger.ErrNotFound) {
			err = &sites.FieldError{Field: "check_in_id", Err: fmt.Errorf("%s: %w", id, ErrNotFound)}
		}
		return nil, err
	}
	return Parse(e)
}
