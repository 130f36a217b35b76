package sites_test

import (
	"errors"
	"fmt"
	"testing"

	"xuncha/sites"
)

// TestFaultsAreBounded ensures that a value with more faults than anybody reads costs no
// more than one with MaxFaults: each fault is compared with those before it.
func TestFaultsAreBounded(t *testing.T) {
	var f sites.Faults
	for i := range 200_000 {
		f.Add(fmt.Sprintf("division_codes[%06d]", i), sites.ErrMissing)
	}
	all := sites.FieldErrorsOf(f.Err())
	if len(all) != sites.MaxFaults {
		t.Fatalf("got %d faults, want %d", len(all), sites.MaxFaults)
	}
	if last := all[len(all)-1]; last.Field != "division_codes[001999]" || !errors.Is(last, sites.ErrMissing) {
		t.Errorf("got %v as the last one", last)
	}
}
