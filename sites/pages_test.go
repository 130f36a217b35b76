package sites_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"xuncha/sites"
)

// TestGoingOn ensures that lists of orders and divisions go on behind any of their
// items, and give then what the whole lists have there.
func TestGoingOn(t *testing.T) {
	w := newWorld(t)
	w.importDivisions(t, "2019", "2019-10-31")
	for i := range 5 {
		if _, err := w.CreateOrder(t.Context(), sites.By{Account: "local"}, sites.ClosureOrder{
			Number: fmt.Sprint(5 - i), Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{"511600"},
			Start: w.now.Add(time.Duration(i/2) * time.Hour), End: w.now.Add(30 * 24 * time.Hour), Interval: sites.Duration(time.Hour),
		}); err != nil {
			t.Fatal(err)
		}
	}
	r := w.Roster()
	all := slices.Clone(r.Orders())
	for i, o := range all {
		got := slices.Collect(r.OrdersBefore(o))
		slices.Reverse(got)
		if !slices.Equal(got, all[:i]) {
			t.Errorf("before order %s: got %v, want %v", o.Number, got, all[:i])
		}
	}
	if got := slices.Collect(r.OrdersBefore(nil)); len(got) != 5 || got[0] != all[4] || got[4] != all[0] {
		t.Errorf("all orders: got %v", got)
	}
	now := w.now
	for _, parent := range []sites.DivisionCode{"", "511600", "511602"} {
		children := r.Children(parent, now)
		for i, d := range children {
			if got := slices.Collect(r.ChildrenAfter(parent, d.Code, now)); !slices.Equal(got, children[i+1:]) {
				t.Errorf("below %q after %s: got %v, want %v", parent, d.Code, got, children[i+1:])
			}
			if got := slices.Collect(r.ChildrenAfter(parent, d.Code[:5], now)); len(got) == 0 || got[0].Code < d.Code[:5] {
				t.Errorf("below %q after %s: got %v", parent, d.Code[:5], got)
			}
		}
	}
	if got := slices.Collect(r.ChildrenAfter("999999", "", now)); len(got) != 0 {
		t.Errorf("below a division that never was: %v", got)
	}
}
