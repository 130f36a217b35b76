package sitestest

import "testing"

func TestMemory(t *testing.T) {
	Run(t, func(testing.TB) *MemoryRows { return new(MemoryRows) }, func(_ testing.TB, m *MemoryRows) *MemoryRows { return m })
}
