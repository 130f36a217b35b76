package accounts_test

import "testing"

// BenchmarkVerify checks the same token over and over, as with a phone that sends
// what has gathered.
func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	token := w.login(b, right()).Access
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := w.Verify(b.Context(), token); err != nil {
				b.Error(err)
			}
		}
	})
}
