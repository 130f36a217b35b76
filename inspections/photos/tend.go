package photos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"xuncha/inspections"
	"xuncha/sites"
)

// PartialDays is for how many days the beginning of a photo is kept.
const PartialDays = 7

// A Tending is what Tend has found and done.
type Tending struct {
	// Finished had arrived and were not yet stored for good; Refused turned out
	// not to be what was declared; Expired were the beginnings of photos that
	// nobody went on with for PartialDays, or that nobody waits for.
	Finished, Refused, Expired int
	// Strays were files that no photo has.
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
	var errs []error
	for _, p := range partials {
		if err := s.tend(ctx, &t, p.ref, p.received, p.last); err != nil {
			// The others are no less worth it.
			errs = append(errs, fmt.Errorf("photo %s of check-in %s: %w", p.ref.SHA256, p.ref.CheckIn, err))
		}
	}
	t.Strays, err = s.Store.Tidy(ctx)
	errs = append(errs, err)
	t.Purged, err = s.Purge(ctx, Keeper, false, nil)
	return t, errors.Join(append(errs, err)...)
}

// tend finishes or gives up a photo that is not stored.
func (s *Service) tend(ctx context.Context, t *Tending, ref Ref, received int64, last time.Time) error {
	c, photo, err := s.declared(ctx, ref)
	switch {
	case errors.Is(err, inspections.ErrNotFound), errors.Is(err, ErrUnknown), errors.Is(err, sites.ErrSiteUnknown):
		// The check-in, or its photo, does not exist.
		t.Expired++
		return s.Store.Discard(ctx, ref)
	case err != nil:
		return err
	case received >= photo.Size:
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
	case s.Now().Sub(last) > PartialDays*24*time.Hour || s.over(c.Order):
		t.Expired++
		return s.Store.Discard(ctx, ref)
	}
	return nil
}

// Check looks for every photo that is kept, and calls lost with those that are not
// there or not as they were stored. Before it reads the file of one it calls pace
// with its size, which may wait.
func (s *Service) Check(ctx context.Context, pace func(context.Context, int64) error, lost func(Kept, error)) (checked int, err error) {
	for k, err := range s.kept(ctx, "") {
		if err != nil {
			return checked, err
		}
		if err := pace(ctx, k.Size); err != nil {
			return checked, err
		}
		checked++
		why := s.whole(ctx, k)
		if why == nil {
			continue
		}
		if !errors.Is(why, ErrLost) {
			return checked, why
		}
		// It may have been purged meanwhile.
		now, err := keptAs(ctx, s.Store, k.Ref)
		if err != nil {
			return checked, err
		}
		if now != nil && !now.Purged {
			lost(k, why)
		}
	}
	return checked, nil
}

// whole checks that a photo is as it was stored.
func (s *Service) whole(ctx context.Context, k Kept) (err error) {
	f, err := s.Store.Open(ctx, k.Stored)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, f.Size())); err != nil {
		return err
	}
	if sum := inspections.Digest(h.Sum(nil)); sum != k.Stored {
		return fmt.Errorf("%s has the content of %s: %w", k.Stored, sum, ErrLost)
	}
	return nil
}
