package inspections_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/sites"
)

// TestCheckOfAGoodCheckIn holds that looking for all faults at once costs a check-in
// without any no memory.
func TestCheckOfAGoodCheckIn(t *testing.T) {
	c := inspections.CheckIn{
		ID: "3f2504e0-4f89-41d3-9a0c-0305e82c3301", Site: "3f2504e0-4f89-41d3-9a0c-0305e82c3302", Captured: time.Now(),
		Finding: inspections.FoundClosed, CancelledEvents: 3, DispersedPeople: 40, Note: "门口已张贴通知",
		Location: &inspections.Location{Accuracy: 5},
		Photos:   []inspections.Photo{{SHA256: inspections.Digest{1}, Size: 1, ContentType: "image/jpeg"}, {SHA256: inspections.Digest{2}, Size: 1, ContentType: "image/png"}},
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("it takes %v allocations", n)
	}
}

// TestAllThatIsWrongWithAVisit holds that an officer is told at once of what is wrong with a
// report in itself and of why the roster does not let the visit be.
func TestAllThatIsWrongWithAVisit(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*inspections.CheckIn)
		fields []string
		is     []error
	}{
		{"InTheFuture", func(c *inspections.CheckIn) { c.Captured = c.Captured.Add(time.Hour) },
			[]string{"capture_time", "note"}, []error{sites.ErrTooLong, inspections.ErrFuture}},
		{"BeforeTheOrder", func(c *inspections.CheckIn) { c.Captured = c.Captured.AddDate(-1, 0, 0) },
			[]string{"note", "site_id"}, []error{sites.ErrTooLong, inspections.ErrNotRegistered}},
		{"WithoutATime", func(c *inspections.CheckIn) { c.Captured = time.Time{} },
			[]string{"capture_time", "note"}, []error{sites.ErrMissing, sites.ErrTooLong}},
		{"AtAGoodTime", func(*inspections.CheckIn) {}, []string{"note"}, []error{sites.ErrTooLong}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			in := w.checkIn(1)
			in.Note = strings.Repeat("门", inspections.MaxNote+1)
			test.change(&in)
			_, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, in, time.Time{})
			var got []string
			for _, e := range sites.FieldErrorsOf(err) {
				got = append(got, e.Field)
			}
			slices.Sort(got)
			if !slices.Equal(got, test.fields) {
				t.Errorf("got %v, want all of %q", err, test.fields)
			}
			for _, want := range test.is {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v in it", err, want)
				}
			}
		})
	}
}
