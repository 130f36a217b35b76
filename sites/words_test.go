package sites

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDocumentedWords ensures that docs/importing.md lists the words of each
// level, all of them, and how long its code is.
func TestDocumentedWords(t *testing.T) {
	text, err := os.ReadFile("../docs/importing.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]Level{}
	for _, level := range Levels {
		_, row, ok := strings.Cut(string(text), "\n| "+level.String()+" | ")
		if !ok {
			t.Errorf("there is no row of %s", level)
			continue
		}
		words, rest, _ := strings.Cut(row, " | ")
		for word := range strings.SplitSeq(words, ", ") {
			documented[word] = level
		}
		if want := map[int]string{6: "6", 9: "9", 12: "12"}[level.digits()]; !strings.HasPrefix(rest, want+" ") && !strings.HasPrefix(rest, want+":") {
			t.Errorf("the row of %s does not say that a code has %s digits: %.10s", level, want, rest)
		}
	}
	if !maps.Equal(documented, levelWords) {
		t.Errorf("the documents have %v, want %v", documented, levelWords)
	}
	for word, open := range openWords {
		if !slices.Contains(open, levelWords[word]) {
			t.Errorf("%s is a %s, which is not among what it can mean: %v", word, levelWords[word], open)
		}
		if !strings.Contains(string(text), "\n| "+word+" | ") {
			t.Errorf("the documents do not say that %s leaves the level open", word)
		}
	}
}
