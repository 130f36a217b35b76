package sites

import (
	"fmt"
	"time"

	"xuncha/ledger"
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
		f.Add("end_time", s.outside(o.End, now, time.Time{}, "lies in the past: an order that is over when it is entered closes nothing; check the year"))
	}
}

// ifPlanned says what can be done about a move in the way that is still to come.
func (s *Service) ifPlanned(t time.Time) string {
	if !t.After(s.Now()) {
		return ""
	}
	return "; that move is still to come and can be taken back (RevokeChange, xuncha revoke)"
}

// A newestChange is when the last change of some divisions takes effect.
type newestChange struct {
	time time.Time
	// revision is the roster's change, and code is a division that it is about.
	revision ledger.Sequence
	code     DivisionCode
}

// see looks at the changes of one more division.
func (n *newestChange) see(r *Roster, code DivisionCode) {
	d, err := r.division(code)
	if err != nil {
		return
	}
	for v := range d.versions {
		for _, m := range []*moment{v.from, v.to} {
			if m != nil && m.time.After(n.time) {
				*n = newestChange{m.time, m.sequence, code}
			}
		}
	}
}

// beforeChange returns the error of a table that takes effect before a change of what it
// speaks for. A county's table may be in the way of its city's like that. It names the
// change, and what can be done.
func (s *Service) beforeChange(effective time.Time, newest newestChange) error {
	way := fmt.Sprintf("give that day or a later one, or take change %d back", newest.revision)
	if newest.time.After(s.Now().Add(MaxAhead)) { // no later day is taken
		way = fmt.Sprintf("take change %d back", newest.revision)
	}
	return invalidf("is %s, but change %d of the roster has a later table of %s, which takes effect on %s; %s (RevokeChange, xuncha revoke)",
		s.spell(effective), newest.revision, newest.code, s.spell(newest.time), way)
}

// outside returns an error that wraps ErrOutOfRange, names the time and says why. The
// bounds are in the deployment's zone, as people read them; a zero one is none.
func (s *Service) outside(t, least, most time.Time, format string, args ...any) error {
	e := &ValueError{Kind: ErrOutOfRange, text: s.spell(t) + " " + fmt.Sprintf(format, args...)}
	if !least.IsZero() {
		e.Least = least.In(s.Zone)
	}
	if !most.IsZero() {
		e.Most = most.In(s.Zone)
	}
	return e
}

// spell writes a time as moment does, and one that begins a day as the day.
func (s *Service) spell(t time.Time) string {
	if t.Equal(DayOf(t, s.Zone, 0)) {
		return t.In(s.Zone).Format(time.DateOnly)
	}
	return s.moment(t)
}
