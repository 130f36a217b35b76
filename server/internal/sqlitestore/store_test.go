package sqlitestore

import (
	"testing"
)

// open opens a store in a new folder.
func open(tb testing.TB) *Store {
	tb.Helper()
	return openIn(tb, tb.TempDir())
}

// openIn opens the store in a folder and closes it when the test ends.
func openIn(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}
