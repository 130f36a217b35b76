package command_test

import (
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// aboutPeople matches the words of a field that would be about a person or a
// religion. Each counts only as a whole word between underscores.
var aboutPeople = regexp.MustCompile(`(^|_)(visitors?|believers?|worshippers?|members?|clergy|priests?|monks?|imams?|persons?|surname|given|gender|sex|age|birth\w*|ethnic\w*|nationality|identity|id_card|passport|phone|mobile|email|face|plate|religions?|religious|denominations?|faiths?|creed|sect|church|temple|mosque|congregation|leader|responsible|contact|owner|manager)(_|$)`)

// TestNoFieldAboutPeople ensures that no message of the API has a place for a
// person or a religion.
func TestNoFieldAboutPeople(t *testing.T) {
	fields := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("xuncha.v1", func(f protoreflect.FileDescriptor) bool {
		var walk func(protoreflect.MessageDescriptors)
		walk = func(messages protoreflect.MessageDescriptors) {
			for i := range messages.Len() {
				m := messages.Get(i)
				for j := range m.Fields().Len() {
					fields++
					name := string(m.Fields().Get(j).Name())
					if aboutPeople.MatchString(name) {
						t.Errorf("%s.%s would be about people", m.FullName(), name)
					}
				}
				walk(m.Messages())
			}
		}
		walk(f.Messages())
		return true
	})
	if fields < 100 {
		t.Errorf("only %d fields were looked at", fields)
	}
}

// TestRecordsHaveNoOtherKeys ensures that what is kept for ever of a visit is
// the list below and nothing else.
func TestRecordsHaveNoOtherKeys(t *testing.T) {
	address, _ := serveFolder(t, t.TempDir())
	site := fill(t, address)[0]
	conn := connect(t, address)
	photo := cameraPhoto(t, 3)
	for range 2 {
		c := newCheckIn(site)
		c.Photos = []*xunchav1.Photo{client.Declare(photo), {Sha256: make([]byte, 32), SizeBytes: 9, ContentType: "image/heic"}}
		submit(t, conn, c)
		if err := newClient(t, address).UploadPhoto(t.Context(), photoOf(c, photo)); err != nil {
			t.Fatal(err)
		}
	}
	kept := map[string]bool{}
	for _, key := range strings.Fields(`format history sequence kind id receive_time account content
		capture_time visit_time closure_order_id finding duty_staff_present cancelled_event_count dispersed_people_count
		distance_m note photos flags
		sha256 size_bytes content_type width height refused reused first_sha256 check_in_id
		stored_sha256 stored_size_bytes closure_order_end_time retention_days`) {
		kept[key] = true
	}
	for _, e := range wantChain(t, conn, site) {
		for _, m := range regexp.MustCompile(`"([a-z_0-9]+)":`).FindAllStringSubmatch(string(e.Record), -1) {
			if !kept[m[1]] {
				t.Errorf("a record keeps %q: %s", m[1], e.Record)
			}
		}
	}
}
