package coverage_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xuncha/inspections/coverage"
)

// An index from which a visit was taken back answers as one that never had it, whether
// or not it was asked before.
func TestRemove(t *testing.T) {
	w := newTown(t, 3)
	list := w.sites()
	for hour, s := range []int{0, 0, 1, 0, 2, 1} {
		w.visit(coverage.Visit{
			Site: list[s].ID, Capture: day(15).Add(time.Duration(hour) * time.Hour), Open: hour == 3, DispersedPeople: int32(1 << hour),
		})
	}
	for i, removed := range w.visits {
		left := coverage.New()
		left.SetRoster(w.roster.Roster())
		asked := coverage.New()
		asked.SetRoster(w.roster.Roster())
		for j, v := range w.visits {
			if asked.Add(v); j != i {
				left.Add(v)
			}
		}
		if _, _, err := report(asked, w.today()); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time, it is not there any more
			asked.Remove(removed.Site, removed.Sequence)
		}
		want, _, err := report(left, w.today())
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := report(asked, w.today())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("without visit %d: %v\n%s", i, err, diff)
		}
		var kept bytes.Buffer
		if err := asked.Snapshot(&kept); err != nil {
			t.Fatal(err)
		}
		if err := coverage.New().Restore(bytes.NewReader(kept.Bytes())); err != nil {
			t.Errorf("without visit %d: its snapshot: %v", i, err)
		}
		asked.Add(removed)
		if got, _, err = report(asked, w.today()); err != nil || got.DispersedPeople != 63 {
			t.Errorf("with visit %d again: got %d people and %v, want 63", i, got.DispersedPeople, err)
		}
	}
	w.index.Remove("no such site", 1)
}
