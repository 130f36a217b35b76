package inspections_test

import (
	"testing"
	"time"

	"xuncha/inspections"
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
