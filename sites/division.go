package sites

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A DivisionCode is the statistical code of an administrative division in its
// shortest form: 6 digits for a nation, a province, a city or a county, 9 for a
// township, 12 for a village. The nation's code is 100000. The code of a county
// need not begin with that of its city, so the hierarchy follows the parent that
// a division names and never a prefix.
//
// Source: the division codes for statistics of the National Bureau of
// Statistics of China.
type DivisionCode string

// ParseDivisionCode returns the code that s writes, in its shortest form. The
// bureau fills codes up with zeros to 12 digits: 511602001000 is the township
// 511602001, and 511602000000 the county 511602. The code of a township never
// ends in 000, nor does that of a village. The error wraps ErrInvalid where s is
// not 6, 9 or 12 digits.
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
	for len(s) > 6 && strings.HasSuffix(s, "000") {
		s = s[:len(s)-3]
	}
	return DivisionCode(s), nil
}

// Shortest returns the code as ParseDivisionCode does. What is no code stays as
// it is, for an error to name.
func (c DivisionCode) Shortest() DivisionCode {
	if code, err := ParseDivisionCode(string(c)); err == nil {
		return code
	}
	return c
}

// level returns the level that the form of the code tells: 510000 is a
// province's, 511600 a city's, 511602 a county's.
func (c DivisionCode) level() Level {
	switch {
	case len(c) == Village.digits():
		return Village
	case len(c) == Township.digits():
		return Township
	case c == nationCode:
		return Nation
	case strings.HasSuffix(string(c), "0000"):
		return Province
	case strings.HasSuffix(string(c), "00"):
		return City
	}
	return County
}

// nationCode is the one code of a nation, 中华人民共和国.
const nationCode DivisionCode = "100000"

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

// A Level is the rank of a division. Its number says nothing about its width:
// see Wider.
type Level int

// The levels, by the numbers that the API gives them.
const (
	City     Level = 1
	County   Level = 2
	Township Level = 3
	Village  Level = 4
	Nation   Level = 5
	Province Level = 6
)

// Levels are all levels, from the widest to the narrowest.
var Levels = []Level{Nation, Province, City, County, Township, Village}

// levels has what is to be known of each level.
var levels = map[Level]struct {
	name string
	// width is 1 for the narrowest level.
	width int
	// digits is the length of a code.
	digits int
	// top levels may be without a parent.
	top bool
}{
	Nation:   {"nation", 6, 6, true},
	Province: {"province", 5, 6, true},
	City:     {"city", 4, 6, true},
	County:   {"county", 3, 6, false},
	Township: {"township", 2, 9, false},
	Village:  {"village", 1, 12, false},
}

// levelWords are the spellings that an imported table may use.
var levelWords = map[string]Level{
	"nation": Nation, "country": Nation,
	"国家": Nation, "全国": Nation, "国家级": Nation,

	"province": Province, "autonomous region": Province, "municipality": Province,
	"省": Province, "自治区": Province, "直辖市": Province, "特别行政区": Province, "省级": Province,

	"city": City, "prefecture": City, "autonomous prefecture": City, "league": City,
	"市": City, "地级市": City, "地级": City, "市级": City, "副省级市": City, "地区": City, "自治州": City, "盟": City,

	"county": County, "district": County, "banner": County, "autonomous county": County, "autonomous banner": County,
	"县": County, "区": County, "县级市": County, "县级": County, "区县": County, "市辖区": County, "自治县": County,
	"旗": County, "自治旗": County, "林区": County, "特区": County,

	"township": Township, "town": Township, "street": Township, "subdistrict": Township,
	"乡": Township, "镇": Township, "街道": Township, "乡镇": Township, "乡级": Township, "乡镇街道": Township, "街道办事处": Township,
	"民族乡": Township, "苏木": Township, "民族苏木": Township, "区公所": Township,

	"village": Village, "community": Village,
	"村": Village, "社区": Village, "村级": Village, "嘎查": Village, "居委会": Village, "村委会": Village, "村民委员会": Village,
	"居民委员会": Village, "社区居委会": Village, "社区居民委员会": Village,
}

// openWords are words that leave the level open, with all levels that each can
// mean. 市 stands for 地级市, 县级市 and 直辖市 alike. 区 is also what some
// townships are called. 市辖区 is also the name of what groups the districts of a
// 直辖市, such as 110100. A 直辖市 may be on the roster as a city: before there
// were provinces here, it could be nothing else.
var openWords = map[string][]Level{
	"市":   {City, County, Province},
	"区":   {County, Township},
	"市辖区": {County, City},
	"直辖市": {Province, City},
}

// readLevel returns the level that the word means of a division with the code,
// or 0 where it is no word for a level. Where the word leaves it open, the form
// of the code decides. A division without a parent is never made one that needs
// one: a 市 is a city then.
func readLevel(word string, code DivisionCode, hasParent bool) Level {
	level := levelWords[word]
	form := code.level()
	if !slices.Contains(openWords[word], form) || !hasParent && levels[level].top && !levels[form].top {
		return level
	}
	return form
}

// Wider reports whether divisions of the level are wider than those of the
// other, so that one of them can be the parent of one of the other.
func (l Level) Wider(than Level) bool { return levels[l].width > levels[than].width }

// String returns the level's English name, such as county.
func (l Level) String() string {
	if known, ok := levels[l]; ok {
		return known.name
	}
	return fmt.Sprintf("Level(%d)", int(l))
}

// MarshalText writes the level as String does.
func (l Level) MarshalText() ([]byte, error) {
	if _, ok := levels[l]; !ok {
		return nil, fmt.Errorf("%w: level %d", ErrInvalid, int(l))
	}
	return []byte(l.String()), nil
}

// UnmarshalText reads what MarshalText writes, and the other words for it.
func (l *Level) UnmarshalText(b []byte) error {
	v, ok := levelWords[string(b)]
	if !ok {
		return fmt.Errorf("%w: level %q", ErrInvalid, clip(string(b)))
	}
	*l = v
	return nil
}

// digits returns the length of a code at the level.
func (l Level) digits() int { return levels[l].digits }

// A Division is one version of an administrative division: its name and its
// parent as they were from From until To.
type Division struct {
	Code DivisionCode
	Name string
	// Level never changes while a code lives.
	Level Level
	// Parent is a division of a wider level. It is empty for one at the top: a
	// nation, a province or a city.
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
