package inspections

import (
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"xuncha/inspections/coverage"
	"xuncha/internal/texts"
	"xuncha/sites"
)

// This file holds all by which a check-in is refused, flagged or found to be a
// repeat.

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
	// MaxAccuracy is the greatest error, in metres, with which a phone still says where
	// it is.
	MaxAccuracy = 100_000.0
)

// The bounds of what a check-in can say.
const (
	// MaxCancelledEvents and MaxDispersedPeople are far above what one visit
	// can find, so that what is beyond them is a slip of the finger.
	MaxCancelledEvents = 1_000
	MaxDispersedPeople = 100_000
	// MaxNote is the length of a note in characters, and MaxSentNote that of one that
	// is not clean yet.
	MaxNote     = 500
	MaxSentNote = 5_000
)

// The years between which a visit lies, by any clock that is not wholly wrong.
const (
	minYear = 1970
	maxYear = 9000
)

// Check returns all that is wrong with the report in itself: a *sites.FieldError or
// sites.FieldErrors.
func (c *CheckIn) Check() error {
	var f sites.Faults
	if c.ID == "" {
		f.Join(sites.Missing("check_in_id", ""))
	}
	if c.Site == "" {
		f.Join(sites.Missing("site_id", ""))
	}
	switch {
	case c.Captured.IsZero():
		f.Join(sites.Missing("capture_time", ""))
	case c.Captured.Year() < minYear || c.Captured.Year() > maxYear:
		f.Join(sites.Invalid("capture_time", "must lie between the years %d and %d", minYear, maxYear))
	}
	switch {
	case c.Finding == "":
		f.Join(sites.Missing("finding", ""))
	case !slices.Contains(findings, c.Finding):
		f.Join(sites.Invalid("finding", "is %q; it must be closed, closed_no_notice, open or inaccessible", c.Finding))
	}
	if c.CancelledEvents < 0 || c.CancelledEvents > MaxCancelledEvents {
		f.Join(sites.OutOfRange("cancelled_event_count", 0, MaxCancelledEvents))
	}
	if c.DispersedPeople < 0 || c.DispersedPeople > MaxDispersedPeople {
		f.Join(sites.OutOfRange("dispersed_people_count", 0, MaxDispersedPeople))
	}
	switch note := texts.Clean(c.Note); {
	case !utf8.ValidString(note):
		f.Join(sites.Invalid("note", "is not valid UTF-8"))
	case utf8.RuneCountInString(note) > MaxNote:
		f.Join(sites.TooLong("note", utf8.RuneCountInString(note), MaxNote, sites.Characters))
	}
	if len(c.Photos) > MaxDeclaredPhotos {
		f.Join(sites.TooLong("photos", len(c.Photos), MaxDeclaredPhotos, sites.Items))
	}
	return f.Err()
}

// correct returns the time of a visit, corrected by how far the phone's clock is off.
func correct(captured, clientTime, now time.Time) time.Time {
	if off := now.Sub(clientTime); !clientTime.IsZero() && (off > ClockTolerance || off < -ClockTolerance) {
		captured = captured.Add(off)
	}
	return captured.UTC()
}

// accept applies the rules to a check-in that arrives now and is right in itself.
func (s *Service) accept(c CheckIn, roster *sites.Roster, site *sites.Site, corrected, now time.Time) (*Stored, error) {
	field := func(name string, err error) error { return &sites.FieldError{Field: name, Err: err} }
	out := &Stored{CheckIn: c, Corrected: corrected}
	var flags [4]bool // in the order of the API's enum
	flags[3] = !corrected.Equal(c.Captured)
	if out.Corrected.After(now.Add(FutureTolerance)) {
		return nil, field("capture_time", fmt.Errorf("%s %w", out.Corrected.Format(time.RFC3339), ErrFuture))
	}
	at := visitTime(out.Corrected, now)
	if !site.RegisteredAt(at) {
		return nil, field("site_id", fmt.Errorf("%s at %s: %w", c.Site, at.Format(time.RFC3339), ErrNotRegistered))
	}
	order := roster.OrderAt(site, at)
	if order == nil {
		if next := roster.OrderAt(site, now); next != nil && at.Before(next.Start) {
			return nil, field("capture_time", fmt.Errorf("%s %w %s, which starts at %s",
				at.Format(time.RFC3339), ErrBeforeOrder, next.Number, next.Start.Format(time.RFC3339)))
		}
		return nil, field("capture_time", fmt.Errorf("%s: %w", at.Format(time.RFC3339), ErrNoOrder))
	}
	out.Order = order.ID
	flags[0] = now.Sub(at) > SyncedLateAfter
	flags[1] = s.visitedLate(roster, site, at)
	if place := site.PlaceAt(at).Position; place != nil && c.Location.known() {
		metres := math.Round(distance(c.Location.inWGS84(), *place))
		out.Distance = &metres
		flags[2] = metres-c.Location.Accuracy > AwayFromSiteBeyond
	}
	out.Location, out.Photos = nil, s.judge(c.Photos)
	for i, f := range []Flag{SyncedLate, VisitedLate, AwayFromSite, ClockCorrected} {
		if flags[i] {
			out.Flags = append(out.Flags, f)
		}
	}
	return out, nil
}

// visitTime returns when a visit was: when the phone says, corrected, but not after the
// receipt. The visit has been by then, whatever the phone says, and a figure that lay
// ahead of the clock would be of a time that nothing else is judged at.
func visitTime(corrected, receipt time.Time) time.Time {
	if corrected.After(receipt) {
		return receipt.UTC()
	}
	return corrected
}

// visitedLate reports whether a visit is late as it looks now. Visits that arrive later
// may show that it was not, so that reports do not go by it.
func (s *Service) visitedLate(roster *sites.Roster, site *sites.Site, at time.Time) bool {
	last, visited := s.index.Last(site.ID, at)
	if visited && at.Sub(last) <= sites.MinInspectionInterval {
		return false // whichever orders are in force
	}
	return coverage.VisitedLate(roster.Closures(site), at, last)
}

// sameContent reports whether two reports say the same, by what counts: the note as it is
// stored, which in records of earlier versions is not clean, and the time to the
// millisecond, of which some phones' formats keep no more. The location does not count:
// that of the first was dropped. Of photos, what the phone says of the file counts.
func sameContent(a, b *CheckIn) bool {
	off := a.Captured.Sub(b.Captured)
	return a.ID == b.ID && a.Site == b.Site && off > -time.Millisecond && off < time.Millisecond && a.Finding == b.Finding &&
		a.DutyStaffPresent == b.DutyStaffPresent && a.CancelledEvents == b.CancelledEvents &&
		a.DispersedPeople == b.DispersedPeople && texts.Clean(a.Note) == texts.Clean(b.Note) &&
		declaresAll(a.Photos, b.Photos) && declaresAll(b.Photos, a.Photos)
}

// declaresAll reports whether each of some photos is declared among others, in any order.
func declaresAll(some, others []Photo) bool {
	for _, p := range some {
		if !slices.ContainsFunc(others, func(q Photo) bool { return samePhoto(p, q) }) {
			return false
		}
	}
	return true
}
