package inspections

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
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
	Store  Store
	Photos Photos
	Roster *sites.Service
	// RetentionDays is for how many days after the end of its closure order a
	// photo is kept, 1 to MaxRetentionDays.
	RetentionDays int
	// Now returns the server's clock.
	Now func() time.Time
}

// A Service takes check-ins and answers from them. It is safe for concurrent
// use.
type Service struct {
	Config
	index *coverage.Index

	finishing [256]sync.Mutex // by the first byte of a photo's hash
	finishers chan struct{}   // has as many as may be finished at once

	uploading sync.Mutex
	uploads   map[PhotoRef][]*Upload // those under way

	following sync.Mutex
	changes   Changes // nil where nobody else writes to the store
}

// Open builds the coverage index from the roster and the entries in the store,
// and keeps it up from then on. What other servers store in a SharedStore comes
// in by CatchUp.
func Open(ctx context.Context, c Config) (*Service, error) {
	if c.RetentionDays < 1 || c.RetentionDays > MaxRetentionDays {
		return nil, fmt.Errorf("photos are kept for %d days: %w: want 1 to %d", c.RetentionDays, sites.ErrInvalid, MaxRetentionDays)
	}
	s := &Service{Config: c, index: coverage.New(), finishers: make(chan struct{}, maxFinishers), uploads: map[PhotoRef][]*Upload{}}
	if shared, ok := c.Store.(SharedStore); ok {
		var err error
		if s.changes, err = shared.Changes(ctx); err != nil {
			return nil, fmt.Errorf("following the check-ins: %w", err)
		}
	}
	if err := c.Store.Replay(ctx, s.count); err != nil {
		return nil, fmt.Errorf("reading the check-ins: %w", err)
	}
	c.Roster.Observe(s.index.SetRoster)
	return s, nil
}

// CatchUp brings the roster and the coverage up to what other servers have
// stored by now. A server that shares its store calls it again and again.
func (s *Service) CatchUp(ctx context.Context) error {
	if s.changes == nil {
		return nil
	}
	if err := s.Roster.CatchUp(ctx); err != nil {
		return err
	}
	s.following.Lock()
	defer s.following.Unlock()
	return s.changes.Next(ctx, s.count)
}

// count gives an entry to the coverage index, if it is a check-in. Other kinds,
// also those that a newer server may have written, do not count.
func (s *Service) count(e ledger.Entry) error {
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
			return repeat(first, &c)
		}
		return nil, false, err
	}
	if err := s.claim(ctx, draft); err != nil {
		return nil, false, err
	}
	content, err := marshalContent(draft)
	if err != nil {
		return nil, false, err
	}
	e, existed, err := s.Store.Append(ctx, ledger.Draft{
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
		return repeat(first, &c)
	}
	draft.Entry = e
	s.index.Add(visit(draft))
	return draft, false, nil
}

// claim notes who uses the photos, and flags those that were used before.
func (s *Service) claim(ctx context.Context, c *Stored) error {
	if len(c.Photos) == 0 {
		return nil
	}
	// One whose id is taken claims nothing: it is a repeat, or will be refused.
	if _, err := s.Store.Entry(ctx, c.Site, string(c.ID)); !errors.Is(err, ErrNotFound) {
		return err
	}
	firsts, err := s.Photos.Claim(ctx, c.sums(), c.ref())
	if err != nil {
		return err
	}
	for i, first := range firsts {
		if first != c.ref() {
			c.Reused = append(c.Reused, ReusedPhoto{c.Photos[i].SHA256, first})
		}
	}
	if len(c.Reused) > 0 {
		c.Flags = append(c.Flags, PhotoReused)
	}
	return nil
}

// repeat answers a check-in whose id is taken by first.
func repeat(first *Stored, c *CheckIn) (*Stored, bool, error) {
	if !sameContent(&first.CheckIn, c) {
		return nil, false, &sites.FieldError{Field: "check_in_id", Err: fmt.Errorf("%s: %w", c.ID, ErrConflict)}
	}
	return first, true, nil
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
	e, err := s.Store.Entry(ctx, site, string(id))
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			err = &sites.FieldError{Field: "check_in_id", Err: fmt.Errorf("%s: %w", id, ErrNotFound)}
		}
		return nil, err
	}
	return Parse(e)
}
