package ledger

import (
	"slices"
	"testing"
)

// Behind a head that is known, too, an entry that was moved is named by its place, where
// those who read the history meet it.
func TestVerifierNamesWhatWasMovedByItsPlace(t *testing.T) {
	const h = History("site/1")
	entries := sealed(h, 9)
	for _, known := range []int{7, 8} {
		for at, to := range map[int]Sequence{7: -1, 6: 3, 5: 0} {
			moved := slices.Clone(entries)
			moved[at].Sequence = to
			v := newTestVerifier()
			v.Begin(h, entries[known-1].Head())
			verified(v, moved)
			if f := v.FlawsOf(h); len(f) != 1 || f[0].Sequence != entries[at].Sequence {
				t.Errorf("%d stored as %d, with %d known: got %q", at+1, to, known, namesOf(f))
			}
		}
	}
	// A record that was put in another's place is named there.
	other := entries[2]
	other.Record, other.Hash = entries[5].Record, entries[5].Hash
	v := newTestVerifier()
	v.Begin(h, entries[7].Head())
	v.Take(other)
	if f := v.FlawsOf(h); len(f) != 1 || f[0].Sequence != 3 {
		t.Errorf("the record of 6 at 3: got %q", namesOf(f))
	}
}
