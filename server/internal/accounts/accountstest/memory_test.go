package accountstest

import "testing"

func TestMemory(t *testing.T) {
	Run(t, func(testing.TB) *MemorySecrets { return new(MemorySecrets) }, func(_ testing.TB, m *MemorySecrets) *MemorySecrets { return m })
}
