package rpc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/table"
	"xuncha/sites"
)

// TestLevels holds that each level has the API's number of the same name.
func TestLevels(t *testing.T) {
	for _, l := range sites.Levels {
		if got, want := fromLevel(l).String(), "LEVEL_"+strings.ToUpper(l.String()); got != want {
			t.Errorf("a %s: got %s, want %s", l, got, want)
		}
	}
	if got, want := len(sites.Levels)+1, xunchav1.Level(0).Descriptor().Values().Len(); got != want {
		t.Errorf("the API has %d levels with the one that is not given, want %d", want, got)
	}
}

// divisionFields are the names of fields that hold the code of a division.
var divisionFields = []protoreflect.Name{"division_code", "division_codes", "parent_code", "code"}

// eachCode calls f with every field of the message that holds codes, also of the
// messages in it, which it fills where they are absent. It leaves out the rows of
// imports.
func eachCode(m protoreflect.Message, f func(protoreflect.Message, protoreflect.FieldDescriptor)) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		d := fields.Get(i)
		switch {
		case d.Kind() == protoreflect.StringKind && slices.Contains(divisionFields, d.Name()):
			f(m, d)
		case d.Kind() == protoreflect.MessageKind && d.ContainingOneof() == nil && !d.IsList() && !d.IsMap() && d.Message().ParentFile().Package() == "xuncha.v1":
			eachCode(m.Mutable(d).Message(), f)
		}
	}
}

// TestEveryCodeIsShortened ensures that each division code of each request is
// brought to its shortest form, and that the cells of imports stay as they are.
func TestEveryCodeIsShortened(t *testing.T) {
	const long, short = "511602000000", "511602"
	seen := 0
	for _, method := range methods() {
		request := must(protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName()))(t).New()
		eachCode(request, func(m protoreflect.Message, d protoreflect.FieldDescriptor) {
			if d.IsList() {
				list := m.Mutable(d).List()
				list.Append(protoreflect.ValueOfString(long))
				list.Append(protoreflect.ValueOfString("511602001000"))
				return
			}
			m.Set(d, protoreflect.ValueOfString(long))
		})
		shortenCodes(request.Interface())
		eachCode(request, func(m protoreflect.Message, d protoreflect.FieldDescriptor) {
			seen++
			got := fmt.Sprint(m.Get(d).Interface())
			want := short
			if d.IsList() {
				list := m.Get(d).List()
				got, want = list.Get(0).String()+" "+list.Get(1).String(), short+" 511602001"
			}
			if got != want {
				t.Errorf("%s, %s: got %s, want %s", method.Name(), d.FullName(), got, want)
			}
		})
	}
	if seen < 12 {
		t.Errorf("only %d codes were found", seen)
	}
	row := &xunchav1.DivisionRow{Code: long, ParentCode: long}
	shortenCodes(&xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: row}})
	if row.Code != long || row.ParentCode != long {
		t.Errorf("a row of an import became %v", row)
	}
}

// TestCodesOf12Digits ensures that whoever asks with the 12 digits of the bureau
// of statistics is answered as by the shortest form.
func TestCodesOf12Digits(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.submit(t, w.checkIn(0))

	county := must(w.roster.GetDivision(ctx, &xunchav1.GetDivisionRequest{Code: "511602000000"}))(t)
	if county.Division.Code != "511602" || county.Division.Level != xunchav1.Level_LEVEL_COUNTY || county.Ancestors[0].Code != "511600" {
		t.Errorf("got %v, want the county 511602", county)
	}
	same := func(name string, ask func(code string) (proto.Message, error)) {
		t.Helper()
		short, long := must(ask("511602"))(t), must(ask("511602000000"))(t)
		if !proto.Equal(short, long) || proto.Size(short) == 0 {
			t.Errorf("%s: got %v for 12 digits, want %v", name, long, short)
		}
	}
	same("ListDivisions", func(code string) (proto.Message, error) {
		return w.roster.ListDivisions(ctx, &xunchav1.ListDivisionsRequest{ParentCode: code})
	})
	same("ListSites", func(code string) (proto.Message, error) {
		return w.roster.ListSites(ctx, &xunchav1.ListSitesRequest{DivisionCode: code, PageSize: 2})
	})
	same("GetCoverage", func(code string) (proto.Message, error) {
		return w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: code, Depth: 2})
	})
	same("ListDueSites", func(code string) (proto.Message, error) {
		return w.coverage.ListDueSites(ctx, &xunchav1.ListDueSitesRequest{DivisionCode: code})
	})
	same("ListCheckIns", func(code string) (proto.Message, error) {
		return w.checkIns.ListCheckIns(ctx, &xunchav1.ListCheckInsRequest{DivisionCode: code})
	})

	o := w.newOrder("12 digits")
	o.DivisionCodes = []string{"511602000000", "511603001000"}
	made := must(w.roster.CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o}))(t).ClosureOrder
	if want := []string{"511602", "511603001"}; !slices.Equal(made.DivisionCodes, want) {
		t.Errorf("an order over %v, want %v", made.DivisionCodes, want)
	}
	o = w.newOrder("the same twice")
	o.DivisionCodes = []string{"511602", "511602000000"}
	_, err := w.roster.CreateClosureOrder(ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o})
	wantStatus(t, err, codes.InvalidArgument, "INVALID_FIELD", "closure_order.division_codes[1]")

	site := &xunchav1.Site{RegistrationNo: uuid.NewString(), Name: "某", DivisionCode: "511602001000"}
	_, err = w.roster.CreateSite(ctx, &xunchav1.CreateSiteRequest{Site: site})
	wantStatus(t, err, codes.InvalidArgument, "NOT_A_VILLAGE", "site.division_code")
	_, err = w.roster.MoveSite(ctx, &xunchav1.MoveSiteRequest{SiteId: w.sites[0].SiteId, DivisionCode: "511602001000"})
	wantStatus(t, err, codes.InvalidArgument, "NOT_A_VILLAGE", "division_code")

	w.create(t, "root", accounts.Admin, "511600000000")
	w.create(t, "auditor", accounts.Auditor, "511602000000")
	ctx = with(t.Context(), w.signIn(t, "root"))
	people := xunchav1.NewAccountServiceClient(w.conn)
	head := must(people.CreateAccount(ctx, &xunchav1.CreateAccountRequest{Account: &xunchav1.Account{
		Username: "head", Role: xunchav1.Role_ROLE_HEAD, DivisionCodes: []string{"511602000000"},
	}}))(t).Account
	if !slices.Equal(head.DivisionCodes, []string{"511602"}) {
		t.Errorf("an account of %v, want 511602", head.DivisionCodes)
	}
	head = must(people.UpdateAccount(ctx, &xunchav1.UpdateAccountRequest{AccountId: head.AccountId, DivisionCodes: []string{"511602001000"}}))(t).Account
	if !slices.Equal(head.DivisionCodes, []string{"511602001"}) {
		t.Errorf("an account of %v, want 511602001", head.DivisionCodes)
	}
	ctx = with(t.Context(), w.signIn(t, "auditor"))
	must(w.audit.ListSiteHistory(ctx, &xunchav1.ListSiteHistoryRequest{SiteId: w.sites[0].SiteId}))(t)
	for _, code := range []string{"511602", "511602000000"} {
		if got := must(w.audit.ListAccesses(ctx, &xunchav1.ListAccessesRequest{DivisionCode: code}))(t); len(got.Accesses) != 1 {
			t.Errorf("accesses in %s: got %v, want one", code, got)
		}
	}
}

// importAs imports a table of divisions, CSV without a header, as the caller of
// the context.
func (w *world) importAs(ctx context.Context, t testing.TB, csv string) (*xunchav1.ImportDivisionsResponse, error) {
	t.Helper()
	stream := must(w.roster.ImportDivisions(ctx))(t)
	rows := []*xunchav1.ImportDivisionsRequest{{Part: &xunchav1.ImportDivisionsRequest_Header{Header: &xunchav1.ImportHeader{EffectiveDate: "2019-10-31"}}}}
	read(t, []byte("code,name,level,parent_code\n"+csv), table.Divisions, func(r table.Row) {
		rows = append(rows, &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{
			Row: int32(r.Number), Code: r.Cells[0], Name: r.Cells[1], Level: r.Cells[2], ParentCode: r.Cells[3],
		}}})
	})
	for _, r := range rows {
		if stream.Send(r) != nil {
			break
		}
	}
	return stream.CloseAndRecv()
}

const sichuan = `510000000000,四川省,省,100000000000
511600000000,广安市,市,510000000000
511602000000,广安区,区,511600000000
511602001000,浓洄街道,街道,511602000000
511602001001,翠屏路社区居委会,社区,511602001000
`

// TestNation goes from an empty server to reports of a whole nation: an account
// bound to it sees all, and one that is bound to a province sees that.
func TestNation(t *testing.T) {
	w := newServer(t)
	// The account comes before the table, as docs/accounts.md says.
	w.create(t, "root", accounts.Admin, "100000")
	root := with(t.Context(), w.signIn(t, "root"))
	must(w.importAs(root, t, "100000,中华人民共和国,国家,\n"+sichuan+`
110000000000,北京市,直辖市,100000000000
110101000000,东城区,市辖区,110000000000
110101001000,东华门街道,街道,110101000000
110101001001,多福巷社区居委会,社区,110101001000
`))(t)

	for no, village := range map[string]string{"SC-1": "511602001001", "BJ-1": "110101001001"} {
		must(w.roster.CreateSite(root, &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{RegistrationNo: no, Name: "样例", DivisionCode: village}}))(t)
	}
	o := w.newOrder("1")
	o.DivisionCodes = []string{"100000000000"}
	order := must(w.roster.CreateClosureOrder(root, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o}))(t).ClosureOrder
	w.advance(time.Hour)

	for name, division := range map[string]string{"nation": "100000", "sichuan": "510000", "beijing": "110000000000"} {
		w.create(t, name, accounts.Head, division)
	}
	for _, test := range []struct {
		name, top string
		sees      []string // the divisions that it sees, of those below
		sites     int
		depth     int // how many levels its report has below its top
	}{
		{"nation", "100000", []string{"100000", "510000", "511600", "511602001001", "110000", "110101"}, 2, 5},
		{"sichuan", "510000", []string{"510000", "511600", "511602001001"}, 1, 4},
		{"beijing", "110000", []string{"110000", "110101"}, 1, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := with(t.Context(), w.signIn(t, test.name))
			list := must(w.roster.ListDivisions(ctx, &xunchav1.ListDivisionsRequest{}))(t).Divisions
			if len(list) != 1 || list[0].Code != test.top {
				t.Errorf("at the top: got %v, want %s alone", list, test.top)
			}
			for _, code := range []string{"100000", "510000", "511600", "511602001001", "110000", "110101"} {
				_, err := w.roster.GetDivision(ctx, &xunchav1.GetDivisionRequest{Code: code})
				_, asked := w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: code})
				if slices.Contains(test.sees, code) {
					if err != nil || asked != nil {
						t.Errorf("%s: got %v and %v, want it seen", code, err, asked)
					}
					continue
				}
				wantStatus(t, err, codes.NotFound, "DIVISION_NOT_FOUND", "code")
				wantStatus(t, asked, codes.NotFound, "DIVISION_NOT_FOUND", "division_code")
			}
			if got := must(w.roster.ListSites(ctx, &xunchav1.ListSitesRequest{}))(t).Sites; len(got) != test.sites {
				t.Errorf("got %d sites, want %d", len(got), test.sites)
			}
			if _, err := w.roster.GetClosureOrder(ctx, &xunchav1.GetClosureOrderRequest{ClosureOrderId: order.ClosureOrderId}); err != nil {
				t.Errorf("the nation's order: %v", err)
			}
			report := must(w.coverage.GetCoverage(ctx, &xunchav1.GetCoverageRequest{DivisionCode: test.top, Depth: 5}))(t)
			if report.Row.SitesDue != int64(test.sites) {
				t.Errorf("%d sites are due, want %d", report.Row.SitesDue, test.sites)
			}
			depth := 0
			for at := report; len(at.Children) > 0; at = at.Children[len(at.Children)-1] {
				depth++
			}
			if depth != test.depth {
				t.Errorf("the report has %d levels below its top, want %d", depth, test.depth)
			}
		})
	}
	_, err := w.coverage.GetCoverage(with(t.Context(), w.signIn(t, "nation")), &xunchav1.GetCoverageRequest{DivisionCode: "100000", Depth: 6})
	wantStatus(t, err, codes.InvalidArgument, "OUT_OF_RANGE", "depth")

	// An administrator of a province keeps its table, and no other's.
	w.create(t, "sichuan.admin", accounts.Admin, "510000")
	admin := with(t.Context(), w.signIn(t, "sichuan.admin"))
	if n, err := w.importAs(admin, t, sichuan); err != nil || n.Unchanged != 5 {
		t.Errorf("its own table: got %v, %v; want 5 unchanged", n, err)
	}
	for code, want := range map[string]string{"511602001000": "NOT_A_VILLAGE", "110101001000": "DIVISION_NOT_FOUND"} {
		stream := must(w.roster.ImportSites(admin))(t)
		for _, m := range []*xunchav1.ImportSitesRequest{
			{Part: &xunchav1.ImportSitesRequest_Header{Header: &xunchav1.ImportHeader{}}},
			{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{Row: 2, RegistrationNo: "2", Name: "样例", DivisionCode: code, RegisteredOn: "2020-01-01"}}},
		} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		_, err := stream.CloseAndRecv()
		wantStatus(t, err, codes.InvalidArgument, "IMPORT_REJECTED", "row[2].division_code")
		if got := reasonsOf(err); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: got %v, want %s", code, got, want)
		}
	}
	for name, table := range map[string]string{
		"the nation":                  "100000,中华人民共和国,国家,\n" + sichuan,
		"a county of Beijing":         sichuan + "110101000000,东城区,市辖区,510000\n",
		"a province beside its own":   "450000000000,广西壮族自治区,自治区,100000000000\n",
		"a county new in Beijing":     "110102000000,西城区,市辖区,110000000000\n",
		"a root of which nobody knew": "650000,新疆维吾尔自治区,自治区,\n",
	} {
		if _, err := w.importAs(admin, t, table); err == nil {
			t.Errorf("%s was imported by an administrator of Sichuan", name)
		} else {
			wantStatus(t, err, codes.InvalidArgument, "IMPORT_REJECTED", "")
			if got := reasonsOf(err); !slices.Equal(slices.Compact(got), []string{"DIVISION_NOT_FOUND"}) {
				t.Errorf("%s: got %v, want DIVISION_NOT_FOUND", name, got)
			}
		}
	}
}

// TestSeveralRoots ensures that a deployment can have several divisions at the
// top, and that all of them are listed.
func TestSeveralRoots(t *testing.T) {
	w := newServer(t)
	must(w.importAs(t.Context(), t, "511600,广安市,市,\n511602,广安区,区,511600\n441900,东莞市,市,\n441900003,东城街道,街道,441900\n420000,湖北省,省,\n"))(t)
	var got []string
	for _, d := range must(w.roster.ListDivisions(t.Context(), &xunchav1.ListDivisionsRequest{}))(t).Divisions {
		got = append(got, fmt.Sprint(d.Code, " ", d.Level, " ", d.ParentCode))
	}
	if want := []string{"420000 LEVEL_PROVINCE ", "441900 LEVEL_CITY ", "511600 LEVEL_CITY "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	street := must(w.roster.GetDivision(t.Context(), &xunchav1.GetDivisionRequest{Code: "441900003000"}))(t)
	if len(street.Ancestors) != 1 || street.Ancestors[0].Code != "441900" {
		t.Errorf("got %v, want the street right below its city", street)
	}
}
