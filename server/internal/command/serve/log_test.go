package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

// TestLogWriter ensures that no line is lost on the way to the log.
func TestLogWriter(t *testing.T) {
	var out bytes.Buffer
	w := newLogWriter(&out)
	for i := range 3 {
		fmt.Fprintln(w, i)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "late\n"); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "0\n1\n2\nlate\n" {
		t.Errorf("got %q", got)
	}
}
