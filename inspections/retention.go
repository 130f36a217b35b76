package inspections

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"xuncha/ledger"
	"xuncha/sites"
)

const (
	// MaxRetentionDays is the longest that photos can be kept after the end of
	// their closure order: three years.
	MaxRetentionDays = 3 * 365
	// DefaultRetentionDays is how long they are kept where nothing else is said.
	DefaultRetentionDays = 180
)

// keptUntil is until when the photos of check-ins under the order are kept.
func (s *Service) keptUntil(o *sites.ClosureOrder) time.Time {
	return o.End.Add(time.Duration(s.RetentionDays) * 24 * time.Hour)
}

// over reports whether the photos of check-ins under the order are not kept any
// more.
func (s *Service) over(id sites.OrderID) bool {
	o, err := s.Roster.Roster().Order(id)
	return err == nil && !s.Now().Before(s.keptUntil(o))
}

// purgePage is how many photos are asked for at once.
const purgePage = 200

// Purge deletes the photos whose time is over, and calls each, where it is not
// nil, with every one once that is done and on record. A dry run deletes nothing.
// One that cannot be deleted does not keep the others; the error names it.
func (s *Service) Purge(ctx context.Context, account string, dryRun bool, each func(PhotoEvent)) (purged int, err error) {
	var errs []error
	for _, o := range s.Roster.Roster().Orders() {
		if s.Now().Before(s.keptUntil(o)) {
			continue
		}
		var after PhotoRef
		for {
			page, err := s.Photos.KeptUnder(ctx, o.ID, after, purgePage)
			if err != nil {
				return purged, err
			}
			if len(page) == 0 {
				break
			}
			for _, k := range page {
				after = k.PhotoRef
				event := PhotoEvent{KeptPhoto: k, OrderEnd: o.End, RetentionDays: s.RetentionDays}
				if !dryRun {
					err := s.purge(ctx, account, event)
					if errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, ledger.ErrFull) || ctx.Err() != nil {
						return purged, err
					}
					if err != nil {
						errs = append(errs, fmt.Errorf("photo %s of check-in %s: %w", k.SHA256, k.CheckIn, err))
						continue
					}
				}
				purged++
				if each != nil {
					each(event)
				}
			}
		}
	}
	return purged, errors.Join(errs...)
}

// purge deletes a photo. What is interrupted is done again by the next purge,
// which finds the entry there.
func (s *Service) purge(ctx context.Context, account string, e PhotoEvent) error {
	err := s.appendPhoto(ctx, account, KindPhotoPurged, e.PhotoRef, purgedRecord{
		CheckIn: e.CheckIn, SHA256: e.SHA256.String(), StoredSHA256: e.Stored.String(), Order: e.Order,
		OrderEnd: e.OrderEnd.UTC(), RetentionDays: e.RetentionDays,
	})
	if err != nil {
		return err
	}
	return s.Photos.Purge(ctx, e.KeptPhoto)
}

// A Tending is what TendPhotos has found and done.
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

// TendPhotos brings to an end what a crash has interrupted, gives up what nobody
// went on with, and purges what is not to be kept any more. It is called at every
// start and once a day, and may run beside uploads.
func (s *Service) TendPhotos(ctx context.Context) (t Tending, err error) {
	type partial struct {
		ref      PhotoRef
		received int64
		last     time.Time
	}
	var partials []partial
	err = s.Photos.Partials(ctx, func(ref PhotoRef, received int64, last time.Time) error {
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
	t.Strays, err = s.Photos.Tidy(ctx)
	errs = append(errs, err)
	t.Purged, err = s.Purge(ctx, PhotoKeeper, false, nil)
	return t, errors.Join(append(errs, err)...)
}

// tend finishes or gives up a photo that is not stored.
func (s *Service) tend(ctx context.Context, t *Tending, ref PhotoRef, received int64, last time.Time) error {
	c, photo, err := s.declared(ctx, ref)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrPhotoUnknown), errors.Is(err, sites.ErrSiteUnknown):
		// Of a check-in that there is not.
		t.Expired++
		return s.Photos.Discard(ctx, ref)
	case err != nil:
		return err
	case received >= photo.Size:
		err := s.finish(ctx, PhotoKeeper, c, photo)
		var refused *sites.FieldError
		switch {
		case errors.As(err, &refused):
			t.Refused++
			return nil
		case errors.Is(err, ErrPhotoMissing):
			return nil // whoever sent it has finished it meanwhile
		case err == nil:
			t.Finished++
		}
		return err
	case s.Now().Sub(last) > PartialDays*24*time.Hour || s.over(c.Order):
		t.Expired++
		return s.Photos.Discard(ctx, ref)
	}
	return nil
}

// CheckPhotos looks for every photo that is kept, and calls lost with those that
// are not there or not as they were stored. Before it reads the file of one it
// calls pace with its size, which may wait.
func (s *Service) CheckPhotos(ctx context.Context, pace func(context.Context, int64) error, lost func(KeptPhoto, error)) (checked int, err error) {
	err = s.Photos.Kept(ctx, func(k KeptPhoto) error {
		if err := pace(ctx, k.Size); err != nil {
			return err
		}
		checked++
		err := s.whole(ctx, k)
		if !errors.Is(err, ErrPhotoLost) {
			return err
		}
		// It may have been purged meanwhile.
		if now, err := keptPhoto(ctx, s.Photos, k.PhotoRef); err != nil || now == nil || now.Purged {
			return err
		}
		lost(k, err)
		return nil
	})
	return checked, err
}

// whole checks that a photo is as it was stored.
func (s *Service) whole(ctx context.Context, k KeptPhoto) (err error) {
	f, err := s.Photos.Open(ctx, k.Stored)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, err := digest(io.NewSectionReader(f, 0, f.Size()))
	if err == nil && sum != k.Stored {
		err = fmt.Errorf("%s has the content of %s: %w", k.Stored, sum, ErrPhotoLost)
	}
	return err
}
