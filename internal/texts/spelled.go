package texts

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

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
