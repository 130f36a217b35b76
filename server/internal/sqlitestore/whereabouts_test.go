package sqlitestore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"xuncha/ledger"
)

// Whatever is done to the files of a database that a server has open, it acknowledges
// nothing that would be gone with the process.
func TestFilesTakenAway(t *testing.T) {
	move := func(name, to string) func(string) error {
		return func(dir string) error { return os.Rename(filepath.Join(dir, name), filepath.Join(dir, to)) }
	}
	for _, tt := range []struct {
		name       string
		take, back func(dir string) error
	}{
		{"the folder moved",
			func(dir string) error { return os.Rename(dir, dir+".away") },
			func(dir string) error { return os.Rename(dir+".away", dir) }},
		{"the folder deleted", os.RemoveAll, nil},
		{"the database moved", move(File, "aside"), move("aside", File)},
		{"the log moved", move(File+"-wal", "aside"), move("aside", File+"-wal")},
		{"another database put in place",
			func(dir string) error {
				path := filepath.Join(dir, File)
				b, err := os.ReadFile(path)
				return errors.Join(err, os.Rename(path, path+".right"), os.WriteFile(path, b, 0o600))
			},
			move(File+".right", File)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			var gone []bool
			s, err := Open(t.Context(), dir, Options{OnGone: func(is bool) { gone = append(gone, is) }})
			if err != nil {
				t.Fatal(err)
			}
			s.writer.files.every = 0
			mustAppend(t, s, draft("before"))
			if err := tt.take(dir); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"meanwhile", "again"} {
				if err := appendCall(t, s, id)(); !errors.Is(err, ledger.ErrUnavailable) {
					t.Errorf("got %v, want ErrUnavailable", err)
				}
			}
			if got := mustReadAll(t, s); len(got) != 1 {
				t.Errorf("got %d entries, want that of before, which is still read", len(got))
			}
			if !slices.Equal(gone, []bool{true}) {
				t.Errorf("told %v, want once that they are gone", gone)
			}
			if tt.back == nil {
				_ = s.Close()
				return
			}
			if err := tt.back(dir); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, s, draft("meanwhile"))
			if !slices.Equal(gone, []bool{true, false}) {
				t.Errorf("told %v, want that they are back too", gone)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if got := mustReadAll(t, openIn(t, dir)); len(got) != 2 {
				t.Errorf("got %d entries, want both that were acknowledged", len(got))
			}
		})
	}
}
