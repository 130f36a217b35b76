package rpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/inspections"
	"xuncha/inspections/picture"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// longest returns a text of n characters of four bytes each, of which the first tell
// it from others.
func longest(n, i int) string {
	return fmt.Sprintf("%06d", i) + strings.Repeat("𠀀", n-6)
}

// put appends entries to a history of its own, as the store has them, at once.
func (w *world) put(t testing.TB, h ledger.History, kind ledger.Kind, n int, content func(i int) any) {
	t.Helper()
	var head ledger.Head
	entries := make([]ledger.Entry, n)
	for i := range entries {
		entries[i] = head.Seal(ledger.Draft{
			History: h, ID: uuid.NewString(), Kind: kind, Time: w.clock(), Account: strings.Repeat("a", accounts.MaxUsername),
			Content: must(json.Marshal(content(i)))(t),
		})
		head = entries[i].Head()
	}
	for begin := 0; begin < n; begin += 100 {
		if err := w.accounts.Ledger.Put(t.Context(), entries[begin:min(n, begin+100)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.accounts.Take(entries[n-1]), w.accounts.CatchUp(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// TestLongestPages fills each list with the longest items that there can be, asks for
// the largest pages, and takes them with a client's default limit.
func TestLongestPages(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ctx := t.Context()
	const many = 1001 // more than any page has
	divisions := []sites.DivisionRow{
		{Row: 1, Code: "500000", Name: "市", Level: "city"}, {Row: 2, Code: "500001", Name: "县", Level: "county", Parent: "500000"},
		{Row: 3, Code: "500001001", Name: "乡", Level: "township", Parent: "500001"},
	}
	codes := make([]sites.DivisionCode, many)
	for i := range codes {
		codes[i] = sites.DivisionCode(fmt.Sprintf("60000%06d1", i))
		divisions = append(divisions, sites.DivisionRow{Row: 4 + i, Code: string(codes[i]), Name: longest(sites.MaxName, i), Level: "village", Parent: "500001001"})
	}
	must(w.config.Roster.ImportDivisions(ctx, sites.By{Account: Account}, sites.Import{Effective: "2019-10-31"}, divisions))(t)
	rows := make([]sites.SiteRow, many)
	for i := range rows {
		rows[i] = sites.SiteRow{
			Row: 1 + i, RegistrationNo: longest(sites.MaxRegistrationNo, i), Name: longest(sites.MaxName, i), Address: longest(sites.MaxAddress, i),
			Division: string(codes[0]), Latitude: "30.123456789", Longitude: "106.123456789", RegisteredOn: "2019-12-31",
		}
	}
	must(w.config.Roster.ImportSites(ctx, sites.By{Account: Account}, sites.Import{}, rows))(t)

	first := must(w.config.Roster.Roster().SiteByRegistration(rows[0].RegistrationNo))(t)
	for i := range 201 {
		must(w.config.Roster.CreateOrder(ctx, sites.By{Account: Account}, sites.ClosureOrder{
			Number: longest(sites.MaxRegistrationNo, i), Title: longest(sites.MaxOrderText, i), IssuingAuthority: longest(sites.MaxOrderText, i),
			LegalBasis: longest(sites.MaxOrderText, i), Divisions: codes[:sites.MaxOrderDivisions],
			Start: w.clock().Add(time.Duration(i)), End: w.clock().Add(sites.MaxOrderLength), Interval: sites.Duration(sites.MaxInspectionInterval - 1),
		}))(t)
	}
	w.advance(time.Hour + 1)
	for i := range 201 {
		// JSON spells this character with six bytes.
		c := inspections.CheckIn{
			ID: inspections.CheckInID(uuid.NewString()), Site: first.ID, Captured: w.clock(), Finding: inspections.FoundInaccessible,
			CancelledEvents: inspections.MaxCancelledEvents, DispersedPeople: inspections.MaxDispersedPeople, Note: strings.Repeat("<", inspections.MaxNote),
		}
		for p := range inspections.MaxDeclaredPhotos {
			c.Photos = append(c.Photos, inspections.Photo{
				SHA256: inspections.Digest{byte(p)}, Size: picture.MaxBytes, ContentType: "image/" + strings.Repeat("x", inspections.MaxMediaType-6),
				Width: 1 << 30, Height: 1 << 30,
			})
		}
		if _, _, err := w.config.Inspections.Submit(ctx, inspections.By{Account: strings.Repeat("a", accounts.MaxUsername)}, c, time.Time{}); err != nil {
			t.Fatalf("check-in %d: %v", i, err)
		}
	}
	w.put(t, ledger.Accounts, accounts.KindCreated, many, func(i int) any {
		return map[string]any{
			"account_id": uuid.NewString(), "username": fmt.Sprintf("%0*d", accounts.MaxUsername, i), "display_name": longest(accounts.MaxDisplayName, i),
			"role": accounts.Auditor, "division_codes": codes[:accounts.MaxDivisions],
		}
	})
	for _, h := range []ledger.History{ledger.Accesses, accounts.AccessHistory("li.wei")} {
		w.put(t, h, accounts.KindAccessed, many, func(int) any {
			return map[string]any{
				"method": xunchav1.PhotoService_DownloadPhoto_FullMethodName, "site_id": first.ID, "division_code": codes[0],
				"check_in_id": uuid.NewString(), "photo_sha256": strings.Repeat("f", 64),
			}
		})
	}
	w.create(t, "root", accounts.Admin, "500000")
	w.create(t, "auditor", accounts.Auditor, "500000")
	root := with(t.Context(), w.signIn(t, "root"))
	ctx = with(t.Context(), w.signIn(t, "auditor"))
	people := xunchav1.NewAccountServiceClient(w.conn)

	for _, list := range []struct {
		name    string
		items   int
		request interface {
			proto.Message
			GetPageSize() int32
		}
		// ask returns a page, and the names of its items.
		ask func(size int32, token string) (proto.Message, []string, error)
		// cut tells that the largest page would be too large without being cut.
		cut bool
	}{
		{"ListDivisions", many, &xunchav1.ListDivisionsRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := w.roster.ListDivisions(ctx, &xunchav1.ListDivisionsRequest{ParentCode: "500001001", PageSize: size, PageToken: token})
			return p, namesOf(p.GetDivisions(), (*xunchav1.Division).GetCode), err
		}, false},
		{"ListSites", many, &xunchav1.ListSitesRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := w.roster.ListSites(ctx, &xunchav1.ListSitesRequest{PageSize: size, PageToken: token})
			return p, namesOf(p.GetSites(), (*xunchav1.Site).GetSiteId), err
		}, false},
		{"ListClosureOrders", 201, &xunchav1.ListClosureOrdersRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := w.roster.ListClosureOrders(ctx, &xunchav1.ListClosureOrdersRequest{PageSize: size, PageToken: token})
			return p, namesOf(p.GetClosureOrders(), (*xunchav1.ClosureOrder).GetClosureOrderId), err
		}, true},
		{"ListChanges", 1 + 1 + 201, &xunchav1.ListChangesRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := w.roster.ListChanges(ctx, &xunchav1.ListChangesRequest{PageSize: size, PageToken: token})
			return p, namesOf(p.GetChanges(), func(c *xunchav1.RosterChange) string { return fmt.Sprint(c.Revision) }), err
		}, false},
		{"ListCheckIns", 201, &xunchav1.ListCheckInsRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := w.checkIns.ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{DivisionCode: "500000", PageSize: size, PageToken: token})
			return p, namesOf(p.GetItems(), func(i *xunchav1.CheckInItem) string { return i.CheckIn.CheckInId }), err
		}, true},
		{"ListDueSites", many, &xunchav1.ListDueSitesRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := w.coverage.ListDueSites(ctx, &xunchav1.ListDueSitesRequest{DivisionCode: "500000", PageSize: size, PageToken: token})
			return p, namesOf(p.GetDueSites(), func(s *xunchav1.DueSite) string { return s.Site.SiteId }), err
		}, false},
		{"ListAccesses", 2 * many, &xunchav1.ListAccessesRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := w.audit.ListAccesses(ctx, &xunchav1.ListAccessesRequest{PageSize: size, PageToken: token, EndTime: timestamppb.New(w.clock().Add(time.Hour))})
			if n := len(p.GetNextPageToken()); n > 1024 {
				t.Errorf("a token has %d bytes, more than a request may have", n)
			}
			return p, namesOf(p.GetAccesses(), func(a *xunchav1.Access) string { return fmt.Sprint(a.History, a.Sequence) }), err
		}, false},
		{"ListSiteHistory", 1 + 1 + 201 + 201, &xunchav1.ListSiteHistoryRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := w.audit.ListSiteHistory(ctx, &xunchav1.ListSiteHistoryRequest{SiteId: string(first.ID), PageSize: size, PageToken: token, IncludeRecords: true})
			return p, namesOf(p.GetEntries(), func(e *xunchav1.HistoryEntry) string { return fmt.Sprint(e.History, e.Sequence) }), err
		}, true},
		{"ListAccountHistory", many + 2, &xunchav1.ListAccountHistoryRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := w.audit.ListAccountHistory(ctx, &xunchav1.ListAccountHistoryRequest{PageSize: size, PageToken: token, IncludeRecords: true})
			return p, namesOf(p.GetEntries(), func(e *xunchav1.HistoryEntry) string { return fmt.Sprint(e.Sequence) }), err
		}, false},
		{"ListAccounts", many + 2, &xunchav1.ListAccountsRequest{}, func(size int32, token string) (proto.Message, []string, error) {
			p, err := people.ListAccounts(root, &xunchav1.ListAccountsRequest{PageSize: size, PageToken: token})
			return p, namesOf(p.GetAccounts(), (*xunchav1.Account).GetUsername), err
		}, false},
	} {
		t.Run(list.name, func(t *testing.T) {
			most := int(pageSizes[list.request.ProtoReflect().Descriptor().Name()].most)
			seen := map[string]int{}
			largest, cut := 0, false
			for token := ""; ; {
				page, items, err := list.ask(int32(most), token)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range items {
					seen[name]++
				}
				fields := page.ProtoReflect()
				each := fields.Get(fields.Descriptor().Fields().ByNumber(1)).List()
				for i := range each.Len() {
					largest = max(largest, itemSize(each.Get(i).Message().Interface()))
				}
				if n := proto.Size(page); n > maxAnswer {
					t.Errorf("a page has %d bytes", n)
				}
				token = fields.Get(fields.Descriptor().Fields().ByName("next_page_token")).String()
				if token == "" {
					break
				}
				cut = cut || len(items) < most
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("%s comes %d times", name, n)
				}
			}
			if len(seen) != list.items {
				t.Errorf("got %d items, want %d", len(seen), list.items)
			}
			if largest > maxPageBytes/8 {
				t.Errorf("an item has %d bytes", largest)
			}
			if cut != list.cut || largest*most > maxPageBytes != list.cut {
				t.Errorf("pages are cut: %t, want %t; %d items of %d bytes are %d", cut, list.cut, most, largest, most*largest)
			}
		})
	}
	t.Run("ImportDivisions", func(t *testing.T) { // which ends all villages
		stream := must(w.roster.ImportDivisions(root))(t)
		for _, m := range []*xunchav1.ImportDivisionsRequest{
			{Part: &xunchav1.ImportDivisionsRequest_Header{Header: &xunchav1.ImportHeader{EffectiveDate: "2020-02-02"}}},
			{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{Row: 1, Code: "500001001", Name: "乡", Level: "township", ParentCode: "500001"}}},
		} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		answer := must(stream.CloseAndRecv())(t)
		if answer.DisplacedSiteCount != many || answer.OrphanedOrderCount != 201 {
			t.Errorf("got %d displaced sites and %d orphaned orders, want %d and 201", answer.DisplacedSiteCount, answer.OrphanedOrderCount, many)
		}
		if s, o := len(answer.DisplacedSites), len(answer.OrphanedOrders); s == 0 || s == many || o == 0 || o == 201 || proto.Size(answer) > maxAnswer {
			t.Errorf("the answer has %d of the sites, %d of the orders and %d bytes", s, o, proto.Size(answer))
		}
	})
}

func namesOf[M any](items []M, name func(M) string) (out []string) {
	for _, i := range items {
		out = append(out, name(i))
	}
	return out
}

// TestSparsePages ensures that a list of which the caller sees little comes to its end
// by pages that may be empty, none of which goes through all there is.
func TestSparsePages(t *testing.T) {
	w := newWorld(t)
	const others = 2*maxLooked + 10
	w.put(t, ledger.Accounts, accounts.KindCreated, others, func(i int) any {
		return map[string]any{
			"account_id": uuid.NewString(), "username": fmt.Sprintf("m%06d", i), "role": accounts.Auditor, "division_codes": []string{"511603"},
		}
	})
	for _, name := range []string{"a.root", "m005500", "z.root"} {
		w.create(t, name+".here", accounts.Admin, "511602")
	}
	ctx := with(t.Context(), w.signIn(t, "a.root.here"))
	people := xunchav1.NewAccountServiceClient(w.conn)
	var pages [][]string
	for token := ""; ; {
		p := must(people.ListAccounts(ctx, &xunchav1.ListAccountsRequest{PageToken: token}))(t)
		pages = append(pages, namesOf(p.Accounts, (*xunchav1.Account).GetUsername))
		if token = p.NextPageToken; token == "" {
			break
		}
	}
	if got, want := fmt.Sprint(pages), "[[a.root.here] [m005500.here] [z.root.here]]"; got != want {
		t.Errorf("got the pages %s, want %s", got, want)
	}
}

// TestOrdersInForce ensures that a list of the orders in force has all of them, however
// long ago they began, and no other.
func TestOrdersInForce(t *testing.T) {
	w := newWorld(t)
	begin := w.clock()
	issue := func(number string, start time.Time, length time.Duration) {
		t.Helper()
		o := w.newOrder(number)
		o.StartTime, o.EndTime = timestamppb.New(start), timestamppb.New(start.Add(length))
		must(w.roster.CreateClosureOrder(t.Context(), &xunchav1.CreateClosureOrderRequest{ClosureOrder: o}))(t)
	}
	day := 24 * time.Hour
	issue("short", begin, day)
	issue("longest", begin, sites.MaxOrderLength)
	issue("later", begin.Add(10*day), 60*day)
	issue("last", begin.Add(100*day), day)
	for at, want := range map[time.Duration]string{
		0:                        "short longest 1",
		20 * day:                 "longest later 1",
		89 * day:                 "longest",
		sites.MaxOrderLength - 1: "longest",
		sites.MaxOrderLength:     "",
		100 * day:                "last",
	} {
		var got []string
		for token := ""; ; {
			p := must(w.roster.ListClosureOrders(t.Context(), &xunchav1.ListClosureOrdersRequest{
				InForceTime: timestamppb.New(begin.Add(at)), PageSize: 1, PageToken: token,
			}))(t)
			got = append(got, namesOf(p.ClosureOrders, (*xunchav1.ClosureOrder).GetNumber)...)
			if token = p.NextPageToken; token == "" {
				break
			}
		}
		slices.Sort(got)
		wanted := strings.Fields(want)
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			t.Errorf("%v after the first: got %v, want %v", at, got, wanted)
		}
	}
}
