package sqlitestore

import (
	"testing"

	"go.uber.org/goleak"
	"zombiezen.com/go/sqlite"

	"xuncha/inspections/photos"
	"xuncha/server/internal/engine/enginetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContracts(t *testing.T) { enginetest.Run(t, testing.TB.TempDir, openIn) }

// ForgetPhoto implements photostest.Engine.
func (s *Store) ForgetPhoto(tb testing.TB, k photos.Kept) {
	tb.Helper()
	err := s.write(tb.Context(), func(w *writer) error {
		return w.bound(`DELETE FROM photos WHERE site = ? AND check_in = ? AND sum = ?`, func(stmt *sqlite.Stmt) { bindRef(stmt, 1, k.Ref) })
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// RecallPhoto implements photostest.Engine.
func (s *Store) RecallPhoto(tb testing.TB, k photos.Kept) {
	tb.Helper()
	if err := s.write(tb.Context(), func(w *writer) error { return w.note(photoKeep, k) }); err != nil {
		tb.Fatal(err)
	}
}
