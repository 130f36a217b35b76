package inspectionstest

import "testing"

// TestMemory holds that what tests of the domain stand on keeps the contract.
func TestMemory(t *testing.T) {
	RunPhotos(t, func(tb testing.TB) *Memory { return New(tb) }, func(_ testing.TB, m *Memory) *Memory { return m })
}
