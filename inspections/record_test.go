package inspections

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"xuncha/ledger"
	"xuncha/sites"
)

// anyText makes strings of all that JSON escapes, or might.
var anyText = rapid.Custom(func(t *rapid.T) string {
	pieces := []string{"a", "二", "<b>&'", `"`, `\`, "\n", "\t", "\r", "\b", "\f", "\x00", "\x1f", "\x7f", "\u2028", "\u2029", "\u2027", "\u202a",
		"\ufffd", "\xff", "\xe2\x80", "\xe2", "\xed\xa0\x80", "𝄞", "/", "é"}
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 6).Draw(t, "text"), "")
})

// anyStored makes check-ins with values that no rule lets through, too.
var anyStored = rapid.Custom(func(t *rapid.T) *Stored {
	text := func(name string) string {
		if rapid.Bool().Draw(t, "plain") {
			return rapid.SampledFrom([]string{"", "plain", "一二三", "00000000-0000-4000-8000-000000000004"}).Draw(t, name)
		}
		return anyText.Draw(t, name)
	}
	moment := func(name string) time.Time {
		zone := rapid.SampledFrom([]*time.Location{time.UTC, time.FixedZone("", 8*3600), time.FixedZone("", -12*3600-30)}).Draw(t, "zone")
		seconds := rapid.OneOf(rapid.Int64Range(0, 1<<32), rapid.Int64Range(-1<<37, 1<<38),
			rapid.SampledFrom([]int64{253402300799, 253402300800, -62167219200, -62167219201})).Draw(t, name)
		return time.Unix(seconds, rapid.SampledFrom([]int64{0, 1, 500_000_000, 123_456_789, 999_999_999}).Draw(t, "nanoseconds")).In(zone)
	}
	var sum Digest
	digest := func() Digest {
		copy(sum[:], rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "digest"))
		return sum
	}
	s := &Stored{
		CheckIn: CheckIn{
			Captured: moment("captured"), Finding: Finding(rapid.OneOf(rapid.SampledFrom([]string{"closed", "open"}), anyText).Draw(t, "finding")),
			DutyStaffPresent: rapid.Bool().Draw(t, "staff"), CancelledEvents: rapid.Int32().Draw(t, "events"),
			DispersedPeople: rapid.Int32().Draw(t, "people"), Note: text("note"),
		},
		Corrected: moment("visited"), Order: sites.OrderID(text("order")),
	}
	if rapid.Bool().Draw(t, "located") {
		d := rapid.OneOf(rapid.Map(rapid.IntRange(0, 1e6), func(n int) float64 { return float64(n) }), rapid.Float64(),
			rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1e20, 1e21, 1e-7, 0.5, maxWhole, maxWhole + 2, math.NaN(), math.Inf(1)})).Draw(t, "distance")
		s.Distance = &d
	}
	pixels := rapid.OneOf(rapid.Just(int32(0)), rapid.Int32())
	for range rapid.IntRange(0, 2).Draw(t, "photos") {
		s.Photos = append(s.Photos, Photo{
			SHA256: digest(), Size: rapid.Int64().Draw(t, "size"), ContentType: text("type"),
			Width: pixels.Draw(t, "width"), Height: pixels.Draw(t, "height"), Refused: Refusal(text("refusal")),
		})
	}
	for range rapid.IntRange(0, 2).Draw(t, "reused") {
		s.Reused = append(s.Reused, ReusedPhoto{digest(), FirstUse{Name: digest(), First: CheckInRef{sites.SiteID(text("site")), CheckInID(text("check-in"))}}})
	}
	for range rapid.IntRange(0, 3).Draw(t, "flags") {
		flag := rapid.OneOf(rapid.SampledFrom([]string{"synced_late", "visited_late", "away_from_site", "photo_reused"}), anyText).Draw(t, "flag")
		s.Flags = append(s.Flags, Flag(flag))
	}
	return s
})

// What is written by hand are the bytes that encoding/json writes, and its errors;
// and what is read of them by hand is what encoding/json reads.
func TestRecordsByHand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyStored.Draw(t, "check-in")
		want, wantErr := ledger.MarshalContent(newRecord(s))
		got, err := marshalContent(s)
		if (err != nil) != (wantErr != nil) || string(got) != string(want) {
			t.Fatalf("got %s, %v; want %s, %v", got, err, want, wantErr)
		}
		if err == nil {
			compareVisits(t, got)
		}
	})
}

// compareVisits compares what is read by hand of a check-in with the content with
// what Parse reads, and reports whether it was read by hand.
func compareVisits(t interface{ Errorf(string, ...any) }, content []byte) bool {
	e := ledger.Head{Sequence: 6}.Seal(ledger.Draft{
		History: "site/s", ID: "x", Kind: KindCheckIn, Time: time.Unix(1580515200, 0), Content: content,
	})
	want, err := parseAny(e, "s", func(why any) error { return fmt.Errorf("%w: %v", ledger.ErrBadRecord, why) })
	if c, ok := scanStored(e, "s"); ok && err != nil {
		t.Errorf("%q is read as %+v, and is no check-in: %v", content, c, err)
	} else if ok && !reflect.DeepEqual(c, want) {
		t.Errorf("%q is read as %+v, want %+v", content, c, want)
	}
	got, ok := scanVisit(e)
	if ok && err != nil {
		t.Errorf("%q is read as %+v, and is no check-in: %v", content, got, err)
	} else if ok && got != visit(want) {
		t.Errorf("%q is read as %+v, want %+v", content, got, visit(want))
	}
	return ok
}

// What officers report most often is read by hand.
func TestUsualRecords(t *testing.T) {
	for i, want := range []bool{true, false, false} { // a note with a line feed; a photo used before
		if got := compareVisits(t, []byte(realRecords[i])); got != want {
			t.Errorf("%s is read by hand: %v, want %v", realRecords[i], got, want)
		}
	}
	for _, c := range []struct{ old, new string }{
		{`"note":""`, `"note":"门口已张贴通知"`},
		{`"photos":[]`, `"photos":[{"sha256":"` + strings.Repeat("0a", 32) + `","size_bytes":4100000,"content_type":"image/jpeg"}]`},
		{`"photos":[]`, `"photos":[{"sha256":"` + strings.Repeat("0a", 32) + `","size_bytes":4100000,"content_type":"image/jpeg","width":4000,"height":3000}]`},
		{`"photos":[]`, `"photos":[{"sha256":"` + strings.Repeat("0a", 32) + `","size_bytes":0,"content_type":"image/heic","refused":"format_unsupported"}]`},
		{`"flags":[]`, `"flags":["synced_late","visited_late","away_from_site"]`},
		{`"distance_m":null`, `"distance_m":20015087`},
	} {
		record := strings.Replace(realRecords[0], c.old, c.new, 1)
		if record == realRecords[0] || !compareVisits(t, []byte(record)) {
			t.Errorf("%s is not read by hand", record)
		}
	}
}

// FuzzVisit ensures that what is read by hand is what Parse reads, whatever the bytes.
func FuzzVisit(f *testing.F) {
	for _, record := range realRecords {
		f.Add([]byte(record))
	}
	f.Fuzz(func(t *testing.T, content []byte) { compareVisits(t, content) })
}

// BenchmarkRecord measures a check-in's content, and what the coverage index reads.
func BenchmarkRecord(b *testing.B) {
	c, err := parseContent([]byte(realRecords[0]))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := marshalContent(c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("write by reflection", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ledger.MarshalContent(newRecord(c)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("visit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parseVisit(c.Entry); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("whole check-in", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Parse(c.Entry); err != nil {
				b.Fatal(err)
			}
		}
	})
}
