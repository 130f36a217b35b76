package sites

import (
	"fmt"
	"time"
)

// A DivisionCode is the statistical code of an administrative division: 6
// digits for a city or a county, 9 for a township, 12 for a village. The code
// of a county need not begin with that of its city, so the hierarchy follows
// the parent that a division names and never a prefix.
//
// Source: the division codes for statistics of the National Bureau of
// Statistics of China.
type DivisionCode string

// ParseDivisionCode returns s as a code, or an error that wraps ErrInvalid
// where it is not 6, 9 or 12 digits.
func ParseDivisionCode(s string) (DivisionCode, error) {
	switch len(s) {
	case 6, 9, 12:
	default:
		return "", invalidf("%q is no division code: want 6, 9 or 12 digits", clip(s))
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return "", invalidf("%q is no division code: want only digits", clip(s))
		}
	}
	return DivisionCode(s), nil
}

// clip shortens what a caller wrote to what an error message can show.
func clip(s string) string {
	const most = 40
	n := 0
	for i := range s {
		if n == most {
			return s[:i] + "…"
		}
		n++
	}
	return s
}

// A Level is the rank of a division.
type Level int

// The levels, from the widest to the narrowest.
const (
	City Level = iota + 1
	County
	Township
	Village
)

var levelNames = map[Level]string{City: "city", County: "county", Township: "township", Village: "village"}

// levelWords are the spellings that an imported table may use.
var levelWords = map[string]Level{
	"city": City, "county": County, "township": Township, "village": Village,
	"市": City, "地级市": City, "地级": City,
	"县": County, "区": County, "县级市": County, "县级": County, "区县": County, "district": County,
	"乡": Township, "镇": Township, "街道": Township, "乡镇": Township, "乡级": Township, "乡镇街道": Township, "street": Township, "town": Township,
	"村": Village, "社区": Village, "村级": Village, "居委会": Village, "村委会": Village, "community": Village,
}

// String returns the level's English name: city, county, township or village.
func (l Level) String() string {
	if s, ok := levelNames[l]; ok {
		return s
	}
	return fmt.Sprintf("Level(%d)", int(l))
}

// MarshalText writes the level as String does.
func (l Level) MarshalText() ([]byte, error) {
	if _, ok := levelNames[l]; !ok {
		return nil, fmt.Errorf("%w: level %d", ErrInvalid, int(l))
	}
	return []byte(l.String()), nil
}

// UnmarshalText reads what MarshalText writes, and the Chinese words for it.
func (l *Level) UnmarshalText(b []byte) error {
	v, ok := levelWords[string(b)]
	if !ok {
		return fmt.Errorf("%w: level %q", ErrInvalid, clip(string(b)))
	}
	*l = v
	return nil
}

// digits returns the length of a code at the level.
func (l Level) digits() int {
	switch l {
	case Township:
		return 9
	case Village:
		return 12
	default:
		return 6
	}
}

// A Division is one version of an administrative division: its name and its
// parent as they were from From until To.
type Division struct {
	Code DivisionCode
	Name string
	// Level never changes while a code lives.
	Level Level
	// Parent is empty for a city.
	Parent DivisionCode
	// From is the first moment at which this version is in force.
	From time.Time
	// To is the first moment at which it is no longer; zero while it has no end.
	// It is From for a division that one table of a day has and a later table of
	// the same day has not: that was never in force.
	To time.Time
}

// In reports whether the version is in force at t.
func (d Division) In(t time.Time) bool { return during(t, d.From, d.To) }

// during reports whether t lies in [from, to), where a zero to has no end.
func during(t, from, to time.Time) bool {
	return !t.Before(from) && (to.IsZero() || t.Before(to))
}
