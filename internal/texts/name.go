package texts

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A name is a text of one line that people read in lists, on terminals and in logs: that of
// a site, a division or a person, an address, a title, a reason. What Clean takes out of a
// text does not belong in one. Who types a name is told so, because another may know the
// thing by it; where a name comes along with something that must not fail for its sake, it
// is made one by CleanName.

// Misfit finds the first character that does not belong in a name, and says what it is. The
// index is -1 where there is none.
func Misfit(text string) (i int, what string) {
	if i = strings.IndexFunc(text, unlined); i < 0 {
		clean := Clean(text)
		if clean == text {
			return -1, ""
		}
		for at, r := range text {
			if !strings.HasPrefix(clean[at:], string(r)) {
				i = at
				break
			}
		}
	}
	switch r, _ := utf8.DecodeRuneInString(text[i:]); {
	case unlined(r), endsLine(r):
		return i, "a tab or a line end"
	case unicode.Is(unicode.Bidi_Control, r):
		return i, "a mark of direction"
	}
	return i, "a control character or one that nobody sees"
}

// unlined reports whether a character that Clean leaves in a text of more lines does not
// belong in one.
func unlined(r rune) bool { return r == '\n' || r == '\t' }

// Blank reports whether a text shows nothing.
func Blank(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		switch r {
		case 0x115f, 0x1160, 0x2800: // fillers and the Braille of a space, which are letters and signs to Unicode
			return false
		}
		return !unicode.IsSpace(r) && !unicode.In(r, unseen, unicode.Mn, unicode.Cf, unicode.Cc)
	})
}

// CleanName returns a text as a name of at most so many characters: clean, and in one line,
// with one space for spaces, tabs and line ends. It is empty where nothing of it shows.
func CleanName(text string, most int) string {
	words := strings.FieldsFunc(Clean(strings.ToValidUTF8(text, "")), func(r rune) bool { return r == ' ' || unlined(r) })
	name := strings.TrimSpace(strings.Join(words, " "))
	if runes := []rune(name); len(runes) > most {
		// A cut can leave a part of what is only whole.
		name = strings.TrimSpace(Clean(string(runes[:most])))
	}
	if Blank(name) {
		return ""
	}
	return name
}
