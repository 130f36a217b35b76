package sites

import "time"

// DayStart returns the first moment of a day in a time zone: the first at which clocks
// there show the day or a later one. Mostly that is midnight. Where clocks are set forward
// at midnight there is none, and the day begins with the hour that follows; time.Date
// then answers in some zones with an hour of the day before. Where they are set back to
// the day before, the day has begun at the first of the two midnights. A day that a zone
// has left out begins, and ends, where the next one begins.
//
// The day may lie outside of its month, as with time.Date. A day ends where the next one
// begins.
func DayStart(year int, month time.Month, day int, zone *time.Location) time.Time {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	// No clock is more than a day ahead of UTC, so the day has not begun anywhere.
	t := midnight.Add(-24 * time.Hour).In(zone)
	for {
		_, offset := t.Zone()
		local := midnight.Add(-time.Duration(offset) * time.Second)
		if local.Before(t) { // clocks were set forward over it
			return t
		}
		_, end := t.ZoneBounds()
		if end.IsZero() || local.Before(end) {
			return local.In(zone)
		}
		t = end
	}
}

// DayOf returns the first moment of the day in which t lies in a time zone, or of the day
// that many days later.
func DayOf(t time.Time, zone *time.Location, days int) time.Time {
	year, month, day := t.In(zone).Date()
	// Clocks that were set back may show once more the day before.
	for !t.Before(DayStart(year, month, day+1, zone)) {
		day++
	}
	return DayStart(year, month, day+days, zone)
}
