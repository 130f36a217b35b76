package rpc

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/internal/texts"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestFieldWords holds that every field of every request has a name for people in both
// languages.
func TestFieldWords(t *testing.T) {
	seen := map[string]bool{"part": true}
	var walk func(m protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			seen[string(f.Name())] = true
			if sub := f.Message(); sub != nil && strings.HasPrefix(string(sub.FullName()), "xuncha.") {
				walk(sub)
			}
		}
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("xuncha.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			for j := range file.Services().Get(i).Methods().Len() {
				walk(file.Services().Get(i).Methods().Get(j).Input())
			}
		}
		return true
	})
	for name := range seen {
		if w := fieldWords[name]; w.en == "" || w.zh == "" {
			t.Errorf("%s has no name for people", name)
		}
	}
	for name := range fieldWords {
		if !seen[name] {
			t.Errorf("no request has a field %s", name)
		}
	}
}

// TestSaid holds that people read, in their language, which field is wrong and what its
// limit is.
func TestSaid(t *testing.T) {
	w := newWorld(t)
	order := w.newOrder("2")
	order.Number, order.Title, order.InspectionInterval = strings.Repeat("x", 65), "", durationpb.New(time.Minute)
	order.DivisionCodes = []string{"511600", "990000"}
	site := &xunchav1.Site{RegistrationNo: "N", Name: "某\u202e馆", DivisionCode: w.sites[0].DivisionCode, Latitude: proto.Float64(91), Longitude: proto.Float64(0)}
	for _, test := range []struct {
		method string
		m      proto.Message
		zh, en []string // of the status, then of the fields
	}{
		{xunchav1.RosterService_CreateClosureOrder_FullMethodName, &xunchav1.CreateClosureOrderRequest{ClosureOrder: order},
			[]string{"文号：最多64个字符。另有3处错误。", "文号：最多64个字符。", "缺少标题。", "行政区划（第2项）：没有此行政区划。", "检查间隔：须在1小时至30天之间。"},
			[]string{"Number: at most 64 characters are allowed. 3 more fields are wrong.", "Number: at most 64 characters are allowed.", "Title: this is missing.",
				"Divisions (no. 2): There is no such division.", "Inspection interval: this must lie between 1 hour and 30 days."}},
		{xunchav1.RosterService_CreateSite_FullMethodName, &xunchav1.CreateSiteRequest{Site: site},
			[]string{"名称：字段的值无效。另有1处错误。", "名称：字段的值无效。", "纬度：须在-90至90之间。"},
			[]string{"Name must not have a mark of direction: U+202E is character 2. One more field is wrong.", "Name must not have a mark of direction: U+202E is character 2.", "Latitude: this must lie between -90 and 90."}},
		{xunchav1.RosterService_ListSites_FullMethodName, &xunchav1.ListSitesRequest{PageSize: -1},
			[]string{"每页数量：不得小于0。", "每页数量：不得小于0。"},
			[]string{"Page size: this must be at least 0.", "Page size: this must be at least 0."}},
		{xunchav1.InspectionService_SubmitCheckIn_FullMethodName, &xunchav1.SubmitCheckInRequest{CheckIn: func() *xunchav1.CheckIn {
			c := w.checkIn(0)
			c.Note = strings.Repeat("字", 501)
			return c
		}()},
			[]string{"备注：最多500个字符。", "备注：最多500个字符。"},
			[]string{"Note: at most 500 characters are allowed.", "Note: at most 500 characters are allowed."}},
		{xunchav1.RosterService_GetSite_FullMethodName, &xunchav1.GetSiteRequest{SiteId: "3f2504e0-4f89-41d3-9a0c-0305e82c3301"},
			[]string{"没有此场所。", "场所：没有此场所。"}, []string{"There is no such site.", "Site: There is no such site."}},
	} {
		for lang, want := range map[string][]string{"zh-CN": test.zh, "en": test.en} {
			err := w.invoke(t, metadata.AppendToOutgoingContext(t.Context(), "accept-language", lang), test.method, test.m)
			var all, fields []string
			for _, d := range status.Convert(err).Details() {
				switch d := d.(type) {
				case *errdetails.LocalizedMessage:
					all = append(all, d.Message)
				case *errdetails.BadRequest:
					for _, v := range d.FieldViolations {
						fields = append(fields, v.LocalizedMessage.GetMessage())
					}
				}
			}
			if got := append(all, fields...); !slices.Equal(got, want) {
				t.Errorf("%s in %s: got\n%s\nwant\n%s", test.method, lang, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	if got := called("row[7].division_code"); got != (word{"row 7, division", "第7行，行政区划"}) {
		t.Errorf("got %v", got)
	}
	if got := called("check_in.photos[1].sha256"); got != (word{"photos (no. 2), hash of the photo", "照片（第2项），照片哈希值"}) {
		t.Errorf("got %v", got)
	}
}

// TestLongErrors holds that an error about very many fields names only some, says how many
// there are, and fits where clients and proxies take details: in headers of 8 KiB.
func TestLongErrors(t *testing.T) {
	w := newWorld(t)
	order := w.newOrder("2")
	order.DivisionCodes = nil
	for i := range 1000 {
		order.DivisionCodes = append(order.DivisionCodes, fmt.Sprintf("990%09d", i+1))
	}
	order.StartTime = timestamppb.New(time.Time{})
	err := w.invoke(t, metadata.AppendToOutgoingContext(t.Context(), "accept-language", "zh"),
		xunchav1.RosterService_CreateClosureOrder_FullMethodName, &xunchav1.CreateClosureOrderRequest{ClosureOrder: order})
	if got := len(violations(err)); got < 10 || got > maxViolations {
		t.Errorf("got %d fields, want at most %d", got, maxViolations)
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.Metadata["problem_count"] != "1001" {
			t.Errorf("got %v, want 1001 problems", info)
		}
	}
	if size := proto.Size(status.Convert(err).Proto()) * 4 / 3; size > 8<<10 || status.Code(err) != codes.NotFound {
		t.Errorf("the details of %v have %d bytes in a header", status.Code(err), size)
	}
	for _, r := range texts.Spelled(status.Convert(err).Message()) {
		if unicode.IsControl(r) {
			t.Errorf("the message has %U", r)
		}
	}
}
