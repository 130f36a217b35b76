package accountstest

import "testing"

func TestMemory(t *testing.T) {
	Run(t, func(testing.TB) *Memory { return new(Memory) }, func(_ testing.TB, m *Memory) *Memory { return m })
}
