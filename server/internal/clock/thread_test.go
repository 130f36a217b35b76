package clock

import "testing"

// TestThreadTime holds that work counts.
func TestThreadTime(t *testing.T) {
	spent, done := ThreadTime()
	defer done()
	before := spent()
	for sum := uint64(1); spent() == before; sum *= 3 {
		if sum == 0 {
			t.Fatal("an odd number has become even")
		}
	}
	if after := spent(); after <= before {
		t.Errorf("%v and then %v were spent", before, after)
	}
}
