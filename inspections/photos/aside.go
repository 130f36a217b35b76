package photos

import (
	"context"
	"errors"

	"xuncha/inspections"
	"xuncha/ledger"
)

// SetAside sets the files aside that no photo has, and deletes those for good that were
// surely set aside for UnknownDays and that no history knows either. It is called at every
// start, after Tend, and every day. OnRecord is how many of the files histories know: the
// store has lost what it knows of their photos.
func (s *Service) SetAside(ctx context.Context) (a Aside, onRecord int, err error) {
	today := DayOf(s.Now())
	var known map[inspections.Digest]int
	a, err = s.Store.SetAside(ctx, today, func(stored inspections.Digest, on Day) (bool, error) {
		end, ok := on.end()
		over := ok && s.surely(end.Add(days(UnknownDays)))
		if !over && on != today {
			return false, nil // the histories were asked when it was set aside
		}
		if known == nil {
			var err error
			if known, err = s.onRecord(ctx); err != nil {
				return false, err
			}
		}
		if known[stored] > 0 {
			onRecord++
			return false, nil
		}
		return over, nil
	})
	return a, onRecord, err
}

// onRecord returns how many photos have each file, as the histories say.
func (s *Service) onRecord(ctx context.Context) (map[inspections.Digest]int, error) {
	out := map[inspections.Digest]int{}
	for e, err := range s.Ledger.Feed(ctx, "") {
		if errors.Is(err, ledger.ErrWaiting) {
			break // nothing that was stored just now is set aside
		}
		if err != nil {
			return nil, err
		}
		if e.Kind != KindStored && e.Kind != KindPurged {
			continue
		}
		event, err := ParseEvent(e.Entry)
		switch {
		case err != nil:
			continue // altered, and named by whoever verifies histories
		case event.Purged:
			out[event.Stored]--
		default:
			out[event.Stored]++
		}
	}
	return out, nil
}
