package photos

import (
	"context"
	"errors"
	"fmt"
	"iter"
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

// endOf is from when on the days count for which the photos of check-ins under the order
// are kept: from its end, or else from when it was taken back, wherever its end was to lie.
func endOf(o *sites.ClosureOrder, revoked time.Time) time.Time {
	if revoked.IsZero() {
		return o.End
	}
	return revoked
}

// keptUntil is until when photos are kept where the days count from end on.
func (s *Service) keptUntil(end time.Time) time.Time {
	return end.Add(time.Duration(s.RetentionDays) * 24 * time.Hour)
}

// over reports whether the time of the photos of check-ins under the order is over by
// the server's clock. They are not shown then, and none is taken in. Where that clock is
// wrong it can be put right, so nothing is deleted by this.
func (s *Service) over(id sites.OrderID) bool {
	o, revoked, err := s.Roster.Roster().OrderEver(id)
	return err == nil && !s.Now().Before(s.keptUntil(endOf(o, revoked)))
}

// surelyOver is over by the time that may be counted with.
func (s *Service) surelyOver(id sites.OrderID) bool {
	o, revoked, err := s.Roster.Roster().OrderEver(id)
	return err == nil && s.surely(s.keptUntil(endOf(o, revoked)))
}

// surely reports whether the time has come by the time that may be counted with. All
// that deletes for good because time has passed asks here.
func (s *Service) surely(t time.Time) bool {
	if s.Believed == nil {
		return false
	}
	now, ok := s.Believed()
	return ok && !now.Before(t)
}

// keptPage is how many photos are asked for at once.
const keptPage = 500

// kept gives every photo that was not purged, of check-ins under the order or,
// where that is empty, under any. An error is the last that it gives.
func (s *Service) kept(ctx context.Context, order sites.OrderID) iter.Seq2[Kept, error] {
	return func(yield func(Kept, error) bool) {
		var after Ref
		for {
			page, err := s.Store.Kept(ctx, order, after, keptPage)
			if err != nil {
				yield(Kept{}, err)
			}
			if err != nil || len(page) == 0 {
				return
			}
			for _, k := range page {
				if !yield(k, nil) {
					return
				}
			}
			after = page[len(page)-1].Ref
		}
	}
}

// Purge deletes the photos whose time is surely over, and calls each, where it is not
// nil, with every one once that is done and on record. A dry run deletes nothing.
// One that cannot be deleted does not keep the others; the error names it.
func (s *Service) Purge(ctx context.Context, account string, dryRun bool, each func(Event)) (purged int, err error) {
	var failed failures
	for o, revoked := range s.Roster.Roster().OrdersEver() {
		end := endOf(o, revoked)
		if !s.surely(s.keptUntil(end)) {
			continue
		}
		for k, err := range s.kept(ctx, o.ID) {
			if err != nil {
				return purged, err
			}
			event := Event{Kept: k, OrderEnd: end, RetentionDays: s.RetentionDays}
			if !dryRun {
				err := s.purge(ctx, account, event)
				if errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, ledger.ErrFull) || ctx.Err() != nil {
					return purged, err
				}
				if err != nil {
					failed.add(fmt.Errorf("photo %s of check-in %s: %w", k.SHA256, k.CheckIn, err))
					continue
				}
			}
			purged++
			if each != nil {
				each(event)
			}
		}
	}
	return purged, failed.err()
}

// purge deletes a photo. What is interrupted is done again by the next purge,
// which finds the entry there.
func (s *Service) purge(ctx context.Context, account string, e Event) error {
	ctx = ledger.WithReserve(ctx) // it makes room
	err := s.append(ctx, account, KindPurged, e.Ref, purgedRecord{
		CheckIn: e.CheckIn, SHA256: e.SHA256.String(), StoredSHA256: e.Stored.String(), Order: e.Order,
		OrderEnd: e.OrderEnd.UTC(), RetentionDays: e.RetentionDays,
	})
	if err != nil {
		return err
	}
	return s.Store.Purge(ctx, e.Kept)
}
