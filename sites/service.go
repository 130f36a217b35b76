package sites

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"xuncha/ledger"
)

// Lengths in characters that the texts of a roster may have.
const (
	MaxRegistrationNo = 64
	MaxName           = 200
	MaxAddress        = 300
	MaxOrderText      = 500
)

// MaxOrderDivisions is how many divisions one order can name. A scope wider
// than that is a county or a city, which is named as one.
const MaxOrderDivisions = 1000

// Config is what a Service works with. All fields are required.
type Config struct {
	// Ledger keeps the roster's history, and Rows what its imports name.
	Ledger ledger.Store
	Rows   Rows
	// Now returns the server's clock.
	Now func() time.Time
	// NewID returns a new UUID in lower-case text.
	NewID func() string
	// Zone is the time zone in which the deployment's days begin.
	Zone *time.Location
	// Altered has the histories that do not verify; nil where none is known.
	Altered *ledger.Alterations
}

// A Service is the roster with the rules by which it changes. Each change is
// one entry of the roster's history. It is safe for concurrent use.
type Service struct {
	Config
	projection *ledger.Projection[*Roster]

	pastMu sync.Mutex
	// kept are the newest rosters, each the one after the other.
	kept []keptRoster
	// past are the last few others that were asked for, newest use first.
	past []*Roster
	// restored tells that Restore was called, and Refresh not yet.
	restored bool
	// rebuilding is taken by whoever makes a roster of the past, which takes the
	// memory of a whole one, and given up by taking it out.
	rebuilding chan struct{}
}

// A keptRoster is a roster with the count of rows by which it differs from the one
// before.
type keptRoster struct {
	*Roster
	rows int
}

// New returns a service with an empty roster. Refresh reads the history.
func New(c Config) *Service {
	s := &Service{Config: c, rebuilding: make(chan struct{}, 1)}
	s.projection = ledger.NewProjection(c.Ledger, ledger.Roster, newRoster(), s.applyAll)
	s.projection.Report(c.Altered, c.Now)
	return s
}

// Open returns a service that has read the roster's history from the store. What
// other servers add to it comes in by Take and CatchUp.
func Open(ctx context.Context, c Config) (*Service, error) {
	s := New(c)
	if err := s.Refresh(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Refresh applies the entries of the roster's history that are in the store by
// now. After Restore it goes on from there, unless the restored roster is not of
// this history: then it reads the history from its beginning.
func (s *Service) Refresh(ctx context.Context) error {
	if err := s.checkRestored(ctx); err != nil {
		return fmt.Errorf("reading the roster: %w", err)
	}
	if err := s.projection.Refresh(ctx); err != nil {
		return fmt.Errorf("reading the roster: %w", err)
	}
	return nil
}

// checkRestored drops a restored roster whose newest entry the history does not
// have in its place.
func (s *Service) checkRestored(ctx context.Context) error {
	s.pastMu.Lock()
	defer s.pastMu.Unlock()
	r := s.Roster()
	if !s.restored || r.Revision() == 0 {
		return nil
	}
	newest := r.event(r.Revision())
	e, err := s.projection.Entry(ctx, newest.Sequence)
	switch {
	case errors.Is(err, ledger.ErrBroken), err == nil && (e.ID != newest.ID || e.Kind != newest.Kind || !e.Time.Equal(newest.Time)):
		s.projection.Begin(newRoster(), 0)
		s.kept = nil
	case err != nil:
		return err
	}
	s.restored = false
	return nil
}

// applyAll returns the roster after some entries of its history.
func (s *Service) applyAll(ctx context.Context, r *Roster, entries []ledger.Entry) (*Roster, error) {
	for _, e := range entries {
		c, err := readChange(ctx, s.Rows, e)
		if err == nil && c.revoked != 0 {
			c.undo, err = s.undo(ctx, r, c.revoked)
		}
		if err != nil {
			return nil, err
		}
		r = r.apply(c)
		s.keep(r, c.rows())
	}
	return r, nil
}

// Altered returns a *ledger.AlteredError where the roster's history does not verify: the
// roster is then what stood before, and nothing changes it.
func (s *Service) Altered() error { return s.projection.Altered() }

// Roster returns the roster as it is now.
func (s *Service) Roster() *Roster { return s.projection.State() }

// Take notes an entry of the feed; CatchUp applies it where it is the roster's.
func (s *Service) Take(e ledger.Entry) error { return s.projection.Take(e) }

// CatchUp applies the changes of other servers that Take has noted. It waits for
// a change that is just being made, as long as the context lasts.
func (s *Service) CatchUp(ctx context.Context) error { return s.projection.CatchUp(ctx) }

// How much of the past is kept ready. What one roster keeps alive, beside what it
// shares with the next, is about 20 KB for a change of one site.
const (
	// keepRosters is how many of the newest rosters are kept at most.
	keepRosters = 500
	// keepRows is by how many rows the oldest of them may differ from the newest.
	keepRows = 20_000
	// keepPast is how many others are kept.
	keepPast = 4
)

// keep keeps the roster if it is newer than all that are kept, and not one that is
// made anew to answer a question.
func (s *Service) keep(r *Roster, rows int) {
	s.pastMu.Lock()
	defer s.pastMu.Unlock()
	if n := len(s.kept); n > 0 && r.Revision() != s.kept[n-1].Revision()+1 {
		return
	}
	s.kept = append(s.kept, keptRoster{r, rows})
	first, sum := len(s.kept)-1, 0
	for first > 0 && len(s.kept)-first < keepRosters && sum+s.kept[first].rows <= keepRows {
		sum += s.kept[first].rows
		first--
	}
	s.kept = slices.Delete(s.kept, 0, first)
}

// nearest returns the newest roster that is ready and not after the revision.
func (s *Service) nearest(revision ledger.Sequence) *Roster {
	s.pastMu.Lock()
	defer s.pastMu.Unlock()
	if len(s.kept) > 0 {
		if i := int(revision - s.kept[0].Revision()); i >= 0 && i < len(s.kept) {
			return s.kept[i].Roster
		}
	}
	best := -1
	for i, r := range s.past {
		if r.Revision() <= revision && (best < 0 || r.Revision() > s.past[best].Revision()) {
			best = i
		}
	}
	if best < 0 {
		return newRoster()
	}
	r := s.past[best]
	s.past = slices.Insert(slices.Delete(s.past, best, best+1), 0, r)
	return r
}

// RosterKnown returns the roster as it was known at t. Those before recent changes
// are there. An older one is made anew, one at a time; a caller whose deadline
// comes meanwhile leaves with that.
func (s *Service) RosterKnown(ctx context.Context, t time.Time) (*Roster, error) {
	now := s.Roster()
	return s.rosterAt(ctx, now, now.revisionAt(t))
}

// rosterAt returns the roster at a revision that is not after the one that is given.
func (s *Service) rosterAt(ctx context.Context, now *Roster, revision ledger.Sequence) (*Roster, error) {
	if revision == now.Revision() {
		return now, nil
	}
	if r := s.nearest(revision); r.Revision() == revision {
		return r, nil
	}
	select {
	case s.rebuilding <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.rebuilding }()
	from := s.nearest(revision) // which another may just have made
	r, err := s.projection.Replay(ctx, from, from.Revision(), revision)
	if err != nil {
		return nil, err
	}
	if r == from {
		return r, nil
	}
	s.pastMu.Lock()
	defer s.pastMu.Unlock()
	s.past = slices.Insert(s.past, 0, r)
	s.past = slices.Delete(s.past, min(keepPast, len(s.past)), len(s.past))
	return r, nil
}

// Ready reports whether RosterKnown has the roster as it was known at t, and need not make
// it anew.
func (s *Service) Ready(t time.Time) bool {
	now := s.Roster()
	revision := now.revisionAt(t)
	return revision == now.Revision() || s.nearest(revision).Revision() == revision
}

// Entry returns the roster's entry with the sequence.
func (s *Service) Entry(ctx context.Context, q ledger.Sequence) (ledger.Entry, error) {
	return s.projection.Entry(ctx, q)
}

// decision is what a change comes to: the entry's kind and content, and the
// rows to store beside it. A nil decision changes nothing.
type decision struct {
	kind    ledger.Kind
	content Content
	rows    []byte
	rowsSum string
}

// change lets decide look at the newest roster and stores what it decides,
// once more from the start where the roster was changed meanwhile. It returns
// the roster afterwards.
//
// Where the request has made an entry before, decide is not asked, nothing is changed, and
// again is that entry.
func (s *Service) change(ctx context.Context, by By, decide func(*Roster) (*decision, error)) (after *Roster, again *ledger.Entry, err error) {
	after, err = s.projection.Change(ctx, func(r *Roster) (*ledger.Draft, error) {
		// The same request may have come to another server since it was looked for last.
		if again, err = s.repeated(ctx, by); again != nil || err != nil {
			return nil, err
		}
		d, err := decide(r)
		if err != nil || d == nil {
			return nil, err
		}
		d.content.Request = by.Request.Sum
		content, err := ledger.MarshalContent(d.content)
		if err != nil {
			return nil, err
		}
		if d.rowsSum != "" {
			// Rows that no entry names in the end are no harm.
			if err := s.Rows.PutRows(ctx, d.rowsSum, d.rows); err != nil {
				return nil, err
			}
		}
		if by.Still != nil {
			if err := by.Still(); err != nil {
				return nil, err
			}
		}
		return &ledger.Draft{ID: by.Request.IDOr(s.NewID), Kind: d.kind, Time: s.Now(), Account: by.Account, Content: content}, nil
	})
	if err == nil && again != nil {
		after, err = s.repeat(ctx, by, again)
	}
	return after, again, err
}

// NewSite is what is needed to register a site.
type NewSite struct {
	RegistrationNo, Name string
	Division             DivisionCode
	Address              string
	Position             *Position
	// Registered is the first moment of the registration; zero means now.
	Registered time.Time
}

// CreateSite registers a site and returns it.
func (s *Service) CreateSite(ctx context.Context, by By, n NewSite) (*Site, error) {
	by = by.saying("CreateSite", func(d *ledger.Digester) {
		d.Add(n.RegistrationNo, n.Name, string(n.Division.Shortest()), n.Address, positionText(n.Position), momentText(n.Registered))
	})
	site := s.newSite(n)
	site.ID = SiteID(s.NewID())
	return s.changeSite(ctx, by, site.ID, KindSiteRegistered, func(r *Roster, _ *Site) (*Site, error) {
		var mine error
		if !s.rightsOn(r, by).in(n.Division, site.Registered) {
			mine = &FieldError{"division_code", noDivision(n.Division)}
		}
		return site, JoinFaults(mine, s.checkNewSite(r, site))
	})
}

// checkNewSite returns all that is wrong with a site that is to be registered.
func (s *Service) checkNewSite(r *Roster, site *Site) error {
	var f Faults
	f.Add("registration_no", textProblem(site.RegistrationNo, 1, MaxRegistrationNo))
	if _, err := r.SiteByRegistration(site.RegistrationNo); err == nil {
		f.Add("registration_no", fmt.Errorf("%q: %w", site.RegistrationNo, ErrRegistrationTaken))
	}
	f.Join(checkName(site.Name))
	f.Add("registered_time", s.checkEffect(site.Registered))
	f.Join(s.checkPlace(r, site.Places[0]))
	return f.Err()
}

// A SiteUpdate corrects what the roster says of a site. A nil field stays.
type SiteUpdate struct {
	Name, Address *string
	Position      *Position
}

// UpdateSite corrects the site's name, or the address and position of the
// place where it stands now, also where it is to move later. Where it stands is
// changed by MoveSite. An etag that is not empty and not the site's own is
// ErrStale. An update that changes nothing makes no entry.
func (s *Service) UpdateSite(ctx context.Context, by By, id SiteID, etag string, u SiteUpdate) (*Site, error) {
	by = by.saying("UpdateSite", func(d *ledger.Digester) {
		d.Add(string(id), etag, optionalText(u.Name), optionalText(u.Address), positionText(u.Position))
	})
	return s.changeSite(ctx, by, id, KindSiteUpdated, func(_ *Roster, old *Site) (*Site, error) {
		stale := checkEtag(old, etag)
		site := *old
		site.Places = slices.Clone(old.Places)
		at := old.placeAt(s.Now())
		place := &site.Places[at]
		if u.Name != nil {
			site.Name = *u.Name
		}
		if u.Address != nil {
			place.Address = *u.Address
		}
		if u.Position != nil {
			place.Position = u.Position
		}
		if stale == nil && site.Name == old.Name && samePlace(*place, old.Places[at]) {
			return nil, nil
		}
		// What stays as it is may be of a time with other rules.
		var name error
		if site.Name != old.Name {
			name = checkName(site.Name)
		}
		spot := *place
		if spot.Address == old.Places[at].Address {
			spot.Address = ""
		}
		return &site, JoinFaults(stale, name, checkSpot(spot))
	})
}

// MoveSite puts the site into another village from the place's From on; a zero
// From means now. Without a position the new one is not known.
func (s *Service) MoveSite(ctx context.Context, by By, id SiteID, etag string, to Place) (*Site, error) {
	by = by.saying("MoveSite", func(d *ledger.Digester) {
		d.Add(string(id), etag, string(to.Division.Shortest()), to.Address, positionText(to.Position), momentText(to.From))
	})
	if to.From.IsZero() {
		to.From = s.Now()
	}
	to.From = to.From.UTC()
	return s.changeSite(ctx, by, id, KindSiteMoved, func(r *Roster, old *Site) (*Site, error) {
		var f Faults
		f.Add("site_id", checkRegistered(old))
		f.Join(checkEtag(old, etag))
		last := old.Places[len(old.Places)-1]
		f.Add("effective_time", s.checkEffect(to.From))
		if !to.From.After(last.From) {
			f.Join(Invalid("effective_time", "must lie after %s, since when the site stands at its present place%s", s.moment(last.From), s.ifPlanned(last.From)))
		}
		may := s.rightsOn(r, by)
		if !may.overSite(old, to.From) {
			return nil, noSite(id)
		}
		if !may.in(to.Division, to.From) {
			f.Add("division_code", noDivision(to.Division))
		}
		f.Join(s.checkPlace(r, to))
		if err := f.Err(); err != nil {
			return nil, err
		}
		site := *old
		site.Places = append(slices.Clone(old.Places), to)
		return &site, nil
	})
}

// DeregisterSite strikes the site off the roster from the time at on; zero
// means now. The site and its history stay.
func (s *Service) DeregisterSite(ctx context.Context, by By, id SiteID, etag string, at time.Time) (*Site, error) {
	by = by.saying("DeregisterSite", func(d *ledger.Digester) { d.Add(string(id), etag, momentText(at)) })
	if at.IsZero() {
		at = s.Now()
	}
	return s.changeSite(ctx, by, id, KindSiteDeregistered, func(r *Roster, old *Site) (*Site, error) {
		if !s.rightsOn(r, by).overSite(old, at) {
			return nil, noSite(id)
		}
		var f Faults
		f.Add("site_id", checkRegistered(old))
		f.Join(checkEtag(old, etag))
		f.Add("effective_time", s.checkEffect(at))
		if !at.After(old.Registered) {
			f.Join(Invalid("effective_time", "must lie after %s, since when the site is registered", s.moment(old.Registered)))
		}
		if err := f.Err(); err != nil {
			return nil, err
		}
		site := *old
		site.Deregistered = at.UTC()
		return &site, nil
	})
}

// changeSite stores what change makes of the site, which is nil where the
// roster does not have it yet, and returns the site afterwards.
func (s *Service) changeSite(ctx context.Context, by By, id SiteID, kind ledger.Kind, change func(*Roster, *Site) (*Site, error)) (*Site, error) {
	r, again, err := s.change(ctx, by, func(r *Roster) (*decision, error) {
		var old *Site
		if kind != KindSiteRegistered {
			var err error
			if old, err = r.Site(id); err != nil || !s.rightsOn(r, by).overSite(old, time.Time{}) {
				return nil, noSite(id)
			}
		}
		site, err := change(r, old)
		if err != nil || site == nil {
			return nil, err
		}
		return &decision{kind: kind, content: Content{Site: site}}, nil
	})
	if err != nil {
		return nil, err
	}
	if again != nil {
		return siteAfter(again)
	}
	return r.Site(id)
}

// CreateOrder issues a closure order and returns it. Its ID and PlannedEnd are
// set here.
func (s *Service) CreateOrder(ctx context.Context, by By, o ClosureOrder) (*ClosureOrder, error) {
	by = by.saying("CreateClosureOrder", func(d *ledger.Digester) {
		d.Add(o.Number, o.Title, o.IssuingAuthority, o.LegalBasis, momentText(o.Start), momentText(o.End), time.Duration(o.Interval).String())
		for _, code := range o.Divisions {
			d.Add(string(code.Shortest()))
		}
	})
	o.ID = OrderID(s.NewID())
	o.Start, o.End = o.Start.UTC(), o.End.UTC()
	o.PlannedEnd = o.End
	o.Divisions = slices.Clone(o.Divisions)
	r, again, err := s.change(ctx, by, func(r *Roster) (*decision, error) {
		if err := JoinFaults(s.rightsOn(r, by).inAll(o.Divisions, o.Start), s.checkOrder(r, &o)); err != nil {
			return nil, err
		}
		return &decision{kind: KindOrderIssued, content: Content{Order: &o}}, nil
	})
	if err != nil {
		return nil, err
	}
	if again != nil {
		return orderAfter(again)
	}
	return r.Order(o.ID)
}

// checkOrder returns all that is wrong with an order that is to be issued.
func (s *Service) checkOrder(r *Roster, o *ClosureOrder) error {
	var f Faults
	f.Add("number", textProblem(o.Number, 1, MaxRegistrationNo))
	if _, taken := r.orderNumbers.Get(o.Number); taken {
		f.Add("number", fmt.Errorf("%q: %w", o.Number, ErrOrderNumberTaken))
	}
	f.Add("title", textProblem(o.Title, 1, MaxOrderText))
	f.Add("issuing_authority", textProblem(o.IssuingAuthority, 1, MaxOrderText))
	f.Add("legal_basis", textProblem(o.LegalBasis, 1, MaxOrderText))
	f.Join(s.checkScope(r, o))
	s.checkOrderTimes(o, &f)
	switch d := time.Duration(o.Interval); {
	case d == 0:
		f.Join(Missing("inspection_interval", ""))
	case d < MinInspectionInterval || d > MaxInspectionInterval:
		f.Join(OutOfRange("inspection_interval", MinInspectionInterval, MaxInspectionInterval))
	}
	return f.Err()
}

// checkScope returns all that is wrong with the divisions that the order names.
func (s *Service) checkScope(r *Roster, o *ClosureOrder) error {
	switch n := len(o.Divisions); {
	case n == 0:
		return Missing("division_codes", fmt.Sprintf(": an order names 1 to %d divisions", MaxOrderDivisions))
	case n > MaxOrderDivisions:
		return TooLong("division_codes", n, MaxOrderDivisions, Items)
	}
	var f Faults
	for i, c := range o.Divisions {
		field := fmt.Sprintf("division_codes[%d]", i)
		if slices.Contains(o.Divisions[:i], c) {
			f.Join(Invalid(field, "%s is named twice", c))
			continue
		}
		if _, err := r.Division(c, o.Start); err != nil {
			// A table that takes effect after the order's start is all there is
			// to go by where the roster began later than the order.
			if _, err := r.Division(c, s.Now()); err != nil {
				f.Add(field, err)
			}
		}
	}
	return f.Err()
}

// EndOrder ends the order before its time; a zero end means now. The end may
// lie in the past, but not outside the order.
func (s *Service) EndOrder(ctx context.Context, by By, id OrderID, end time.Time) (*ClosureOrder, error) {
	by = by.saying("EndClosureOrder", func(d *ledger.Digester) { d.Add(string(id), momentText(end)) })
	if end.IsZero() {
		end = s.Now()
	}
	// It must be possible to open places again whatever else fails.
	r, again, err := s.change(ledger.WithReserve(ctx), by, func(r *Roster) (*decision, error) {
		old, err := r.Order(id)
		if err != nil || s.rightsOn(r, by).inAll(old.Divisions, end) != nil {
			return nil, noOrder(id)
		}
		if !end.After(old.Start) || !end.Before(old.End) {
			return nil, &FieldError{"end_time", fmt.Errorf("%w: it runs from %s to %s", ErrOrderEnded, s.moment(old.Start), s.moment(old.End))}
		}
		o := *old
		o.End = end.UTC()
		return &decision{kind: KindOrderEnded, content: Content{Order: &o}}, nil
	})
	if err != nil {
		return nil, err
	}
	if again != nil {
		return orderAfter(again)
	}
	return r.Order(id)
}

// moment writes t as people in the deployment read it.
func (s *Service) moment(t time.Time) string { return t.In(s.Zone).Format("2006-01-02 15:04:05") }

// Day returns the first moment of a day written as 2006-01-02 in the
// deployment's time zone, or an error that wraps ErrInvalid.
func (s *Service) Day(day string) (time.Time, error) { return parseDay(day, s.Zone) }

func parseDay(day string, zone *time.Location) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return time.Time{}, invalidf("%q is no day such as 2019-12-31", clip(day))
	}
	return DayStart(t.Year(), t.Month(), t.Day(), zone), nil
}

func checkEtag(site *Site, etag string) error {
	if etag != "" && etag != site.Etag() {
		return &FieldError{"etag", fmt.Errorf("%w: the etag is now %s", ErrStale, site.Etag())}
	}
	return nil
}

func checkRegistered(site *Site) error {
	if !site.Deregistered.IsZero() {
		return fmt.Errorf("site %s: %w", site.ID, ErrSiteStruckOff)
	}
	return nil
}

func checkName(name string) error { return CheckText("name", name, 1, MaxName) }

// checkPlace returns all that is wrong with a place that a site is put in.
func (s *Service) checkPlace(r *Roster, p Place) error {
	var f Faults
	if p.Division == "" {
		f.Join(Missing("division_code", ""))
	} else if _, err := ParseDivisionCode(string(p.Division)); err != nil {
		f.Add("division_code", err)
	} else if d, err := r.Division(p.Division, later(p.From, s.Now())); err != nil {
		f.Add("division_code", err)
	} else if d.Level != Village {
		f.Add("division_code", fmt.Errorf("%s %s is a %s: %w", d.Code, d.Name, d.Level, ErrNotVillage))
	}
	f.Join(checkSpot(p))
	return f.Err()
}

// checkSpot returns all that is wrong with a place's address and position.
func checkSpot(p Place) error {
	var f Faults
	f.Add("address", textProblem(p.Address, 0, MaxAddress))
	if p.Position != nil {
		// Written so that what is not a number fails too.
		if l := p.Position.Latitude; !(l >= -90 && l <= 90) {
			f.Join(OutOfRange("latitude", -90, 90))
		}
		if l := p.Position.Longitude; !(l >= -180 && l <= 180) {
			f.Join(OutOfRange("longitude", -180, 180))
		}
	}
	return f.Err()
}

// samePlace reports whether two places are the same spot, whenever it began.
func samePlace(a, b Place) bool {
	if a.Division != b.Division || a.Address != b.Address {
		return false
	}
	if a.Position == nil || b.Position == nil {
		return a.Position == b.Position
	}
	return *a.Position == *b.Position
}
