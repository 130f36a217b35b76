package rpc

import (
	"bytes"
	"cmp"
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
	"xuncha/server/internal/table"
	"xuncha/sites"
)

// reasonsOf returns the reasons of the error's fields.
func reasonsOf(err error) (out []string) {
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range d.FieldViolations {
				out = append(out, v.Reason)
			}
		}
	}
	return out
}

// refusal spells what an error says of rights: its reason and first field, or ok where it
// says nothing of them.
func refusal(err error) string {
	if err == nil || status.Code(err) != codes.NotFound {
		return "ok"
	}
	var reason, field string
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.Reason
		case *errdetails.BadRequest:
			field = d.FieldViolations[0].Field
		}
	}
	return reason + " " + field
}

// problemOf spells which error a problem is.
func problemOf(p *xunchav1.ImportProblem) string {
	for err, name := range map[error]string{sites.ErrDivisionUnknown: "DIVISION_NOT_FOUND", sites.ErrRegistrationTaken: "REGISTRATION_NO_TAKEN"} {
		if strings.HasSuffix(p.Description, err.Error()) {
			return name
		}
	}
	return p.Description
}

// A border is a world with two counties, of which the caller keeps 511602. Some of it is
// planned to lie on the other side from a later day on.
type border struct {
	*world
	own, other area
	ctx        context.Context // of the county's administrator
	root       context.Context
	planned    time.Time
	// leaving is a township of the caller's county that is to go to the other one, with a
	// village of it, and coming the same from there.
	leaving, leavingVillage, coming, comingVillage string
	// site is the caller's; leavingSite and comingSite are planned to move.
	site, leavingSite, comingSite string
}

func newBorder(t *testing.T) *border {
	w := newWorld(t)
	areas := w.areas(t)
	b := &border{world: w, own: areas[0], other: areas[1], root: w.as(t, "root"), planned: time.Date(2020, 2, 10, 0, 0, 0, 0, shanghai)}
	w.create(t, "county", accounts.Admin, "511602")
	b.ctx = w.as(t, "county")
	var villages [2][]string
	townships := map[string]int{}
	for i, a := range []area{b.own, b.other} {
		for _, s := range must(w.roster.ListSites(b.root, &xunchav1.ListSitesRequest{DivisionCode: a.division}))(t).Sites {
			townships[s.DivisionCode[:9]]++
		}
		read(t, sampledata.Divisions2019(), table.Divisions, func(r table.Row) {
			if parent := r.Cells[3]; r.Cells[2] == "village" && townships[parent] == 0 && strings.HasPrefix(parent, a.division) {
				villages[i] = append(villages[i], r.Cells[0])
			}
		})
	}
	b.leavingVillage, b.comingVillage = villages[0][0], villages[1][0]
	b.leaving, b.coming = b.leavingVillage[:9], b.comingVillage[:9]
	var rows []*xunchav1.DivisionRow
	rows = append(rows, b.subtree(t, b.leaving, "511603")...)
	rows = append(rows, b.subtree(t, b.coming, "511602")...)
	if answer := must(b.importDivisionRows(b.root, b.planned.Format(time.DateOnly), false, rows...))(t); answer.Regrouped != 2 {
		t.Fatalf("got %v, want two townships regrouped", answer)
	}
	at := timestamppb.New(b.planned)
	b.site = b.register(t, b.own.village)
	b.leavingSite, b.comingSite = b.register(t, b.own.village), b.register(t, b.other.village)
	must(w.roster.MoveSite(b.root, &xunchav1.MoveSiteRequest{SiteId: b.leavingSite, DivisionCode: b.other.village, EffectiveTime: at}))(t)
	must(w.roster.MoveSite(b.root, &xunchav1.MoveSiteRequest{SiteId: b.comingSite, DivisionCode: b.own.village, EffectiveTime: at}))(t)
	return b
}

// subtree returns the rows of 2019 of the division and all below it, with another parent.
func (b *border) subtree(t *testing.T, code, parent string) (out []*xunchav1.DivisionRow) {
	t.Helper()
	in := map[string]bool{code: true}
	read(t, sampledata.Divisions2019(), table.Divisions, func(r table.Row) {
		if in[r.Cells[0]] || in[r.Cells[3]] {
			in[r.Cells[0]] = true
			row := &xunchav1.DivisionRow{Row: int32(r.Number), Code: r.Cells[0], Name: r.Cells[1], Level: r.Cells[2], ParentCode: r.Cells[3]}
			if row.Code == code {
				row.ParentCode = cmp.Or(parent, row.ParentCode)
			}
			out = append(out, row)
		}
	})
	return out
}

func (b *border) importDivisionRows(ctx context.Context, effective string, dryRun bool, rows ...*xunchav1.DivisionRow) (*xunchav1.ImportDivisionsResponse, error) {
	stream, err := b.roster.ImportDivisions(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Header{Header: &xunchav1.ImportHeader{EffectiveDate: effective, DryRun: dryRun}}})
	for _, r := range rows {
		if err == nil {
			err = stream.Send(&xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: r}})
		}
	}
	return stream.CloseAndRecv()
}

func (b *border) register(t *testing.T, village string) string {
	t.Helper()
	return must(b.roster.CreateSite(b.root, &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{RegistrationNo: uuid.NewString(), Name: "某", DivisionCode: village}}))(t).Site.SiteId
}

// TestBothCodes ensures that a change is judged by all that it names and leaves, now and
// when it takes effect.
func TestBothCodes(t *testing.T) {
	b := newBorder(t)
	before, after := timestamppb.New(b.planned.Add(-time.Hour)), timestamppb.New(b.planned.Add(time.Hour))
	create := func(village string, at *timestamppb.Timestamp) func() error {
		return func() error {
			_, err := b.roster.CreateSite(b.ctx, &xunchav1.CreateSiteRequest{Site: &xunchav1.Site{RegistrationNo: uuid.NewString(), Name: "某", DivisionCode: village, RegisteredTime: at}})
			return err
		}
	}
	update := func(site string) func() error {
		return func() error {
			_, err := b.roster.UpdateSite(b.ctx, &xunchav1.UpdateSiteRequest{SiteId: site, Etag: "stale", Name: proto.String("x")})
			return err
		}
	}
	move := func(site, village string, at *timestamppb.Timestamp) func() error {
		return func() error {
			_, err := b.roster.MoveSite(b.ctx, &xunchav1.MoveSiteRequest{SiteId: site, DivisionCode: village, EffectiveTime: at})
			return err
		}
	}
	strike := func(site string, at *timestamppb.Timestamp) func() error {
		return func() error {
			_, err := b.roster.DeregisterSite(b.ctx, &xunchav1.DeregisterSiteRequest{SiteId: site, Etag: "stale", EffectiveTime: at})
			return err
		}
	}
	issue := func(at *timestamppb.Timestamp, codes ...string) func() error {
		return func() error {
			o := b.newOrder(uuid.NewString())
			o.DivisionCodes, o.StartTime = codes, at
			_, err := b.roster.CreateClosureOrder(b.ctx, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o})
			return err
		}
	}
	end := func(codes ...string) func() error {
		o := b.newOrder(uuid.NewString())
		o.DivisionCodes = codes
		id := must(b.roster.CreateClosureOrder(b.root, &xunchav1.CreateClosureOrderRequest{ClosureOrder: o}))(t).ClosureOrder.ClosureOrderId
		return func() error {
			_, err := b.roster.EndClosureOrder(b.ctx, &xunchav1.EndClosureOrderRequest{ClosureOrderId: id, EndTime: timestamppb.New(b.planned.AddDate(0, 0, 1))})
			return err
		}
	}
	stranded := b.register(t, b.leavingVillage)
	const noSite, noDivision, noOrder = "SITE_NOT_FOUND site_id", "DIVISION_NOT_FOUND division_code", "CLOSURE_ORDER_NOT_FOUND closure_order_id"
	for _, c := range []struct {
		name string
		call func() error
		want string
	}{
		{"CreateSite own", create(b.own.village, nil), "ok"},
		{"CreateSite other", create(b.other.village, nil), "DIVISION_NOT_FOUND site.division_code"},
		{"CreateSite leaving, before", create(b.leavingVillage, before), "ok"},
		{"CreateSite leaving, after", create(b.leavingVillage, after), "DIVISION_NOT_FOUND site.division_code"},
		{"CreateSite coming", create(b.comingVillage, after), "DIVISION_NOT_FOUND site.division_code"},
		{"UpdateSite own", update(b.site), "ok"},
		{"UpdateSite other", update(b.other.site), noSite},
		{"UpdateSite leaving", update(b.leavingSite), noSite},
		{"UpdateSite coming", update(b.comingSite), noSite},
		{"MoveSite own to other", move(b.site, b.other.village, nil), noDivision},
		{"MoveSite other to own", move(b.other.site, b.own.village, nil), noSite},
		{"MoveSite leaving to own", move(b.leavingSite, b.own.village, timestamppb.New(b.planned.AddDate(0, 0, 1))), noSite},
		{"MoveSite own to leaving, after", move(b.site, b.leavingVillage, after), noDivision},
		{"MoveSite own to coming, after", move(b.site, b.comingVillage, after), noDivision},
		{"MoveSite own to leaving, before", move(b.site, b.leavingVillage, before), "ok"},
		{"DeregisterSite own", strike(b.own.site, nil), "ok"},
		{"DeregisterSite other", strike(b.other.site, nil), noSite},
		{"DeregisterSite leaving", strike(b.leavingSite, nil), noSite},
		{"DeregisterSite of a leaving township, before", strike(stranded, before), "ok"},
		{"DeregisterSite of a leaving township, after", strike(stranded, after), noSite},
		{"CreateClosureOrder own", issue(before, "511602"), "ok"},
		{"CreateClosureOrder own and other", issue(before, "511602", "511603"), "DIVISION_NOT_FOUND closure_order.division_codes[1]"},
		{"CreateClosureOrder parent", issue(before, "511600"), "DIVISION_NOT_FOUND closure_order.division_codes[0]"},
		{"CreateClosureOrder leaving, before", issue(before, b.leaving), "ok"},
		{"CreateClosureOrder leaving, after", issue(after, b.leaving), "DIVISION_NOT_FOUND closure_order.division_codes[0]"},
		{"EndClosureOrder own", end("511602"), "ok"},
		{"EndClosureOrder own and other", end("511602", "511603"), noOrder},
		{"EndClosureOrder parent", end("511600"), noOrder},
		{"EndClosureOrder leaving, after", end(b.leaving), noOrder},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := refusal(c.call()); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestBothCodesOfRows does the same of tables: each row that is not the caller's is a
// problem of its own, and nothing of the table is stored.
func TestBothCodesOfRows(t *testing.T) {
	b := newBorder(t)
	row := func(n int32, code, level, parent string) *xunchav1.DivisionRow {
		return &xunchav1.DivisionRow{Row: n, Code: code, Name: "新", Level: level, ParentCode: parent}
	}
	whole := func(code string) []*xunchav1.DivisionRow { return b.subtree(t, code, "") }
	stays := b.own.village[:9]
	for _, c := range []struct {
		name      string
		effective string
		rows      []*xunchav1.DivisionRow
		want      string
	}{
		{"own township", "2020-02-02", whole(stays), ""},
		{"own township to the other county", "2020-02-02", b.subtree(t, stays, "511603"), "parent_code DIVISION_NOT_FOUND"},
		{"other township", "2020-02-02", whole(b.other.village[:9]), "code DIVISION_NOT_FOUND"},
		{"other township to the own county", "2020-02-02", b.subtree(t, b.other.village[:9], "511602"), "code DIVISION_NOT_FOUND"},
		{"new township in the own county", "2020-02-02", []*xunchav1.DivisionRow{row(2, "511602999", "township", "511602")}, ""},
		{"new township and village", "2020-02-02", []*xunchav1.DivisionRow{row(2, "511602999", "township", "511602"), row(3, "511602999001", "village", "511602999")}, ""},
		{"new township in the other county", "2020-02-02", []*xunchav1.DivisionRow{row(2, "511602999", "township", "511603")}, "parent_code DIVISION_NOT_FOUND"},
		{"new county in the city", "2020-02-02", []*xunchav1.DivisionRow{row(2, "511604", "county", "511600")}, "parent_code DIVISION_NOT_FOUND"},
		{"new city", "2020-02-02", []*xunchav1.DivisionRow{row(2, "511700", "city", "")}, "code DIVISION_NOT_FOUND"},
		{"own village to the other county", "2020-02-02", []*xunchav1.DivisionRow{{Row: 2, Code: b.own.village, Name: "新", Level: "village", ParentCode: b.coming}}, "parent_code DIVISION_NOT_FOUND"},
		{"leaving township, once it has left", "2020-02-11", b.subtree(t, b.leaving, "511603"), "code DIVISION_NOT_FOUND"},
		{"leaving township, back once it has left", "2020-02-11", b.subtree(t, b.leaving, "511602"), "code DIVISION_NOT_FOUND"},
		{"own county, which ends the coming township", "2020-02-11", slices.DeleteFunc(whole("511602"), func(r *xunchav1.DivisionRow) bool {
			return r.Code == b.leaving || r.ParentCode == b.leaving
		}), "code DIVISION_NOT_FOUND"},
	} {
		t.Run(c.name, func(t *testing.T) {
			problems := func(dryRun bool) string {
				answer, err := b.importDivisionRows(b.ctx, c.effective, dryRun, c.rows...)
				if err != nil {
					return strings.Join(reasonsOf(err), " ")
				}
				var out []string
				for _, p := range answer.Problems {
					out = append(out, p.Column+" "+problemOf(p))
				}
				slices.Sort(out)
				return strings.Join(slices.Compact(out), ", ")
			}
			if got := problems(true); got != c.want {
				t.Errorf("got the problems %q, want %q", got, c.want)
			}
			if c.want != "" {
				if got := problems(false); !strings.Contains(got, "DIVISION_NOT_FOUND") {
					t.Errorf("it was stored, or refused for %q", got)
				}
			}
		})
	}
	site := func(n int32, no, village string) *xunchav1.ImportSitesRequest {
		return &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{Row: n, RegistrationNo: no, Name: "某", DivisionCode: village, RegisteredOn: "2019-12-31"}}}
	}
	number := func(id string) string {
		return must(b.roster.GetSite(b.root, &xunchav1.GetSiteRequest{SiteId: id}))(t).Site.RegistrationNo
	}
	stream := must(b.roster.ImportSites(b.ctx))(t)
	for _, m := range []*xunchav1.ImportSitesRequest{
		{Part: &xunchav1.ImportSitesRequest_Header{Header: &xunchav1.ImportHeader{DryRun: true, EffectiveDate: "2020-02-11"}}},
		site(2, "fine", b.own.village), site(3, number(b.site), b.own.village),
		site(4, "theirs", b.other.village), site(5, number(b.other.site), b.own.village),
		site(6, number(b.leavingSite), ""), site(7, number(b.comingSite), ""), site(8, number(b.site)+"x", b.leavingVillage), site(9, "none", "511602999999"),
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	var got bytes.Buffer
	for _, p := range must(stream.CloseAndRecv())(t).Problems {
		fmt.Fprintf(&got, "%d %s %s\n", p.Row, p.Column, problemOf(p))
	}
	if want := "4 division_code DIVISION_NOT_FOUND\n5 registration_no REGISTRATION_NO_TAKEN\n6 registration_no REGISTRATION_NO_TAKEN\n" +
		"7 registration_no REGISTRATION_NO_TAKEN\n8 division_code DIVISION_NOT_FOUND\n9 division_code DIVISION_NOT_FOUND\n"; got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}
