package serve

import (
	"testing"

	"xuncha/server/internal/mongostore/mongotest"
)

// onOwnEngines runs a test on a data folder, and on a database of its own, which is no stand-in.
func onOwnEngines(t *testing.T, test func(*testing.T, StoreConfig)) {
	t.Helper()
	t.Run("DataFolder", func(t *testing.T) { test(t, StoreConfig{Data: t.TempDir()}) })
	t.Run("MongoDB", func(t *testing.T) {
		database, err := mongotest.StartOwn()
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := database.Stop(); err != nil {
				t.Error(err)
			}
		}()
		// In a test of its own, so that what it has opened is closed before.
		t.Run("", func(t *testing.T) { test(t, StoreConfig{Store: database.Database(t)}) })
	})
}
