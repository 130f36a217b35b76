package texts_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"xuncha/internal/texts"
)

// FuzzNames ensures that what CleanName makes of a text is a name or empty, and that what
// Spelled makes of JSON is the same JSON, with nothing hidden.
func FuzzNames(f *testing.F) {
	for _, test := range asTyped {
		f.Add(test.text)
	}
	f.Add(strings.Repeat("🏴󠁧󠁢󠁥󠁮󠁧󠁿", 10))
	f.Fuzz(func(t *testing.T, text string) {
		got := texts.CleanName(text, 64)
		if at, _ := texts.Misfit(got); at >= 0 || utf8.RuneCountInString(got) > 64 || got != "" && texts.Blank(got) {
			t.Errorf("%+q is cleaned to %+q, which is no name", text, got)
		}
		if got := texts.Spelled(text); texts.Clean(got) != got || !utf8.ValidString(got) {
			t.Errorf("%+q is spelled %+q, which is not clean", text, got)
		}
		b, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var back, want string
		if err := json.Unmarshal([]byte(texts.Spelled(string(b))), &back); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &want); err != nil || back != want {
			t.Errorf("%+q comes back from JSON as %+q", want, back)
		}
	})
}
