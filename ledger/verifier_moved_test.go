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

// Where an entry ahead of the others is gone when all are read again, nothing is missing
// before it.
func TestVerifierAdoptsThatOneAheadIsGone(t *testing.T) {
	const h = History("site/1")
	entries := sealed(h, 6)
	ahead := entries[2]
	ahead.ID, ahead.Sequence = "another", 9
	v := newTestVerifier()
	verified(v, append(slices.Clone(entries[:5]), ahead))
	if len(v.FlawsOf(h)) == 0 {
		t.Fatal("the entry ahead is no flaw")
	}
	before, again := v.FlawedHeads(), newTestVerifier()
	verified(again, entries[:5])
	v.Adopt(again, before)
	if !v.Take(entries[5]) || len(v.Flaws()) > 0 {
		t.Errorf("got %q, want that the next entry verifies", namesOf(v.Flaws()))
	}
	// What has come since the others were read again, they do not know.
	v = newTestVerifier()
	verified(v, entries[:5])
	before = v.FlawedHeads()
	v.Take(ahead)
	v.Adopt(again, before)
	if len(v.Flaws()) == 0 {
		t.Error("a flaw is forgotten that was found later")
	}
}
