package main

import (
	"strings"
	"testing"
)

// TestLand ensures that a land is what a server takes: each code once, as long as its
// rank's, and each parent before its children and wider than they are.
func TestLand(t *testing.T) {
	digits := map[string]int{"nation": 6, "province": 6, "city": 6, "county": 6, "township": 9, "village": 12}
	for _, c := range []struct {
		levels           int
		share            float64
		divisions, sites int
		order            []string // of the levels, from the widest
	}{
		{6, 0.1, 66_529, 14_400, []string{"nation", "province", "city", "county", "township", "village"}},
		{6, 0.00001, 1 + 5*31, 1, []string{"nation", "province", "city", "county", "township", "village"}},
		{4, 0.1, 66_205, 14_400, []string{"city", "county", "township", "village"}},
	} {
		l, err := newLand(c.share, c.levels)
		if err != nil {
			t.Fatal(err)
		}
		levels, rows, widest := map[string]int{}, 0, 0
		width := map[string]int{}
		for i, word := range c.order {
			width[word] = i
		}
		for row := range l.divisions("") {
			rows++
			if _, twice := levels[row.Code]; twice {
				t.Fatalf("%d levels, share %g: %s is there twice", c.levels, c.share, row.Code)
			}
			if len(row.Code) != digits[row.Level] {
				t.Fatalf("%d levels, share %g: the %s %s has %d digits", c.levels, c.share, row.Level, row.Code, len(row.Code))
			}
			levels[row.Code] = width[row.Level]
			if row.ParentCode == "" {
				widest++
				continue
			}
			parent, ok := levels[row.ParentCode]
			if !ok || parent != width[row.Level]-1 {
				t.Fatalf("%d levels, share %g: the %s %s has the parent %q", c.levels, c.share, row.Level, row.Code, row.ParentCode)
			}
			if stem := strings.TrimRight(row.ParentCode, "0"); c.levels == 6 && width[row.Level] > 1 && !strings.HasPrefix(row.Code, stem) {
				t.Fatalf("share %g: %s does not begin as its parent %s", c.share, row.Code, row.ParentCode)
			}
		}
		if rows != c.divisions || rows != l.size() || widest != 1 || len(c.order) != l.levels() {
			t.Errorf("%d levels, share %g: got %d divisions, %d widest, and size %d; want %d and 1", c.levels, c.share, rows, widest, l.size(), c.divisions)
		}
		sites, before := 0, ""
		for row := range l.siteRows("") {
			sites++
			if row.RegistrationNo <= before {
				t.Fatalf("%d levels, share %g: the number %s comes after %s", c.levels, c.share, row.RegistrationNo, before)
			}
			before = row.RegistrationNo
			if at, ok := levels[row.DivisionCode]; !ok || at != width["village"] {
				t.Fatalf("%d levels, share %g: a site stands in %s, which is no village", c.levels, c.share, row.DivisionCode)
			}
		}
		if sites != c.sites {
			t.Errorf("%d levels, share %g: got %d sites, want %d", c.levels, c.share, sites, c.sites)
		}
	}
	if l, err := newLand(1, 6); err != nil || l.size() != 665_000 || l.sites != 144_000 {
		t.Errorf("a whole country: got %d divisions and %d sites, %v", l.size(), l.sites, err)
	}
	for _, c := range []struct {
		share  float64
		levels int
	}{{0, 6}, {1.5, 6}, {-1, 6}, {1, 5}} {
		if _, err := newLand(c.share, c.levels); err == nil {
			t.Errorf("share %g, %d levels: got no error", c.share, c.levels)
		}
	}
}
