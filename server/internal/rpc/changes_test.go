package rpc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/sampledata"
	"xuncha/sites"
)

// issue issues an order of the division and returns the revision.
func (w *world) issue(division string) int64 {
	o, err := w.config.Roster.CreateOrder(context.Background(), sites.By{Account: Account}, sites.ClosureOrder{
		Number: uuid.NewString(), Title: "t", IssuingAuthority: "a", LegalBasis: "b", Divisions: []sites.DivisionCode{sites.DivisionCode(division)},
		Start: w.clock(), End: w.clock().AddDate(0, 0, 1), Interval: sites.Duration(time.Hour),
	})
	if err != nil {
		panic(err)
	}
	return int64(w.config.Roster.Roster().OrderRevision(o.ID))
}

func (w *world) revoke(ctx context.Context, revision int64) (*xunchav1.RevokeChangeResponse, error) {
	return w.roster.RevokeChange(ctx, &xunchav1.RevokeChangeRequest{Revision: revision, Reason: "by mistake"})
}

// withoutOrder returns a world on whose city no order is.
func withoutOrder(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	must(w.revoke(t.Context(), w.order.Revision))(t)
	return w
}

// TestWithdrawPlannedOrder and TestOrderIssuedByMistake ensure that an order which is taken
// back, before it starts or at once, makes nothing due on the day of its start, and that
// what was known before is told as before.
func TestWithdrawPlannedOrder(t *testing.T) {
	testWithdraw(t, "511603", 48*time.Hour)
}

func TestOrderIssuedByMistake(t *testing.T) {
	testWithdraw(t, "511681", -time.Second)
}

func testWithdraw(t *testing.T, division string, start time.Duration) {
	w := withoutOrder(t)
	ctx := t.Context()
	o := w.newOrder("S01")
	o.DivisionCodes = []string{division}
	o.StartTime = timestamppb.New(w.clock().Add(start))
	made := must(w.roster.CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o}))(t).ClosureOrder
	day := func(known *timestamppb.Timestamp) *xunchav1.CoverageRow {
		t.Helper()
		return must(w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{
			DivisionCode: division, StartTime: o.StartTime, EndTime: timestamppb.New(o.StartTime.AsTime().AddDate(0, 0, 1)), KnownTime: known,
		}))(t).Row
	}
	if n := day(nil).SitesDue; n == 0 {
		t.Fatal("nothing is due under the order")
	}
	w.advance(time.Minute)
	known := timestamppb.New(w.clock())
	w.advance(time.Minute)
	out := must(w.revoke(ctx, made.Revision))(t)
	c := out.Change
	if out.Revision != made.Revision+1 || c.Revision != made.Revision || c.RevokedByRevision != out.Revision ||
		c.Kind != xunchav1.EntryKind_ENTRY_KIND_CLOSURE_ORDER_ISSUED || c.ClosureOrderId != made.ClosureOrderId || c.ClosureOrderNumber != "S01" {
		t.Errorf("got %v", out)
	}
	if row := day(nil); row.SitesDue != 0 || row.SitesNeverInspected != 0 {
		t.Errorf("%d sites are due and %d never inspected, want none", row.SitesDue, row.SitesNeverInspected)
	}
	if row := day(known); row.SitesDue == 0 {
		t.Error("as known before it was taken back, nothing is due")
	}
	_, err := w.roster.GetClosureOrder(ctx, &xunchav1.GetClosureOrderRequest{ClosureOrderId: made.ClosureOrderId})
	wantStatus(t, err, codes.NotFound, "CLOSURE_ORDER_NOT_FOUND", "closure_order_id")
	if list := must(w.roster.ListClosureOrders(ctx, &xunchav1.ListClosureOrdersRequest{}))(t).ClosureOrders; len(list) != 0 {
		t.Errorf("the list has %v", list)
	}
}

// TestRevokeSite takes back what was done to a site: its history tells both, and what was
// reported of it stays.
func TestRevokeSite(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	site := w.sites[0]
	if site.Revision != 2 {
		t.Errorf("the site was changed last by %d, want the import", site.Revision)
	}
	made := must(w.roster.CreateSite(ctx, &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{RegistrationNo: "X", Name: "某", DivisionCode: site.DivisionCode}}))(t).Site
	c := w.checkIn(0)
	c.SiteId = made.SiteId
	w.submit(t, c)
	w.advance(time.Minute)
	off := must(w.roster.DeregisterSite(ctx, &xunchav1.DeregisterSiteRequest{SiteId: made.SiteId}))(t).Site
	_, err := w.revoke(ctx, made.Revision)
	wantStatus(t, err, codes.FailedPrecondition, "CHANGE_RESTED_ON", "revision")
	var named string
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			named = info.Metadata["revision"]
		}
	}
	if named != fmt.Sprint(off.Revision) {
		t.Errorf("revision %q is named as the one that rests on it, want %d", named, off.Revision)
	}
	must(w.revoke(ctx, off.Revision))(t)
	back := must(w.roster.GetSite(ctx, &xunchav1.GetSiteRequest{SiteId: made.SiteId}))(t).Site
	if back.DeregisteredTime != nil || back.Revision != made.Revision || back.Etag == made.Etag || back.Etag == off.Etag {
		t.Errorf("got %v, want the site registered under a new etag", back)
	}
	history := func() []*xunchav1.HistoryEntry {
		t.Helper()
		return must(w.audit.ListSiteHistory(ctx, &xunchav1.ListSiteHistoryRequest{SiteId: made.SiteId}))(t).Entries
	}
	history() // which keeps the entries as they are read
	w.advance(time.Minute)
	last := must(w.revoke(ctx, made.Revision))(t)
	_, err = w.revoke(ctx, made.Revision)
	wantStatus(t, err, codes.FailedPrecondition, "CHANGE_NOT_REVOCABLE", "revision")
	_, err = w.roster.GetSite(ctx, &xunchav1.GetSiteRequest{SiteId: made.SiteId})
	wantStatus(t, err, codes.NotFound, "SITE_NOT_FOUND", "site_id")
	must(w.checkIns.GetCheckIn(ctx, &xunchav1.GetCheckInRequest{SiteId: made.SiteId, CheckInId: c.CheckInId}))(t)
	revokedBy := map[int64]int64{}
	for _, e := range history() {
		if e.History == "roster" {
			revokedBy[e.Sequence] = e.RevokedBySequence
		}
		if e.Sequence == last.Revision && e.History == "roster" && (e.Kind != xunchav1.EntryKind_ENTRY_KIND_CHANGE_REVOKED ||
			e.GetRevokeEvent().GetRevision() != made.Revision || e.GetRevokeEvent().GetReason() != "by mistake") {
			t.Errorf("got the entry %v", e)
		}
	}
	if revokedBy[made.Revision] != last.Revision || revokedBy[off.Revision] != off.Revision+1 {
		t.Errorf("the history names as what was taken back: %v", revokedBy)
	}
	_, err = w.revoke(ctx, 1000)
	wantStatus(t, err, codes.NotFound, "CHANGE_NOT_FOUND", "revision")
}

// TestReadersOfRevokedSite ensures that what was reported of a site whose registration was
// taken back is shown to those who had the site, and to nobody else.
func TestReadersOfRevokedSite(t *testing.T) {
	w := newWorld(t)
	made := must(w.roster.CreateSite(t.Context(), &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{RegistrationNo: "X", Name: "某", DivisionCode: "511602001001"}}))(t).Site
	c := w.checkIn(0)
	c.SiteId, c.Photos = made.SiteId, declare(testPhoto)
	w.submit(t, c)
	w.mustUpload(t, t.Context(), c, testPhoto)
	must(w.revoke(t.Context(), made.Revision))(t)
	w.create(t, "root", accounts.Admin, "511600")
	for division, code := range map[string]codes.Code{"511602": codes.OK, "511603": codes.NotFound} {
		w.create(t, "officer."+division, accounts.Officer, division)
		w.create(t, "auditor."+division, accounts.Auditor, division)
		officer, auditor := with(t.Context(), w.signIn(t, "officer."+division)), with(t.Context(), w.signIn(t, "auditor."+division))
		_, again := w.checkIns.SubmitCheckIn(officer, &xunchav1.SubmitCheckInRequest{CheckIn: c})
		_, get := w.checkIns.GetCheckIn(officer, &xunchav1.GetCheckInRequest{SiteId: c.SiteId, CheckInId: c.CheckInId})
		_, list := w.checkIns.ListCheckIns(officer, &xunchav1.ListCheckInsRequest{SiteId: c.SiteId})
		_, photo := w.photos.GetPhotoUpload(officer, &xunchav1.GetPhotoUploadRequest{SiteId: c.SiteId, CheckInId: c.CheckInId, Sha256: sum(testPhoto)})
		_, history := w.audit.ListSiteHistory(auditor, &xunchav1.ListSiteHistoryRequest{SiteId: c.SiteId})
		for what, err := range map[string]error{"the check-in again": again, "the check-in": get, "the list": list, "the photo": photo, "the history": history} {
			if status.Code(err) != code {
				t.Errorf("%s, in %s: got %v, want %v", what, division, err, code)
			}
		}
	}
}

// TestListChanges ensures that callers see the changes all of whose divisions are theirs.
func TestListChanges(t *testing.T) {
	w := newWorld(t)
	own, other := w.issue("511602"), w.issue("511603")
	taken := must(w.revoke(t.Context(), own))(t).Revision
	moved := must(w.roster.MoveSite(t.Context(), &xunchav1.MoveSiteRequest{SiteId: w.sites[0].SiteId, DivisionCode: "511603001001"}))(t).Site.Revision
	w.create(t, "root", accounts.Admin, "511600")
	list := func(name string) (out []int64) {
		for _, c := range must(w.roster.ListChanges(with(t.Context(), w.signIn(t, name)), &xunchav1.ListChangesRequest{}))(t).Changes {
			out = append(out, c.Revision)
			if c.Revision == taken && (c.RevokedRevision != own || c.Reason != "by mistake" || c.Kind != xunchav1.EntryKind_ENTRY_KIND_CHANGE_REVOKED) {
				t.Errorf("got %v", c)
			}
			if c.Revision == own && c.RevokedByRevision != taken {
				t.Errorf("got %v", c)
			}
			if c.Revision == 1 && (c.Kind != xunchav1.EntryKind_ENTRY_KIND_DIVISIONS_IMPORTED || c.EffectiveTime == nil) {
				t.Errorf("got %v", c)
			}
		}
		return out
	}
	for division, want := range map[string][]int64{
		"511600": {moved, taken, other, own, w.order.Revision, 2, 1},
		"511602": {taken, own},
		"511603": {other},
	} {
		w.create(t, "auditor."+division, accounts.Auditor, division)
		if got := list("auditor." + division); !slices.Equal(got, want) {
			t.Errorf("in %s: got %v, want %v", division, got, want)
		}
	}
	w.create(t, "county", accounts.Admin, "511603")
	_, err := w.revoke(with(t.Context(), w.signIn(t, "county")), moved)
	wantStatus(t, err, codes.NotFound, "CHANGE_NOT_FOUND", "revision")
	_, err = w.roster.RevokeChange(with(t.Context(), w.signIn(t, "county")), &xunchav1.RevokeChangeRequest{Revision: other})
	wantStatus(t, err, codes.InvalidArgument, "MISSING_FIELD", "reason")
}

// TestRepeatOfRevokeChange ensures that a repeat returns the first answer, also that of what
// was taken back since.
func TestRepeatOfRevokeChange(t *testing.T) {
	w := withoutOrder(t)
	ctx := t.Context()
	issue := &xunchav1.CreateClosureOrderRequest{ClosureOrder: w.newOrder("2"), RequestId: uuid.NewString()}
	first := must(w.roster.CreateClosureOrder(ctx, issue))(t)
	revoke := &xunchav1.RevokeChangeRequest{Revision: first.ClosureOrder.Revision, Reason: "by mistake", RequestId: uuid.NewString()}
	taken := must(w.roster.RevokeChange(ctx, revoke))(t)
	if again := must(w.roster.RevokeChange(ctx, revoke))(t); !proto.Equal(again, taken) {
		t.Errorf("got %v, want %v", again, taken)
	}
	if again := must(w.roster.CreateClosureOrder(ctx, issue))(t); !proto.Equal(again, first) {
		t.Errorf("got %v, want %v", again, first)
	}
	revoke.Reason = "dropped"
	_, err := w.roster.RevokeChange(ctx, revoke)
	wantStatus(t, err, codes.AlreadyExists, "REQUEST_CONFLICT", "request_id")
}

// TestAfterDivisionIsTakenBack ensures that whoever imported a division and took that back
// still sees both, can repeat it, and keeps the accounts that are bound to the division.
// Nobody else sees any of it.
func TestAfterDivisionIsTakenBack(t *testing.T) {
	w := withoutOrder(t)
	for name, division := range map[string]string{"root": "511600", "county": "511603", "other": "511602"} {
		w.create(t, name, accounts.Admin, division)
	}
	ctx, other := w.as(t, "county"), w.as(t, "other")
	table := countyTable("511603", "511603900,新镇,township,511603", "511603900201,新村,village,511603900")
	header := &xunchav1.ImportHeader{EffectiveDate: w.clock().Format(time.DateOnly), RequestId: uuid.NewString()}
	done := must(w.importDivisionsBy(t, ctx, table, header))(t)
	bound := w.create(t, "new", accounts.Officer, "511603900201")
	revoke := &xunchav1.RevokeChangeRequest{Revision: done.Revision, Reason: "wrong table", RequestId: uuid.NewString()}
	taken := must(w.roster.RevokeChange(ctx, revoke))(t)
	if names := taken.OrphanedAccounts; len(names) != 1 || names[0].Username != "new" || taken.OrphanedAccountCount != 1 {
		t.Errorf("the accounts %v are named as bound to what is gone, want that one", names)
	}

	if again := must(w.roster.RevokeChange(ctx, revoke))(t); !proto.Equal(again, taken) {
		t.Errorf("a repeat of taking back got %v, want %v", again, taken)
	}
	if again := must(w.importDivisionsBy(t, ctx, table, header))(t); !proto.Equal(again, done) {
		t.Errorf("a repeat of the import got %v, want %v", again, done)
	}
	_, err := w.revoke(other, done.Revision)
	wantStatus(t, err, codes.NotFound, "CHANGE_NOT_FOUND", "revision")
	for caller, want := range map[context.Context][]int64{ctx: {taken.Revision, done.Revision}, other: nil} {
		var got []int64
		for _, c := range must(w.roster.ListChanges(caller, &xunchav1.ListChangesRequest{}))(t).Changes {
			got = append(got, c.Revision)
		}
		if !slices.Equal(got, want) {
			t.Errorf("the changes %v are listed, want %v", got, want)
		}
	}
	w.advance(time.Minute)
	people := xunchav1.NewAccountServiceClient(w.conn)
	update := &xunchav1.UpdateAccountRequest{AccountId: bound.ID, DivisionCodes: []string{"511603"}}
	_, err = people.UpdateAccount(other, update)
	wantStatus(t, err, codes.NotFound, "ACCOUNT_NOT_FOUND", "account_id")
	must(people.ResetPassword(w.as(t, "root"), &xunchav1.ResetPasswordRequest{AccountId: bound.ID}))(t)
	must(people.UpdateAccount(ctx, update))(t)
	_, err = w.roster.GetDivision(ctx, &xunchav1.GetDivisionRequest{Code: "511603900"})
	wantStatus(t, err, codes.NotFound, "DIVISION_NOT_FOUND", "code")

	header.RequestId = ""
	must(w.importDivisionsBy(t, ctx, table, header))(t)
	if again := must(w.roster.RevokeChange(ctx, revoke))(t); !proto.Equal(again, taken) {
		t.Errorf("a repeat once the division is there again got %v, want %v", again, taken)
	}
}

// countyTable returns the rows of a county in the sample, and more.
func countyTable(county string, more ...string) []byte {
	rows := strings.Split(string(sampledata.Divisions2019()), "\r\n")
	rows = slices.DeleteFunc(rows, func(row string) bool { return !strings.HasPrefix(row, "code") && !strings.HasPrefix(row, county) })
	return []byte(strings.Join(append(rows, more...), "\n"))
}

// TestListGoesOnAfterOrderIsTakenBack ensures that a list of orders goes on where the last
// one of a page was taken back meanwhile.
func TestListGoesOnAfterOrderIsTakenBack(t *testing.T) {
	w := newWorld(t)
	last := w.issue("511603")
	list := func(token string) *xunchav1.ListClosureOrdersResponse {
		t.Helper()
		return must(w.roster.ListClosureOrders(t.Context(), &xunchav1.ListClosureOrdersRequest{PageSize: 1, PageToken: token}))(t)
	}
	page := list("")
	if len(page.ClosureOrders) != 1 || page.ClosureOrders[0].Revision != last || page.NextPageToken == "" {
		t.Fatalf("got %v, want the order that was just issued, and more", page)
	}
	must(w.revoke(t.Context(), last))(t)
	if next := list(page.NextPageToken).ClosureOrders; len(next) != 1 || next[0].ClosureOrderId != w.order.ClosureOrderId {
		t.Errorf("got %v, want the order before", next)
	}
}
