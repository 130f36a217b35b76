package inspectionstest

import (
	"testing"

	"xuncha/ledger/ledgertest"
	"xuncha/sites/sitestest"
)

// A Memory is all that inspections are stored in, for tests of what stands above
// it.
type Memory struct {
	*ledgertest.Memory
	sitestest.MemoryRows
	MemoryPhotos
}

// New returns one that is empty.
func New(tb testing.TB) *Memory { return &Memory{Memory: ledgertest.New(tb)} }
