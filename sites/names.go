package sites

import (
	"unicode/utf8"

	"xuncha/internal/texts"
)

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
	case n < least || least > 0 && texts.Blank(text):
		return &ValueError{Kind: ErrMissing, text: "must not be empty"}
	case n > most:
		return tooLong(n, most, Characters)
	}
	if i, what := texts.Misfit(text); i >= 0 {
		r, _ := utf8.DecodeRuneInString(text[i:])
		return invalidf("must not have %s: %U is character %d", what, r, utf8.RuneCountInString(text[:i])+1)
	}
	return nil
}
