package inspections_test

import (
	"errors"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/sites"
)

// TestMay ensures that whoever reports a visit is asked for by the time by which the visit
// is judged, and that whom it is refused hears nothing else, but of its own repeats.
func TestMay(t *testing.T) {
	w := newWorld(t)
	refusal := errors.New("not here")
	var asked time.Time
	by := func(account string, refused error) inspections.By {
		return inspections.By{Account: account, May: func(_ *sites.Site, at time.Time) error { asked = at; return refused }}
	}
	c := w.checkIn(1)
	c.Captured = w.Now.Add(-4 * time.Hour)
	phone := w.Now.Add(-3 * time.Hour) // which is three hours behind
	if _, _, err := w.Submit(t.Context(), by("li", nil), c, phone); err != nil {
		t.Fatal(err)
	}
	if want := w.Now.Add(-time.Hour); !asked.Equal(want) {
		t.Errorf("asked for %s, want the corrected time %s", asked, want)
	}
	ahead := w.checkIn(2)
	ahead.Captured = w.Now.Add(time.Minute)
	if _, _, err := w.Submit(t.Context(), by("li", nil), ahead, time.Time{}); err != nil || !asked.Equal(w.Now) {
		t.Errorf("asked for %s (%v), want the receipt at %s", asked, err, w.Now)
	}
	other, invalid, unknown := c, c, c
	other.DispersedPeople++
	invalid.Finding = "a newer one"
	unknown.Site = "00000000-0000-4000-8000-00000000ffff"
	altered := w.altered(t, ledger.Fault{History: w.Site.ID.History(), Sequence: 2, Why: "it was changed"})
	for _, test := range []struct {
		name    string
		account string
		checkIn inspections.CheckIn
		want    error
	}{
		{"a new one", "li", w.checkIn(3), refusal},
		{"a repeat", "li", c, nil},
		{"another's repeat", "wang", c, refusal},
		{"a repeat with other content", "li", other, refusal},
		{"one that is wrong", "li", invalid, sites.ErrInvalid},
		{"an unknown site", "li", unknown, refusal},
	} {
		for name, s := range map[string]*inspections.Service{"": w.Service, " of an altered site": altered} {
			if _, duplicate, err := s.Submit(t.Context(), by(test.account, refusal), test.checkIn, phone); !errors.Is(err, test.want) || duplicate != (test.want == nil) {
				t.Errorf("%s%s: got %v, %v; want %v", test.name, name, duplicate, err, test.want)
			}
		}
	}
	if _, _, err := w.Submit(t.Context(), by("wang", nil), c, phone); err != nil {
		t.Errorf("a repeat of another who may: %v", err)
	}
	doubtful := inspections.New(inspections.Config{Ledger: w.Ledger, Claims: w.claims, Roster: w.Roster, Now: w.Clock, Doubtful: func() bool { return true }})
	if _, _, err := doubtful.Submit(t.Context(), by("li", refusal), w.checkIn(4), time.Time{}); !errors.Is(err, inspections.ErrClockDoubtful) {
		t.Errorf("by a clock that may be wrong: got %v, want ErrClockDoubtful", err)
	}
}
