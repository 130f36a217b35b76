package rpc

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/sampledata"
	"xuncha/server/internal/sqlitestore"
	"xuncha/sites"
)

// TestRepeatedImport ensures that the repeat of an import shows the sites, orders and
// accounts that it left without a division as they were then, also after all were given
// another one.
func TestRepeatedImport(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	officer := w.create(t, "officer", accounts.Officer, "511603")
	gone := w.create(t, "gone", accounts.Officer, "511603")
	w.advance(24 * time.Hour)
	header := &xunchav1.ImportHeader{EffectiveDate: "2020-02-02", Source: "codes.csv", RequestId: uuid.NewString()}
	repeat := func() *xunchav1.ImportDivisionsResponse {
		t.Helper()
		return must(w.importDivisionsBy(t, w.as(t, "root"), newCountyCode(), header))(t)
	}
	first := repeat()
	if !first.Changed || first.OrphanedAccountCount != 3 || first.OrphanedOrderCount == 0 {
		t.Fatalf("got %v, want an import that leaves orders and three accounts without a division", first)
	}
	w.advance(time.Hour)
	w.change(t, officer, accounts.Officer, "511699")
	must(w.accounts.Disable(t.Context(), accounts.By{Account: "root"}, gone.ID))(t)
	must(w.roster.MoveSite(w.as(t, "root"), &xunchav1.MoveSiteRequest{SiteId: areas[1].site, DivisionCode: areas[0].village}))(t)
	if again := repeat(); !proto.Equal(again, first) {
		t.Errorf("got %v, want the first answer %v", again, first)
	}
	header.Source = "other.csv"
	_, err := w.importDivisionsBy(t, w.as(t, "root"), newCountyCode(), header)
	wantStatus(t, err, codes.AlreadyExists, "REQUEST_CONFLICT", "header.request_id")
}

// TestRepeatedImportElsewhere ensures that the repeat of an import shows all that the first
// answer showed, also on a server which has not heard yet of anything that it is about.
func TestRepeatedImportElsewhere(t *testing.T) {
	store := must(sqlitestore.Open(t.Context(), t.TempDir(), sqlitestore.Options{}))(t)
	w := newServerOn(t, store)
	w.create(t, "root", accounts.Admin, "511600")
	ctx, id := w.as(t, "root"), uuid.NewString()
	elsewhere := must(sites.Open(t.Context(), sites.Config{
		Ledger: ledger.Guard(store, w.altered), Altered: w.altered, Rows: store, Now: w.clock, NewID: uuid.NewString, Zone: shanghai,
	}))(t)
	table := []sites.DivisionRow{
		{Row: 2, Code: "511600", Name: "市", Level: "city"},
		{Row: 3, Code: "511602", Name: "区", Level: "county", Parent: "511600"},
		{Row: 4, Code: "511602001", Name: "街道", Level: "township", Parent: "511602"},
		{Row: 5, Code: "511602001001", Name: "社区", Level: "village", Parent: "511602001"},
	}
	root := sites.By{Account: "root"}
	must(elsewhere.ImportDivisions(t.Context(), root, sites.Import{Effective: "2019-10-31"}, table))(t)
	must(elsewhere.CreateSite(t.Context(), root, sites.NewSite{RegistrationNo: "N-1", Name: "样例", Division: "511602001001"}))(t)
	root.Request = ledger.Request{ID: id}
	must(elsewhere.ImportDivisions(t.Context(), root, sites.Import{Effective: "2020-02-02"}, table[:3]))(t)

	stream := must(w.roster.ImportDivisions(ctx))(t)
	parts := []*xunchav1.ImportDivisionsRequest{{Part: &xunchav1.ImportDivisionsRequest_Header{
		Header: &xunchav1.ImportHeader{EffectiveDate: "2020-02-02", RequestId: id},
	}}}
	for _, d := range table[:3] {
		parts = append(parts, &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{
			Row: int32(d.Row), Code: d.Code, Name: d.Name, Level: d.Level, ParentCode: d.Parent,
		}}})
	}
	for _, part := range parts {
		if err := stream.Send(part); err != nil {
			t.Fatal(err)
		}
	}
	if again := must(stream.CloseAndRecv())(t); again.Ended != 1 || again.DisplacedSiteCount != 1 {
		t.Errorf("got %v, want the site whose village has ended", again)
	}
}

// TestRepeatedMove ensures that the repeat of a change shows the site where it stood then,
// also once a move that was entered before has taken effect.
func TestRepeatedMove(t *testing.T) {
	w := newWorld(t)
	req := &xunchav1.MoveSiteRequest{
		SiteId: w.sites[0].SiteId, DivisionCode: "511602002003", EffectiveTime: timestamppb.New(w.clock().Add(24 * time.Hour)), RequestId: uuid.NewString(),
	}
	first := must(w.roster.MoveSite(t.Context(), req))(t)
	w.advance(48 * time.Hour)
	if again := must(w.roster.MoveSite(t.Context(), req))(t); !proto.Equal(again, first) {
		t.Errorf("got %v, want %v", again, first)
	}
}

// TestRepeatOfCounty ensures that a county's administrator can repeat changes within the
// county, and no longer once the account has another county.
func TestRepeatOfCounty(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	admin := w.create(t, "county.admin", accounts.Admin, areas[0].division)
	ctx := w.as(t, "county.admin")
	name := "改名"
	create := &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{RegistrationNo: "N-1", Name: "样例", DivisionCode: areas[0].village}, RequestId: uuid.NewString()}
	update := &xunchav1.UpdateSiteRequest{SiteId: areas[0].site, Name: &name, RequestId: uuid.NewString()}
	order := &xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
		Number: "N-1", Title: "通知", IssuingAuthority: "指挥部", LegalBasis: "法", DivisionCodes: []string{areas[0].division},
		StartTime: timestamppb.New(w.clock()), EndTime: timestamppb.New(w.clock().Add(24 * time.Hour)), InspectionInterval: durationpb.New(24 * time.Hour),
	}, RequestId: uuid.NewString()}
	calls := []func() (proto.Message, error){
		func() (proto.Message, error) { return w.roster.CreateSite(ctx, create) },
		func() (proto.Message, error) { return w.roster.UpdateSite(ctx, update) },
		func() (proto.Message, error) { return w.roster.CreateClosureOrder(ctx, order) },
	}
	for _, call := range calls {
		first := must(call())(t)
		if again := must(call())(t); !proto.Equal(again, first) {
			t.Errorf("got %v, want %v", again, first)
		}
	}
	header := &xunchav1.ImportHeader{EffectiveDate: "2020-02-02", RequestId: uuid.NewString()}
	table := countyOf(sampledata.Divisions2023(), areas[0].division)
	first := must(w.importDivisionsBy(t, ctx, table, header))(t)
	if again := must(w.importDivisionsBy(t, ctx, table, header))(t); !first.Changed || !proto.Equal(again, first) {
		t.Errorf("got %v, want %v", again, first)
	}

	w.change(t, admin, accounts.Admin, areas[1].division)
	for _, call := range calls {
		if answer, err := call(); err == nil {
			t.Errorf("of what is another's by now: got %v", answer)
		}
	}
	if _, err := w.importDivisionsBy(t, ctx, table, header); status.Code(err) != codes.NotFound {
		t.Errorf("the import of what is another's by now: got %v, want NOT_FOUND", err)
	}
}

// TestRepeatOfAccountOfAnother ensures that repeating the request that made an account gives
// no password for it, and voids none, once the account is not the caller's to keep: whoever
// was promoted since would lend their rights to whoever made the account.
func TestRepeatOfAccountOfAnother(t *testing.T) {
	w := newWorld(t)
	areas := w.areas(t)
	w.create(t, "county.admin", accounts.Admin, areas[0].division)
	req := &xunchav1.CreateAccountRequest{Account: &xunchav1.Account{
		Username: "promoted", Role: xunchav1.Role_ROLE_OFFICER, DivisionCodes: []string{areas[0].division},
	}, RequestId: uuid.NewString()}
	ctx := w.as(t, "county.admin")
	first := must(xunchav1.NewAccountServiceClient(w.conn).CreateAccount(ctx, req))(t)
	a := must(w.accounts.Get(first.Account.AccountId))(t)
	w.change(t, a, accounts.Admin, "511600")
	again, err := xunchav1.NewAccountServiceClient(w.conn).CreateAccount(ctx, req)
	if status.Code(err) != codes.AlreadyExists {
		t.Errorf("got %v, %v, want ALREADY_EXISTS", again, err)
	}
	if _, _, err := w.accounts.Login(t.Context(), accounts.SignIn{Username: "promoted", Password: first.OneTimePassword, NewPassword: "another horse battery"}); err != nil {
		t.Errorf("the first password: %v", err)
	}
}

// countyOf returns the rows of a table that are the county's, with its header.
func countyOf(table []byte, county string) []byte {
	var out []byte
	for i, line := range bytes.SplitAfter(table, []byte("\n")) {
		if i == 0 || bytes.HasPrefix(line, []byte(county)) {
			out = append(out, line...)
		}
	}
	return out
}

// TestRepeatedEndOfOrder ensures that who has ended an order is told so again, with
// accounts too, although all that was done to the order was taken back since.
func TestRepeatedEndOfOrder(t *testing.T) {
	w := newWorld(t)
	w.areas(t)
	ctx := w.as(t, "root")
	o := w.newOrder("S02")
	o.DivisionCodes = []string{"511603"}
	o.StartTime = timestamppb.New(w.clock().Add(-time.Hour))
	made := must(w.roster.CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o}))(t).ClosureOrder
	req := &xunchav1.EndClosureOrderRequest{ClosureOrderId: made.ClosureOrderId, RequestId: uuid.NewString()}
	first := must(w.roster.EndClosureOrder(ctx, req))(t)
	must(w.revoke(ctx, first.ClosureOrder.Revision))(t)
	must(w.revoke(ctx, made.Revision))(t)
	if again := must(w.roster.EndClosureOrder(ctx, req))(t); !proto.Equal(again, first) {
		t.Errorf("got %v, want %v", again, first)
	}
	_, err := w.roster.EndClosureOrder(ctx, &xunchav1.EndClosureOrderRequest{ClosureOrderId: made.ClosureOrderId})
	wantStatus(t, err, codes.NotFound, "CLOSURE_ORDER_NOT_FOUND", "closure_order_id")
}
