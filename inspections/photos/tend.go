package photos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xuncha/inspections"
	"xuncha/sites"
)

const (
	// PartialDays is for how many days the beginning of a photo is kept.
	PartialDays = 7
	// UnknownDays is for how many days a file is kept of which no record knows, or the
	// beginning of a photo of a check-in that does not exist. Somebody may have put an
	// older database in place, and has so long to put back the right one.
	UnknownDays = 30
)

// days is a number of them.
func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// A Tending is what Tend has found and done.
type Tending struct {
	// Finished had arrived and were not yet stored for good; Refused turned out
	// not to be what was declared; Expired were the beginnings of photos that
	// nobody went on with for PartialDays, or that nobody has waited for in UnknownDays.
	Finished, Refused, Expired int
	// Strays were left by what a crash interrupted.
	Strays int
	// Purged were kept until their time was over.
	Purged int
}

// Tend brings to an end what a crash has interrupted, gives up what nobody went on
// with, and purges what is not to be kept any more. It is called at every start
// and from time to time, and may run beside uploads.
func (s *Service) Tend(ctx context.Context) (t Tending, err error) {
	type partial struct {
		ref      Ref
		received int64
		last     time.Time
	}
	var partials []partial
	err = s.Store.Partials(ctx, func(ref Ref, received int64, last time.Time) error {
		partials = append(partials, partial{ref, received, last})
		return nil
	})
	if err != nil {
		return t, err
	}
	var failed failures
	for _, p := range partials {
		if err := s.tend(ctx, &t, p.ref, p.received, p.last); err != nil {
			// The others are no less worth it.
			failed.add(fmt.Errorf("photo %s of check-in %s: %w", p.ref.SHA256, p.ref.CheckIn, err))
		}
	}
	t.Strays, err = s.Store.Tidy(ctx)
	var errPurge error
	t.Purged, errPurge = s.Purge(ctx, Keeper, false, nil)
	return t, errors.Join(failed.err(), err, errPurge)
}

// namedFailures is how many of many failures are named. There may be as many as photos, as
// where a site's history does not verify.
const namedFailures = 10

// failures are errors that keep nothing else from being done.
type failures struct {
	first []error
	more  int
}

func (f *failures) add(err error) {
	if len(f.first) == namedFailures {
		f.more++
		return
	}
	f.first = append(f.first, err)
}

// err returns all of them as one error, or nil.
func (f *failures) err() error {
	err := errors.Join(f.first...)
	if f.more > 0 {
		err = fmt.Errorf("%w\nand %d more", err, f.more)
	}
	return err
}

// tend finishes or gives up a photo that is not stored.
func (s *Service) tend(ctx context.Context, t *Tending, ref Ref, received int64, last time.Time) error {
	c, photo, err := s.declared(ctx, ref)
	all := received >= photo.Size
	if err == nil && !all {
		// Of what has come, a power cut may have left less than of the photo that was made
		// of it, which is then still to be put on record.
		var kept *Kept
		kept, err = keptAs(ctx, s.Store, ref)
		all = kept != nil && !kept.Purged
	}
	switch {
	case errors.Is(err, inspections.ErrNotFound), errors.Is(err, ErrUnknown), errors.Is(err, sites.ErrSiteUnknown):
		// The check-in, or its photo, does not exist, or is in a database that is away.
		if !s.surely(last.Add(days(UnknownDays))) {
			return nil
		}
		t.Expired++
		return s.Store.Discard(ctx, ref)
	case err != nil:
		return err
	case photo.Refused != "": // which a server of an earlier version does not see
		t.Refused++
		return s.Store.Discard(ctx, ref)
	case all:
		err := s.finish(ctx, Keeper, c, photo)
		var refused *sites.FieldError
		switch {
		case errors.As(err, &refused):
			t.Refused++
			return nil
		case errors.Is(err, ErrOffset):
			return nil // somebody has finished or discarded it meanwhile
		case err == nil:
			t.Finished++
		}
		return err
	case s.surely(last.Add(days(PartialDays))) || s.surelyOver(c.Order):
		t.Expired++
		return s.Store.Discard(ctx, ref)
	}
	return nil
}
