package rpc

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// TestNewestPage ensures that the newest page, which is kept, is always that of the
// history as it is: after a check-in, a change of the roster, and in any size.
func TestNewestPage(t *testing.T) {
	w := newWorld(t)
	site := w.sites[0].SiteId
	newest := func(size int32) *xunchav1.ListSiteHistoryResponse {
		t.Helper()
		page := func(records bool) *xunchav1.ListSiteHistoryResponse {
			return must(w.audit.ListSiteHistory(t.Context(), &xunchav1.ListSiteHistoryRequest{SiteId: site, PageSize: size, IncludeRecords: records}))(t)
		}
		want := page(true) // which is never kept
		for _, e := range want.Entries {
			e.Record = nil
		}
		page(false)
		got := page(false)
		if !proto.Equal(got, want) {
			t.Errorf("a page of %d is %v, want %v", size, got, want)
		}
		return got
	}
	check := func(kind xunchav1.EntryKind) {
		t.Helper()
		for _, size := range []int32{0, 1, 2, 200} {
			if got := newest(size).Entries[0].Kind; got != kind {
				t.Errorf("the newest entry in a page of %d is %v, want %v", size, got, kind)
			}
		}
	}
	newest(0)
	w.submit(t, w.checkIn(0))
	check(xunchav1.EntryKind_ENTRY_KIND_CHECK_IN)
	w.advance(time.Minute)
	must(w.roster.UpdateSite(t.Context(), &xunchav1.UpdateSiteRequest{SiteId: site, Name: proto.String("新华书店二店")}))(t)
	check(xunchav1.EntryKind_ENTRY_KIND_SITE_UPDATED)
	w.advance(time.Minute)
	w.submit(t, w.checkIn(0))
	check(xunchav1.EntryKind_ENTRY_KIND_CHECK_IN)
	w.submit(t, w.checkIn(1)) // of another site, which changes nothing
	check(xunchav1.EntryKind_ENTRY_KIND_CHECK_IN)
}
