package rpc

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

// siteIn returns the number of a site in the division.
func (w *world) siteIn(t testing.TB, division string) int {
	t.Helper()
	i := slices.IndexFunc(w.sites, func(s *xunchav1.Site) bool { return strings.HasPrefix(s.DivisionCode, division) })
	if i < 0 {
		t.Fatalf("no site is in %s", division)
	}
	return i
}

// TestReuseTellsOfNoOtherSite holds that whoever cannot see the site where a photo was used
// first learns that it was used before, and nothing else of that check-in, in any answer;
// and that whoever can see it is told, whoever asked before.
func TestReuseTellsOfNoOtherSite(t *testing.T) {
	w := newWorld(t)
	here, there := w.siteIn(t, "511602"), w.siteIn(t, "511603")
	first, _ := w.visit(t, there, makePhoto(5, 90, 60, "the first file"))
	w.mustUpload(t, t.Context(), first, makePhoto(5, 90, 60, "the first file"))
	again, _ := w.visit(t, here, makePhoto(5, 90, 60, "the first file"))
	other, _ := w.visit(t, here, makePhoto(5, 90, 60, "another file"))
	w.mustUpload(t, t.Context(), other, makePhoto(5, 90, 60, "another file"))
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "here", accounts.Head, "511602")
	w.create(t, "all", accounts.Auditor, "511600")
	for _, asks := range []string{"all", "here", "all"} {
		ctx := with(t.Context(), w.signIn(t, asks))
		item := must(w.checkIns.GetCheckIn(ctx, &xunchav1.GetCheckInRequest{SiteId: again.SiteId, CheckInId: again.CheckInId}))(t)
		list := must(w.checkIns.ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{DivisionCode: "511602"}))(t)
		history := must(w.audit.ListSiteHistory(ctx, &xunchav1.ListSiteHistoryRequest{SiteId: again.SiteId}))(t)
		records := must(w.audit.ListSiteHistory(ctx, &xunchav1.ListSiteHistoryRequest{SiteId: again.SiteId, IncludeRecords: true}))(t)

		used := []*xunchav1.Photo{item.CheckIn.Photos[0]}
		for _, i := range list.Items {
			if i.CheckIn.CheckInId == again.CheckInId {
				used = append(used, i.CheckIn.Photos[0])
			}
		}
		var events []*xunchav1.PhotoEvent
		for _, e := range slices.Concat(history.Entries, records.Entries) {
			if e.RecordWithheld {
				t.Errorf("%s: the record of %v is withheld", asks, e)
			}
			if e.EntryId == again.CheckInId {
				used = append(used, e.GetCheckIn().Photos[0])
			}
			if p := e.GetPhotoEvent(); p != nil {
				events = append(events, p)
			}
		}
		if len(used) != 4 || len(events) != 2 {
			t.Fatalf("%s: got %d photos and %d events, want 4 and 2", asks, len(used), len(events))
		}
		site, checkIn := first.SiteId, first.CheckInId
		if asks == "here" {
			site, checkIn = "", ""
		}
		for _, p := range used {
			if !p.Reused || p.FirstSiteId != site || p.FirstCheckInId != checkIn {
				t.Errorf("%s: got %v, want it used before by %q", asks, p, checkIn)
			}
		}
		for _, p := range events {
			if !p.Reused || p.FirstSiteId != site || p.FirstCheckInId != checkIn {
				t.Errorf("%s: got %v, want it used before by %q", asks, p, checkIn)
			}
		}
		if asks != "here" {
			continue
		}
		for _, answer := range []proto.Message{item, list, history, records} {
			b := must(proto.Marshal(answer))(t)
			for _, id := range []string{first.SiteId, first.CheckInId} {
				if bytes.Contains(b, []byte(id)) {
					t.Errorf("%s is told of %s: %s", asks, id, protojson.Format(answer))
				}
			}
		}
	}
	// A site that comes into the caller's divisions is one that the caller can see.
	must(w.roster.MoveSite(with(t.Context(), w.signIn(t, "root")), &xunchav1.MoveSiteRequest{
		SiteId: first.SiteId, DivisionCode: w.sites[here].DivisionCode, Address: "x", Etag: w.sites[there].Etag,
	}))(t)
	w.advance(time.Second)
	history := must(w.audit.ListSiteHistory(with(t.Context(), w.signIn(t, "here")), &xunchav1.ListSiteHistoryRequest{SiteId: again.SiteId}))(t)
	for _, e := range history.Entries {
		if p := e.GetPhotoEvent(); p != nil && p.FirstCheckInId != first.CheckInId {
			t.Errorf("got %v after the move, want it used before by %s", p, first.CheckInId)
		}
	}
}

// TestReuseInOldRecords holds that records of earlier versions, which name the check-in that
// used a photo first, are shown to whoever can see its site, and to nobody else.
func TestReuseInOldRecords(t *testing.T) {
	w := newWorld(t)
	here, there := w.sites[w.siteIn(t, "511602")].SiteId, w.sites[w.siteIn(t, "511603")].SiteId
	const first = "11111111-0000-4000-8000-000000000001"
	ids, photo := map[string]any{"site_id": there, "check_in_id": first}, strings.Repeat("0a", 32)
	ids["sha256"] = photo
	w.put(t, ledger.History("site/"+here), inspections.KindCheckIn, 1, func(int) any {
		return map[string]any{
			"capture_time": w.clock(), "visit_time": w.clock(), "closure_order_id": w.order.ClosureOrderId, "finding": "closed",
			"photos": []any{map[string]any{"sha256": photo, "size_bytes": 1, "content_type": "image/jpeg"}},
			"flags":  []string{"photo_reused"}, "reused": []any{ids},
		}
	})
	second := w.sites[w.siteIn(t, "511602")+1].SiteId
	w.put(t, ledger.History("site/"+second), photos.KindStored, 1, func(int) any {
		return map[string]any{
			"check_in_id": first, "sha256": photo, "stored_sha256": photo, "stored_size_bytes": 1, "content_type": "image/jpeg",
			"closure_order_id": w.order.ClosureOrderId, "first": map[string]any{"site_id": there, "check_in_id": first},
		}
	})
	w.create(t, "root", accounts.Admin, "511600")
	w.create(t, "here", accounts.Head, "511602")
	w.create(t, "all", accounts.Auditor, "511600")
	for asks, sees := range map[string]bool{"here": false, "all": true} {
		ctx := with(t.Context(), w.signIn(t, asks))
		for _, site := range []string{here, second} {
			for _, records := range []bool{false, true} {
				history := must(w.audit.ListSiteHistory(ctx, &xunchav1.ListSiteHistoryRequest{SiteId: site, IncludeRecords: records}))(t)
				e := history.Entries[0]
				named := e.GetPhotoEvent().GetFirstSiteId()
				if c := e.GetCheckIn(); c != nil {
					named = c.Photos[0].FirstSiteId
				}
				if (named == there) != sees || !sees && named != "" || (e.Record != nil) != (sees && records) || e.RecordWithheld != (records && !sees) {
					t.Errorf("%s, with records %v: got %v, want it to tell of the other site: %v", asks, records, e, sees)
				}
				if b := must(proto.Marshal(history))(t); bytes.Contains(b, []byte(there)) != sees {
					t.Errorf("%s, with records %v: told of %s: %v", asks, records, there, !sees)
				}
			}
		}
	}
}
