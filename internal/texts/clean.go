// Package texts has what holds of any text that people type and read: what is made of one
// before it is judged and stored, what belongs in one of a single line, and how one is
// shown on a terminal.
package texts

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns a text that somebody typed, dictated or pasted as it is judged and
// stored: with line feeds as the only ends of lines, and without characters that show
// nothing and that no script or emoji needs. Cleaning twice is cleaning once. A text that
// is not valid UTF-8 stays as it is, for whoever judges it.
//
// What goes comes with texts unseen: a phone's contacts put numbers between marks of
// direction, web pages have soft hyphens and zero-width spaces, files begin with a
// byte-order mark, and dictation leaves object replacement characters behind.
func Clean(text string) string {
	first := strings.IndexFunc(text, unusual)
	if first < 0 || !utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	b.WriteString(text[:first])
	before, _ := utf8.DecodeLastRuneInString(text[:first])
	for i := first; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\r' && strings.HasPrefix(text[i+1:], "\n"):
			// The line feed follows.
		case endsLine(r):
			b.WriteByte('\n')
		case r == blackFlag:
			// What follows says whose flag it is.
			size += tagsOfFlag(text[i+size:])
			b.WriteString(text[i : i+size])
		case r == vowelSeparator && mongolian(before), !unicode.Is(unseen, r) && !noncharacter(r):
			b.WriteString(text[i : i+size])
		}
		before = r
		i += size
	}
	return b.String()
}

// unusual reports whether Clean has to look at the character.
func unusual(r rune) bool {
	switch {
	case r < 0x7f:
		return r < ' ' && r != '\n' && r != '\t'
	case r >= 0x3000 && r < 0xd800: // where most of the county's characters are
		return r == 0x3164
	}
	return endsLine(r) || r == blackFlag || unicode.Is(unseen, r) || noncharacter(r)
}

// endsLine reports whether the character ends a line in some program but is no line
// feed. A word processor's line ends within a paragraph are vertical tabs.
func endsLine(r rune) bool {
	switch r {
	case '\r', '\v', '\f', 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

// unseen are the characters that show nothing, without those of which some text would
// read differently: the joiners of emoji and of the scripts of India and Persia (200C,
// 200D), variation selectors (180B, FE00, E0100 …), and the fillers of old Korean
// syllables (115F, 1160).
var unseen = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0000, Hi: 0x0008, Stride: 1}, // controls; tabs and line feeds stay
		{Lo: 0x000b, Hi: 0x001f, Stride: 1},
		{Lo: 0x007f, Hi: 0x009f, Stride: 1},
		{Lo: 0x00ad, Hi: 0x00ad, Stride: 1}, // soft hyphen
		{Lo: 0x034f, Hi: 0x034f, Stride: 1}, // combining grapheme joiner
		{Lo: 0x061c, Hi: 0x061c, Stride: 1}, // mark of direction
		{Lo: 0x17b4, Hi: 0x17b5, Stride: 1}, // vowels of Khmer that are not written
		{Lo: 0x180e, Hi: 0x180e, Stride: 1}, // vowelSeparator
		{Lo: 0x200b, Hi: 0x200b, Stride: 1}, // zero-width space
		{Lo: 0x200e, Hi: 0x200f, Stride: 1}, // marks of direction
		{Lo: 0x202a, Hi: 0x202e, Stride: 1}, // other directions
		{Lo: 0x2060, Hi: 0x206f, Stride: 1}, // word joiner, isolates, and what was before them
		{Lo: 0x3164, Hi: 0x3164, Stride: 1}, // Korean filler, with which names are made blank
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1}, // byte-order mark
		{Lo: 0xffa0, Hi: 0xffa0, Stride: 1}, // Korean filler
		{Lo: 0xfff0, Hi: 0xfffc, Stride: 1}, // annotations, object replacement
	},
	R32: []unicode.Range32{
		{Lo: 0x1bca0, Hi: 0x1bca3, Stride: 1}, // of shorthand
		{Lo: 0x1d173, Hi: 0x1d17a, Stride: 1}, // of music
		{Lo: 0xe0000, Hi: 0xe00ff, Stride: 1}, // tags
		{Lo: 0xe01f0, Hi: 0xe0fff, Stride: 1},
	},
	LatinOffset: 4,
}

// noncharacter reports whether Unicode has promised that this is never a character.
// Spreadsheets and XML cannot have it.
func noncharacter(r rune) bool { return r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef }

// vowelSeparator stands before the last vowel of Mongolian words, and elsewhere for
// nothing.
const vowelSeparator = 0x180e

// mongolian reports whether the character is one after which a vowelSeparator can be.
func mongolian(r rune) bool { return unicode.Is(unicode.Mongolian, r) && r != vowelSeparator }

// blackFlag with tags after it is the flag of England, Scotland or another region.
const blackFlag = 0x1f3f4

// tagsOfFlag returns how many bytes at the beginning of the text are the tags of a flag:
// the letters and digits of a region's code, and the tag that ends them. Longer ones
// would be a text that nobody sees.
func tagsOfFlag(text string) int {
	const most = 6
	i := 0
	for n := 0; n <= most; n++ {
		r, size := utf8.DecodeRuneInString(text[i:])
		i += size
		switch {
		case r == 0xe007f && n > 0:
			return i
		case r >= 0xe0030 && r <= 0xe0039, r >= 0xe0061 && r <= 0xe007a:
		default:
			return 0
		}
	}
	return 0
}
