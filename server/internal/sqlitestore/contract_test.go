package sqlitestore

import (
	"testing"

	"go.uber.org/goleak"

	"xuncha/server/internal/engine/enginetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContracts(t *testing.T) { enginetest.Run(t, testing.TB.TempDir, openIn) }
