package sites

import (
	"context"
	"errors"
	"fmt"
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
	restored := func() bool {
		s.pastMu.Lock()
		defer s.pastMu.Unlock()
		return s.restored
	}
	r := s.Roster()
	if !restored() || r.Revision() == 0 {
		return nil
	}
	newest := r.event(r.Revision())
	e, err := s.projection.Entry(ctx, newest.Sequence) // whoever asks for a roster need not wait for it
	s.pastMu.Lock()
	defer s.pastMu.Unlock()
	if !s.restored {
		return nil // somebody else was quicker
	}
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

// Entry returns the roster's entry with the sequence.
func (s *Service) Entry(ctx context.Context, q ledger.Sequence) (ledger.Entry, error) {
	return s.projection.Entry(ctx, q)
}

// decision is what a change comes to: the entry's kind and content, and the
// rows to store beside it. stored, where it is not nil, is called once all that is in the
// store. A nil decision changes nothing.
type decision struct {
	kind    ledger.Kind
	content Content
	rows    []byte
	rowsSum string
	stored  func()
}

// change lets decide look at the newest roster and stores what it decides,
// once more from the start where the roster was changed meanwhile. It returns
// the roster afterwards.
//
// Where the request has made an entry before, decide is not asked, nothing is changed, and
// again is that entry. Where decide refuses the change, or finds nothing to change, it is
// asked once more if another server has changed the roster by then: what the change is about
// may be what that one was told a moment ago.
func (s *Service) change(ctx context.Context, by By, decide func(*Roster) (*decision, error)) (after *Roster, again *ledger.Entry, err error) {
	var idle *Roster // by which nothing is to be changed
	watched := func(r *Roster) (*decision, error) {
		d, err := decide(r)
		if idle = nil; err != nil || d == nil {
			idle = r
		}
		return d, err
	}
	after, again, err = s.changeOnce(ctx, by, watched)
	if idle != nil && again == nil && s.projection.Refresh(ctx) == nil && s.Roster() != idle {
		after, again, err = s.changeOnce(ctx, by, watched)
	}
	return after, again, err
}

// changeOnce is change on the roster that this server has, or a newer one.
func (s *Service) changeOnce(ctx context.Context, by By, decide func(*Roster) (*decision, error)) (after *Roster, again *ledger.Entry, err error) {
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
		return &ledger.Draft{ID: by.Request.IDOr(s.NewID), Kind: d.kind, Time: s.Now(), Account: by.Account, Content: content, Stored: d.stored}, nil
	})
	if err == nil && again != nil {
		after, err = s.repeat(ctx, by, again)
	}
	return after, again, err
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
