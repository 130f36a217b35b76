package inspections

import (
	"errors"
	"reflect"
	"testing"

	"xuncha/ledger"
)

// realRecords are the contents of check-ins' entries as Submit has written them.
var realRecords = []string{
	`{"capture_time":"2020-02-01T01:00:00Z","visit_time":"2020-02-01T01:00:00Z","closure_order_id":"00000000-0000-4000-8000-000000000004","finding":"closed","duty_staff_present":false,"cancelled_event_count":2,"dispersed_people_count":100,"distance_m":null,"note":"","photos":[],"flags":[]}`,
	`{"capture_time":"2020-02-03T12:00:00Z","visit_time":"2020-02-03T13:00:00.123456789Z","closure_order_id":"00000000-0000-4000-8000-000000000004","finding":"open","duty_staff_present":true,"cancelled_event_count":0,"dispersed_people_count":100000,"distance_m":334,"note":"门口已张贴<通知>\n\"二\"","photos":[{"sha256":"0000000000000000000000000000000000000000000000000000000000000000","size_bytes":1,"content_type":"image/jpeg"},{"sha256":"0100000000000000000000000000000000000000000000000000000000000000","size_bytes":20971520,"content_type":"image/webp"}],"flags":["visited_late","away_from_site","clock_corrected"]}`,
	`{"capture_time":"2020-02-03T12:00:00Z","visit_time":"2020-02-03T12:00:00Z","closure_order_id":"00000000-0000-4000-8000-000000000004","finding":"closed","duty_staff_present":false,"cancelled_event_count":2,"dispersed_people_count":100,"distance_m":null,"note":"","photos":[{"sha256":"0000000000000000000000000000000000000000000000000000000000000000","size_bytes":1,"content_type":"image/jpeg"}],"flags":["synced_late","visited_late","photo_reused"],"reused":[{"sha256":"0000000000000000000000000000000000000000000000000000000000000000","site_id":"00000000-0000-4000-8000-000000000002","check_in_id":"11111111-0000-4000-8000-000000000001"}]}`,
	`{"capture_time":"2020-02-03T12:00:00Z","visit_time":"2020-02-03T12:00:00Z","closure_order_id":"00000000-0000-4000-8000-000000000004","finding":"closed","duty_staff_present":false,"cancelled_event_count":2,"dispersed_people_count":100,"distance_m":null,"note":"","photos":[{"sha256":"0000000000000000000000000000000000000000000000000000000000000000","size_bytes":1,"content_type":"image/jpeg","width":4000,"height":3000},{"sha256":"0200000000000000000000000000000000000000000000000000000000000000","size_bytes":0,"content_type":"image/heic","refused":"format_unsupported"}],"flags":["photo_reused"],"reused":[{"sha256":"0000000000000000000000000000000000000000000000000000000000000000","first_sha256":"6a8e39b2dfc5ef3dc1f8fd5a9a5d2a5c4d1e6a3a8a2f0a6c5b9f2f7f3f1d0c9e"}]}`,
}

// parseContent reads the entry of a check-in with the content.
func parseContent(content []byte) (*Stored, error) {
	return Parse(ledger.Head{}.Seal(ledger.Draft{History: "site/s", ID: "x", Kind: KindCheckIn, Content: content}))
}

// TestParseWritesBack holds that a record is read for all that it says.
func TestParseWritesBack(t *testing.T) {
	for _, record := range realRecords {
		c, err := parseContent([]byte(record))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := marshalContent(c); err != nil || string(again) != record {
			t.Errorf("got %s, %v; want %s", again, err, record)
		}
	}
}

// FuzzParse ensures that bytes either are refused or say something that can be
// written, and that what was written is read as the same and is written as the
// same bytes again.
func FuzzParse(f *testing.F) {
	for _, record := range realRecords {
		f.Add([]byte(record))
	}
	f.Add([]byte(`{"capture_time":"0000-01-01T00:00:00+08:00"}`)) // no year in UTC
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := parseContent(content)
		if err != nil {
			if !errors.Is(err, ledger.ErrBadRecord) {
				t.Errorf("%q: %v", content, err)
			}
			return
		}
		visit(c) // as the coverage index counts it
		written, err := marshalContent(c)
		if err != nil {
			t.Fatalf("%q is read and cannot be written: %v", content, err)
		}
		again, err := parseContent(written)
		if err != nil {
			t.Fatalf("%q is written as %q, which is refused: %v", content, written, err)
		}
		if rewritten, err := marshalContent(again); err != nil || string(rewritten) != string(written) {
			t.Errorf("%q is written as %q and then as %q, %v", content, written, rewritten, err)
		}
		c.Entry, again.Entry = ledger.Entry{}, ledger.Entry{}
		c.Captured, c.Corrected = c.Captured.UTC(), c.Corrected.UTC()
		if len(c.Flags) == 0 {
			c.Flags, again.Flags = nil, nil
		}
		if !reflect.DeepEqual(c, again) {
			t.Errorf("%q is read as %+v, and written and read as %+v", content, c, again)
		}
	})
}
