package serve

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLinksBounded ensures that of a table of accounts no more is held than its bound, and
// that the refusal says where it ends and the way out.
func TestLinksBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "links.csv")
	text := "username,subject\n"
	for i := range 100 {
		text += fmt.Sprintf("u%03d,s%03d\n", i, i)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	links, rows, err := readLinks(t.Context(), name, 800)
	if err != nil || len(links) != 100 || links[99].Subject != "s099" || rows[99] != 101 {
		t.Fatalf("got %d links, %v; want 100, the last of row 101", len(links), err)
	}
	links, _, err = readLinks(t.Context(), name, 80)
	if err == nil || len(links) != 10 || !strings.Contains(err.Error(), "links.csv, row 12") || !strings.Contains(err.Error(), "split") {
		t.Errorf("got %d links, %v; want the end after 10, at row 12", len(links), err)
	}
}
