package sites

import (
	"fmt"
	"time"
)

// This file bounds the times at which changes of the roster take effect. They bound what
// is entered and not what is stored: a history that says more is read as it is.

const (
	// MaxAhead is how far ahead of the clock a change can take effect. What is planned for
	// later is entered when it is nearer: a slip in the year would block all changes of the
	// same thing until then.
	MaxAhead = 366 * 24 * time.Hour
	// MaxOrderPast is how long before it is entered an order can start.
	MaxOrderPast = 30 * 24 * time.Hour
	// FirstYear is the first in which something can take effect.
	FirstYear = 1900
)

// checkEffect returns what is wrong with when a change is to take effect, or nil.
func (s *Service) checkEffect(t time.Time) error {
	first, last := DayStart(FirstYear, 1, 1, s.Zone), s.Now().Add(MaxAhead)
	if t.Before(first) {
		return s.outside(t, first, last, "lies before %s, the earliest that is taken: check the year", s.spell(first))
	}
	if t.After(last) {
		return s.outside(t, first, last, "lies more than %d days ahead: check the year, or enter it once it is nearer; %s is the latest by now",
			MaxAhead/(24*time.Hour), s.spell(DayOf(last, s.Zone, 0)))
	}
	return nil
}

// checkOrderTimes adds what is wrong with the order's times in themselves and by the clock.
func (s *Service) checkOrderTimes(o *ClosureOrder, f *Faults) {
	now := s.Now()
	first, last := now.Add(-MaxOrderPast), now.Add(MaxAhead)
	switch {
	case o.Start.IsZero():
		f.Join(Missing("start_time", ""))
	case o.Start.Before(first):
		f.Add("start_time", s.outside(o.Start, first, last, "lies more than %d days before now: an order that is entered late starts at %s or later",
			MaxOrderPast/(24*time.Hour), s.spell(first)))
	case o.Start.After(last):
		f.Add("start_time", s.checkEffect(o.Start))
	}
	switch {
	case o.End.IsZero():
		f.Join(Missing("end_time", ": every order has an end"))
	case o.Start.IsZero(): // by which alone an end can be judged
	case !o.End.After(o.Start):
		f.Join(Invalid("end_time", "must lie after start_time"))
	case o.End.Sub(o.Start) > MaxOrderLength:
		f.Add("end_time", fmt.Errorf("%w: from %s to %s", ErrOrderTooLong, s.moment(o.Start), s.moment(o.End)))
	case !o.End.After(now):
		f.Add("end_time", s.outside(o.End, now, nil, "lies in the past: an order that is over when it is entered closes nothing; check the year"))
	}
}

// ifPlanned says what can be done about a move in the way that is still to come.
func (s *Service) ifPlanned(t time.Time) string {
	if !t.After(s.Now()) {
		return ""
	}
	return "; that move is still to come and can be taken back (RevokeChange, xuncha revoke)"
}

// outside returns an error that wraps ErrOutOfRange and names the time, and says why.
func (s *Service) outside(t time.Time, least, most any, format string, args ...any) error {
	return &ValueError{Kind: ErrOutOfRange, Least: least, Most: most, text: s.spell(t) + " " + fmt.Sprintf(format, args...)}
}

// spell writes a time as moment does, and one that begins a day as the day.
func (s *Service) spell(t time.Time) string {
	if t.Equal(DayOf(t, s.Zone, 0)) {
		return t.In(s.Zone).Format(time.DateOnly)
	}
	return s.moment(t)
}
