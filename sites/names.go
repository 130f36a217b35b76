package sites

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// A name is a text of one line that people read in lists, on terminals and in logs: that of
// a site, a division or a person, an address, a title, a reason. What Clean takes out of a
// text does not belong in one. Who types a name is told so, because another may know the
// thing by it; where a name comes along with something that must not fail for its sake, it
// is made one by CleanName.

// CheckText returns a *FieldError where the text is too short, too long, blank, or
// has characters that do not belong in one line.
func CheckText(field, text string, least, most int) error {
	if err := textProblem(text, least, most); err != nil {
		return &FieldError{field, err}
	}
	return nil
}

// textProblem is CheckText without a field.
func textProblem(text string, least, most int) error {
	switch n := utf8.RuneCountInString(text); {
	case !utf8.ValidString(text):
		return invalidf("is not valid UTF-8")
	case n < least || least > 0 && blank(text):
		return &ValueError{Kind: ErrMissing, text: "must not be empty"}
	case n > most:
		return tooLong(n, most, Characters)
	}
	if i := strings.IndexFunc(text, unlined); i >= 0 {
		return hiddenAt(text, i)
	}
	if clean := Clean(text); clean != text {
		for i, r := range text {
			if !strings.HasPrefix(clean[i:], string(r)) {
				return hiddenAt(text, i)
			}
		}
	}
	return nil
}

// hiddenAt returns the error of a name with a character that does not belong in it.
func hiddenAt(text string, i int) error {
	r, _ := utf8.DecodeRuneInString(text[i:])
	what := "a control character or one that nobody sees"
	switch {
	case unlined(r), endsLine(r):
		what = "a tab or a line end"
	case unicode.Is(unicode.Bidi_Control, r):
		what = "a mark of direction"
	}
	return invalidf("must not have %s: %U is character %d", what, r, utf8.RuneCountInString(text[:i])+1)
}

// unlined reports whether a character that Clean leaves in a text of more lines does not
// belong in one.
func unlined(r rune) bool { return r == '\n' || r == '\t' }

// blank reports whether a text shows nothing.
func blank(text string) bool {
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
	if blank(name) {
		return ""
	}
	return name
}

// Spelled returns a text of any lines with the characters spelled that Clean would take
// out, as JSON spells them: \u001b. A terminal then shows what a text has and does nothing
// that it says; names of earlier versions may have such characters. JSON stays what it was.
func Spelled(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	clean := Clean(text)
	if clean == text {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		size := utf8.RuneLen(r)
		switch {
		case strings.HasPrefix(clean, text[i:i+size]):
			b.WriteString(text[i : i+size])
			clean = clean[size:]
			continue
		case endsLine(r) && !strings.HasPrefix(text[i:], "\r\n"):
			clean = clean[1:] // the line feed instead
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
