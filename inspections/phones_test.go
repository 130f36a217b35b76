package inspections_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"xuncha/inspections"
	"xuncha/ledger"
	"xuncha/sites"
)

// TestNotesOfPhones ensures that nothing that a phone puts into a note unseen refuses the
// visit, and that it is not stored either.
func TestNotesOfPhones(t *testing.T) {
	for _, test := range []struct{ name, note, want string }{
		{"LinesOfWindows", "门已锁。\r\n告示在。", "门已锁。\n告示在。"},
		{"NumberOfContacts", "牌号\u202d12345\u202c", "牌号12345"},
		{"LineSeparator", "一\u2028二", "一\n二"},
		{"Controls", "a\x00b\x1bc", "abc"},
		{"CountedWhenClean", strings.Repeat("\u200e门\u200b", 500), strings.Repeat("门", 500)},
		{"WindowsLinesCountOnce", strings.Repeat("门\r\n", 250), strings.Repeat("门\n", 250)},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			c := w.checkIn(1)
			c.Note = test.note
			stored := w.submit(t, c)
			read, err := w.Get(t.Context(), c.Site, c.ID)
			must(t, err)
			if stored.Note != test.want || read.Note != test.want {
				t.Errorf("got %+q in the receipt and %+q in the record, want %+q", stored.Note, read.Note, test.want)
			}
		})
	}
}

// TestLocationsThatSayNothing ensures that a phone that does not know where it is, or says
// so in numbers, loses no visit and is not said to be away from the site.
func TestLocationsThatSayNothing(t *testing.T) {
	at := func(lat, lon, accuracy float64, datum inspections.Datum) *inspections.Location {
		return &inspections.Location{Point: sites.Position{Latitude: lat, Longitude: lon}, Accuracy: accuracy, Datum: datum}
	}
	nan, inf := math.NaN(), math.Inf(1)
	for name, location := range map[string]*inspections.Location{
		"NullIsland":                at(0, 0, 0, inspections.WGS84),
		"NullIslandSure":            at(0, 0, 12, inspections.WGS84),
		"NullIslandUnsure":          at(0, 0, 99_999, inspections.GCJ02),
		"NegativeZero":              at(math.Copysign(0, -1), 0, 10, inspections.WGS84),
		"NullIslandWithoutDatum":    at(0, 0, 0, ""),
		"LeastNumberOfMapLibraries": at(math.SmallestNonzeroFloat64, math.SmallestNonzeroFloat64, 10, inspections.GCJ02),
		"NullIslandTurnedFromBD09":  at(-0.006, -0.0065, 10, inspections.GCJ02),
		"InvalidOfIPhones":          at(-180, -180, 10, inspections.WGS84),
		"NegativeAccuracyOfIPhones": at(31.5, 106.6, -1, inspections.WGS84),
		"NotANumber":                at(nan, nan, 10, inspections.WGS84),
		"OneNotANumber":             at(30.5, nan, 10, inspections.WGS84),
		"Infinite":                  at(inf, -inf, 10, inspections.WGS84),
		"AccuracyNotANumber":        at(31.5, 106.6, nan, inspections.WGS84),
		"AccuracyInfinite":          at(31.5, 106.6, inf, inspections.WGS84),
		"SomewhereOnEarth":          at(31.5, 106.6, 20_000_000, inspections.WGS84),
		"Swapped":                   at(106.6, 30.5, 10, inspections.WGS84),
		"BeyondThePole":             at(90.1, 106.6, 10, inspections.WGS84),
		"BeyondTheDateLine":         at(30.5, 180.1, 10, inspections.WGS84),
		"DatumNotKnown":             at(31.5, 106.6, 10, ""),
		"DatumOfLater":              at(31.5, 106.6, 10, "cgcs2000"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.checkIn(1)
			c.Location = location
			if stored := w.submit(t, c); stored.Distance != nil || stored.Has(inspections.AwayFromSite) {
				t.Errorf("got the distance %v and flags %v, want no distance", *stored.Distance, stored.Flags)
			}
		})
	}
	for name, location := range map[string]*inspections.Location{
		"WithoutAccuracy":   at(30.6, 106.6, 0, inspections.WGS84),
		"LeastAccurate":     at(30.6, 106.6, 100_000, inspections.WGS84),
		"OnTheEquator":      at(0, 106.6, 10, inspections.WGS84),
		"OnThePrimeMeridan": at(51.5, 0, 10, inspections.GCJ02),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.checkIn(1)
			c.Location = location
			if stored := w.submit(t, c); stored.Distance == nil {
				t.Error("got no distance of a place on earth")
			}
		})
	}
}

// TestRepeatOfAnotherVersion ensures that a repeat stays one where the phone's app, or
// what carries the message, spells the same in another way by now.
func TestRepeatOfAnotherVersion(t *testing.T) {
	w := newWorld(t)
	c := w.checkIn(1)
	c.Captured = c.Captured.Add(-time.Minute + 123_999_999)
	c.Note, c.Photos = "门已锁。\r\n牌号\u202d1\u202c", somePhotos(3)
	c.Location = &inspections.Location{Point: sites.Position{Latitude: 30.5, Longitude: 106.6}, Datum: inspections.WGS84}
	first := w.submit(t, c)
	for name, change := range map[string]func(*inspections.CheckIn){
		"TimeCutToMilliseconds": func(c *inspections.CheckIn) { c.Captured = c.Captured.Truncate(time.Millisecond) },
		"TimeRoundedUp":         func(c *inspections.CheckIn) { c.Captured = c.Captured.Round(time.Millisecond) },
		"OtherZone":             func(c *inspections.CheckIn) { c.Captured = c.Captured.In(time.FixedZone("", 8*3600)) },
		"NoteOfOneLineEnd":      func(c *inspections.CheckIn) { c.Note = "门已锁。\n牌号1" },
		"NoteWithOtherMarks":    func(c *inspections.CheckIn) { c.Note = "\ufeff门已锁。\u2028牌号\u20681\u2069" },
		"PhotosInAnotherOrder":  func(c *inspections.CheckIn) { slices.Reverse(c.Photos) },
		"NoLocation":            func(c *inspections.CheckIn) { c.Location = nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := c
			c.Photos = slices.Clone(c.Photos)
			change(&c)
			got, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{})
			if err != nil || !duplicate || got.Entry.Hash != first.Entry.Hash {
				t.Errorf("got duplicate %v, %v; want the first receipt", duplicate, err)
			}
		})
	}
	for name, change := range map[string]func(*inspections.CheckIn){
		"AMillisecondLater": func(c *inspections.CheckIn) { c.Captured = c.Captured.Add(time.Millisecond) },
		"OtherNote":         func(c *inspections.CheckIn) { c.Note = "门已锁。 牌号1" },
		"FewerPhotos":       func(c *inspections.CheckIn) { c.Photos = c.Photos[:2] },
		"MorePhotos":        func(c *inspections.CheckIn) { c.Photos = somePhotos(4) },
		"OtherSize":         func(c *inspections.CheckIn) { c.Photos[1].Size++ },
		"OtherType":         func(c *inspections.CheckIn) { c.Photos[1].ContentType = "image/png" },
	} {
		t.Run(name, func(t *testing.T) {
			c := c
			c.Photos = slices.Clone(c.Photos)
			change(&c)
			if _, _, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{}); !errors.Is(err, inspections.ErrConflict) {
				t.Errorf("got %v, want ErrConflict", err)
			}
		})
	}
}

// TestRepeatOfAnUncleanRecord ensures that a note which an earlier version stored with
// what shows nothing is answered as it is, and a repeat of it stays one.
func TestRepeatOfAnUncleanRecord(t *testing.T) {
	w := newWorld(t)
	c := w.checkIn(1)
	const note = "门\u200b已锁\ufeff"
	_, _, err := w.Ledger.Append(t.Context(), ledger.Draft{
		History: c.Site.History(), ID: string(c.ID), Kind: inspections.KindCheckIn, Time: w.Now, Account: "test",
		Content: []byte(`{"capture_time":"` + c.Captured.Format(time.RFC3339) + `","visit_time":"` + c.Captured.Format(time.RFC3339) +
			`","closure_order_id":"` + string(w.Order.ID) + `","finding":"closed","duty_staff_present":false,"cancelled_event_count":2,` +
			`"dispersed_people_count":100,"distance_m":null,"note":"` + note + `","photos":[],"flags":[]}`),
	})
	must(t, err)
	for _, sent := range []string{note, "门已锁"} {
		c.Note = sent
		stored, duplicate, err := w.Submit(t.Context(), inspections.By{Account: "test"}, c, time.Time{})
		if err != nil || !duplicate || stored.Note != note {
			t.Errorf("%+q: got %v, %v, %v; want the first receipt", sent, stored, duplicate, err)
		}
	}
}
