package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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

// TestAccountCreateTellsAll ensures that the command names all that is wrong with an account,
// a line each, and takes no name that a terminal would act upon.
func TestAccountCreateTellsAll(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), []string{"account", "create", "--data", filepath.Join(dir, "data"), "--role", "admin", "--username", "Root",
		"--display-name", "李\x1b[2J伟", "--division", "5116", "--password-file", file}, io.Discard, io.Discard)
	if err == nil {
		t.Fatal("the account was created")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, field := range []string{"username", "display_name", "division_codes[0]", "password"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], field+": ") {
			t.Fatalf("got %q, want line %d to be about %s", lines, i+1, field)
		}
	}
}
