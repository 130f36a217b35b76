package ledgertest

import "testing"

func TestMemory(t *testing.T) {
	Run(t, Harness[*Memory]{
		Open:   func(tb testing.TB) *Memory { return New(tb) },
		Reopen: func(_ testing.TB, m *Memory) *Memory { return m },
	})
}
