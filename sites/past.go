package sites

import (
	"context"
	"slices"
	"time"

	"xuncha/ledger"
)

// A keptRoster is a roster with the count of rows by which it differs from the one
// before.
type keptRoster struct {
	*Roster
	rows int
}

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
