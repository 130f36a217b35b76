package clocktest

import "testing"

func TestMemory(t *testing.T) {
	Run(t, func(testing.TB) *MemoryNotes { return new(MemoryNotes) }, func(_ testing.TB, m *MemoryNotes) *MemoryNotes { return m })
}
