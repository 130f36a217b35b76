package persistent_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"xuncha/internal/persistent"
)

// Ensure that a vector and each of its copies say what plain slices say that were
// written to in the same way.
func TestVector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type state struct {
			vector persistent.Vector[int]
			want   []int
		}
		var now state
		var kept []state
		own := new(persistent.Owner)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				i, value := rapid.Uint32Range(0, 20_000).Draw(t, "i"), rapid.Int().Draw(t, "value")
				*now.vector.Edit(i, own) = value
				for len(now.want) <= int(i) {
					now.want = append(now.want, 0)
				}
				now.want[i] = value
			},
			"copy": func(t *rapid.T) {
				kept = append(kept, state{now.vector, slices.Clone(now.want)})
				own = new(persistent.Owner)
			},
			"go back": func(t *rapid.T) {
				if len(kept) == 0 {
					t.Skip()
				}
				s := rapid.SampledFrom(kept).Draw(t, "kept")
				now, own = state{s.vector, slices.Clone(s.want)}, new(persistent.Owner)
			},
			"": func(t *rapid.T) {
				for _, s := range append(kept, now) {
					if int(s.vector.Len()) != len(s.want) {
						t.Fatalf("got %d items, want %d", s.vector.Len(), len(s.want))
					}
				}
				s := rapid.SampledFrom(append(kept, now)).Draw(t, "state")
				for i, want := range s.want {
					if p := s.vector.Find(uint32(i)); p != nil && *p != want || p == nil && want != 0 {
						t.Fatalf("item %d: got %v, want %d", i, p, want)
					}
				}
				if s.vector.Find(s.vector.Len()) != nil {
					t.Fatal("there is an item behind the end")
				}
			},
		})
	})
}
