package inspections

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"xuncha/inspections/coverage"
	"xuncha/inspections/picture"
	"xuncha/internal/texts"
	"xuncha/ledger"
	"xuncha/sites"
)

// Config is what a Service works with. All fields but Limits, Altered, Doubtful and OnStep
// are required.
type Config struct {
	// Ledger keeps the sites' histories.
	Ledger ledger.Store
	Claims Claims
	Roster *sites.Service
	// Now returns the server's clock.
	Now func() time.Time
	// Limits are those of photos that are kept; the zero value has the defaults.
	Limits picture.Limits
	// Altered has the histories that do not verify; nil where none is known.
	Altered *ledger.Alterations
	// Doubtful reports whether the server's clock waits for somebody to confirm it. What it
	// would refuse because of the time is then not refused for good; nil for never.
	Doubtful func() bool
	// OnStep is called between the steps of long questions. Where it is nil, others
	// have their turn there.
	OnStep func()
}

// A Service takes check-ins and answers from them. It is safe for concurrent
// use.
type Service struct {
	Config
	index *coverage.Index
	inUse inUse
}

// New returns a service that has counted nothing yet: Take is to be given the feed.
func New(c Config) *Service {
	s := &Service{Config: c, index: coverage.New()}
	if c.OnStep != nil {
		s.index.OnStep(c.OnStep)
	}
	return s
}

// Take counts an entry of the feed where it is a check-in. Other kinds, also those
// that a newer server may have written, do not count.
func (s *Service) Take(e ledger.Entry) error {
	if e.Kind != KindCheckIn {
		return nil
	}
	v, err := parseVisit(e)
	if err == nil {
		s.index.Add(v)
	}
	return err
}

// TakeBack no longer counts an entry that was set aside. Entries that were not counted, and
// those of other histories than a site's, change nothing.
func (s *Service) TakeBack(h ledger.History, q ledger.Sequence) {
	if site, ok := sites.SiteOf(h); ok {
		s.index.Remove(site, q)
	}
}

// Snapshot writes what the service has counted, as it is now. Check-ins may come in
// meanwhile.
func (s *Service) Snapshot(w io.Writer) error { return s.index.Snapshot(w) }

// Restore reads what Snapshot has written, into a service that has counted nothing
// yet. Where there is an error it has counted nothing afterwards either. Entries that
// were counted already may be given to Take again.
func (s *Service) Restore(r io.Reader) error { return s.index.Restore(r) }

// A By is who reports a visit.
type By struct {
	// Account is the name that the entry has.
	Account string
	// May returns nil where the account may report a visit to the site at the time, which
	// is corrected and not after the receipt, and else the refusal. The site is nil where
	// the roster does not have it; the refusal is then that of a site which the account may
	// not visit. A nil May lets everybody.
	May func(site *sites.Site, at time.Time) error
}

// Submit stores the check-in as the next entry of its site's history, or
// nothing. The clientTime is the phone's clock at sending; zero means that it
// is right.
//
// The note is judged and stored as texts.Clean leaves it.
//
// A repeat of an id with equal content returns what was stored first and
// duplicate true, whatever has become of the site or the order since. With
// other content, or after its entry was set aside, it is ErrConflict. Whom by.May refuses
// gets its refusal instead, but for a repeat of what the account itself has reported.
//
// Photos that cannot be taken do not refuse the check-in: what is stored says of each why.
//
// Where the site's history does not verify, or a refusal would rest on a roster that does
// not, the error is ledger.ErrAltered, and where it would rest on a clock that waits to be
// confirmed, it is ErrClockDoubtful. The phone keeps what it has.
func (s *Service) Submit(ctx context.Context, by By, c CheckIn, clientTime time.Time) (stored *Stored, duplicate bool, err error) {
	c.Note = texts.Clean(c.Note)
	c.Photos = declared(c.Photos)
	now := s.Now()
	// What follows is judged at one time, by whoever judges it.
	corrected := correct(c.Captured, clientTime, now)
	wrong := c.Check()
	roster := s.Roster.Roster()
	site, unknown := roster.Site(c.Site)
	if unknown != nil {
		site, _ = roster.SiteEver(c.Site) // whose registration was taken back; or nil
	}
	if by.May != nil {
		if refused := by.May(site, visitTime(corrected, now)); refused != nil {
			return s.refuse(ctx, &by, &c, s.all(wrong, s.surelyNot(refused)))
		}
	}
	if altered := s.Altered.Of(c.Site.History()); altered != nil {
		return s.submitAltered(ctx, &c, altered)
	}
	if unknown != nil {
		wrong = s.all(wrong, &sites.FieldError{Field: "site_id", Err: unknown})
	}
	if wrong != nil {
		if unknown == nil && !names(wrong, "capture_time") {
			_, refused := s.accept(c, roster, site, corrected, now)
			wrong = s.all(wrong, s.sure(refused))
		}
		return s.refuse(ctx, nil, &c, wrong)
	}
	draft, refused := s.accept(c, roster, site, corrected, now)
	if refused != nil {
		return s.refuse(ctx, nil, &c, refused)
	}
	release, err := s.inUse.hold(ctx, draft.Sums())
	if err != nil {
		return nil, false, err
	}
	defer release()
	if err := s.findReused(ctx, draft); err != nil {
		return nil, false, err
	}
	content, err := marshalContent(draft)
	if err != nil {
		return nil, false, err
	}
	e, existed, err := s.Ledger.Append(ctx, ledger.Draft{
		History: c.Site.History(), ID: string(c.ID), Kind: KindCheckIn, Time: now, Account: by.Account, Content: content,
	})
	if err != nil {
		return nil, false, err
	}
	if existed {
		return s.repeat(ctx, e, &c)
	}
	draft.Entry = e
	return draft, false, s.stored(ctx, draft)
}

// stored does what follows from a check-in that is in its history. It may be done
// any number of times: a phone that got no answer sends its check-in again.
func (s *Service) stored(ctx context.Context, c *Stored) error {
	s.index.Add(visit(c))
	if sums := c.Sums(); len(sums) > 0 {
		return s.Claims.Claim(ctx, sums, c.Ref())
	}
	return nil
}

// names reports whether an error is about the field among others.
func names(err error, field string) bool {
	return slices.ContainsFunc(sites.FieldErrorsOf(err), func(e *sites.FieldError) bool { return e.Field == field })
}

// all joins what is wrong with a check-in in itself to why else a field of it is refused.
// Where the roster does not verify, only the former is sure.
func (s *Service) all(wrong, refused error) error {
	switch {
	case wrong == nil:
		return refused
	case s.Altered.Of(ledger.Roster) != nil, sites.FieldErrorsOf(refused) == nil:
		return wrong
	}
	return sites.JoinFaults(wrong, refused)
}

// refuse answers a check-in that is refused: what was accepted once stays accepted, also
// where today's roster would refuse it. Whoever cannot tell must not say that it is
// refused. Where by says who asks, only what that account has reported itself counts.
func (s *Service) refuse(ctx context.Context, by *By, c *CheckIn, refused error) (*Stored, bool, error) {
	e, err := s.Ledger.Entry(ctx, c.Site.History(), string(c.ID))
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, false, s.sure(refused)
	}
	if err != nil {
		return nil, false, err
	}
	if by != nil && by.May != nil {
		first, err := Parse(e)
		if _, aside := s.Altered.OfEntry(e); err != nil || aside || e.Account != by.Account || !sameContent(&first.CheckIn, c) {
			return nil, false, s.sure(refused)
		}
		if altered := s.Altered.Of(c.Site.History()); altered != nil {
			return s.submitAltered(ctx, c, altered)
		}
	}
	return s.repeat(ctx, e, c)
}

// repeat answers a check-in whose id an entry has. The first may have come to another
// server, or its answer may have been lost before it was counted.
func (s *Service) repeat(ctx context.Context, e ledger.Entry, c *CheckIn) (*Stored, bool, error) {
	// One that was set aside counts nowhere, whatever it says. Its id stays taken, so the
	// visit is reported once more under another one.
	_, aside := s.Altered.OfEntry(e)
	first, err := Parse(e)
	if err == nil && !aside && sameContent(&first.CheckIn, c) {
		return first, true, s.stored(ctx, first)
	}
	if !aside { // and what is stored may have been changed since
		if altered := s.verify(ctx, e); altered != nil {
			return nil, false, altered
		}
	}
	if err == nil || aside {
		err = &sites.FieldError{Field: "check_in_id", Err: fmt.Errorf("%s: %w", c.ID, ErrConflict)}
	}
	return nil, false, err
}

// Get returns a check-in. The error is sites.ErrSiteUnknown or ErrNotFound, also after its
// entry was set aside, or ledger.ErrAltered where it cannot be said because the roster, or what there is of the
// site's history, does not verify.
func (s *Service) Get(ctx context.Context, site sites.SiteID, id CheckInID) (*Stored, error) {
	if _, err := s.Roster.Roster().SiteEver(site); err != nil {
		return nil, s.sure(&sites.FieldError{Field: "site_id", Err: err})
	}
	e, err := s.Ledger.Entry(ctx, site.History(), string(id))
	missing := errors.Is(err, ledger.ErrNotFound)
	altered, aside := s.Altered.OfEntry(e)
	if missing || err == nil && altered {
		if altered := s.Altered.Of(site.History()); altered != nil {
			return nil, altered
		}
		if !missing { // which nobody has noticed yet
			return nil, s.verify(ctx, e)
		}
	}
	if missing || err == nil && aside {
		err = &sites.FieldError{Field: "check_in_id", Err: fmt.Errorf("%s: %w", id, ErrNotFound)}
	}
	if err != nil {
		return nil, err
	}
	return Parse(e)
}
