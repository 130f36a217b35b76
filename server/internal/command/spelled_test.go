package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

// TestSpelled ensures that nothing a command prints acts on the terminal, and that text of
// any script and JSON come out as they are.
func TestSpelled(t *testing.T) {
	var out bytes.Buffer
	w := spelled{&out}
	for _, text := range []string{"closure order 通\x1b]0;x\x07\u202e号\n", `{"name":"a` + "\u202e" + `"}` + "\n", "ئۇيغۇر 葛\U000e0100 👩‍👧\n"} {
		if n, err := io.WriteString(w, text); n != len(text) || err != nil {
			t.Errorf("wrote %d of %d bytes: %v", n, len(text), err)
		}
	}
	want := `closure order 通\u001b]0;x\u0007\u202e号` + "\n" + `{"name":"a\u202e"}` + "\n" + "ئۇيغۇر 葛\U000e0100 👩‍👧\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	err := error(&spelledError{fmt.Errorf("区\x1b[2J: %w", context.Canceled)})
	if got := err.Error(); got != `区\u001b[2J: context canceled` || !errors.Is(err, context.Canceled) {
		t.Errorf("got the error %q", got)
	}
}
