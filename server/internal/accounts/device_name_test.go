package accounts

import (
	"strings"
	"testing"

	"xuncha/internal/texts"
)

// TestDeviceName ensures that a device is known by the name that its owner sees, and that
// no name keeps anybody out.
func TestDeviceName(t *testing.T) {
	long := strings.Repeat("广安区文体局检查用手机", 10)
	for sent, want := range map[string]string{
		"手机":                           "手机",
		"":                             "",
		"\u202d李伟\u202c的 iPhone\r\n":   "李伟的 iPhone",
		"  Redmi\n  Note\u200b 12  ":   "Redmi Note 12",
		"👩‍💻 的手机":                      "👩‍💻 的手机",
		long:                           string([]rune(long)[:64]),
		strings.Repeat("x", 63) + " y": strings.Repeat("x", 63),
	} {
		if got := texts.CleanName(sent, MaxDeviceName); got != want {
			t.Errorf("%+q is kept as %+q, want %+q", sent, got, want)
		}
	}
}
