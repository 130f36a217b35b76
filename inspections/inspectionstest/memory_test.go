package inspectionstest

import "testing"

// TestMemory holds that what tests of the domain stand on keeps the contract.
func TestMemory(t *testing.T) {
	RunPhotos(t, func(testing.TB) *Memory { return &Memory{} }, func(_ testing.TB, m *Memory) *Memory { return m })
}
