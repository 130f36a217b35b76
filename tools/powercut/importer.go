package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
)

const (
	cityCode     = "511600"
	countyCode   = "511681"
	townshipCode = countyCode + "001"
	// visitedSites is how many sites are visited, and tableSites how many each table of
	// sites adds that nobody visits.
	visitedSites, tableSites = 12, 40
	// effectiveDate is the first day of all tables.
	effectiveDate = "2020-01-01"
	orderNumber   = "powercut-1"
)

// An importer imports one table after the other.
type importer struct {
	token func() string
	// withCity tells that there is no city yet.
	withCity bool
	prepared int  // how many of the first two tables are imported
	idle     bool // it imports no others
	villages int
	made     int
	current  *tableImport
}

// village returns the code of a village.
func village(n int) string { return fmt.Sprintf("%s%03d", townshipCode, n) }

// divisions returns a table with one village more than the last.
func (m *importer) divisions() *tableImport {
	m.villages++
	t := &tableImport{name: fmt.Sprintf("divisions %d", m.villages)}
	add := func(code, name, level, parent string) {
		t.divisions = append(t.divisions, &xunchav1.DivisionRow{Row: int32(len(t.divisions) + 2), Code: code, Name: name, Level: level, ParentCode: parent})
	}
	if m.withCity {
		add(cityCode, "广安市", "city", "")
	}
	add(countyCode, "华蓥市", "county", cityCode)
	add(townshipCode, "双河街道", "township", countyCode)
	for n := range m.villages {
		add(village(n+1), fmt.Sprintf("第%d社区", n+1), "village", townshipCode)
	}
	return t
}

// sites returns a table of so many sites whose registration numbers begin with a prefix.
func (m *importer) sites(prefix string, n int) *tableImport {
	t := &tableImport{name: "sites " + prefix}
	for i := range n {
		t.sites = append(t.sites, &xunchav1.SiteRow{
			Row: int32(i + 2), RegistrationNo: fmt.Sprintf("%s-%03d", prefix, i), Name: fmt.Sprintf("样例 %s-%d", prefix, i),
			DivisionCode: village(1 + i%m.villages), RegisteredOn: effectiveDate,
		})
	}
	return t
}

// The prefix of the sites that are visited.
const visitedPrefix = "V"

// prepare imports what the visits need, and puts an order in force. It may be repeated
// until it succeeds.
func (m *importer) prepare(ctx context.Context, b *book, s services) error {
	if m.prepared == 0 {
		if err := m.send(ctx, b, s, m.divisions); err != nil {
			return err
		}
		m.prepared++
	}
	if m.prepared == 1 {
		if err := m.send(ctx, b, s, func() *tableImport { return m.sites(visitedPrefix, visitedSites) }); err != nil {
			return err
		}
		m.prepared++
	}
	if b.siteIDs != nil {
		return nil
	}
	if err := m.issue(ctx, s); err != nil {
		return err
	}
	all, err := listSites(ctx, m.token(), s, countyCode)
	if err != nil {
		return err
	}
	var ids []string
	for _, site := range all {
		if strings.HasPrefix(site.RegistrationNo, visitedPrefix+"-") {
			ids = append(ids, site.SiteId)
		}
	}
	if len(ids) != visitedSites {
		return faultf("%d sites are on the roster, and %d were acknowledged", len(ids), visitedSites)
	}
	b.note(func() { b.siteIDs = ids })
	return nil
}

// issue puts the closure order in force, unless it is.
func (m *importer) issue(ctx context.Context, s services) error {
	start := time.Now().Add(-time.Hour)
	_, err := once(ctx, m.token(), s.roster.CreateClosureOrder, &xunchav1.CreateClosureOrderRequest{ClosureOrder: &xunchav1.ClosureOrder{
		Number: orderNumber, Title: "t", IssuingAuthority: "a", LegalBasis: "b", DivisionCodes: []string{countyCode},
		StartTime: timestamppb.New(start), EndTime: timestamppb.New(start.Add(48 * time.Hour)), InspectionInterval: durationpb.New(24 * time.Hour),
	}})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return whatCame(err, "the closure order")
	}
	return nil
}

// listSites returns the sites of a division.
func listSites(ctx context.Context, token string, s services, division string) (out []*xunchav1.Site, err error) {
	for page := ""; ; {
		answer, err := once(ctx, token, s.roster.ListSites, &xunchav1.ListSitesRequest{DivisionCode: division, PageSize: 1000, PageToken: page})
		if err != nil {
			return nil, whatCame(err, "the list of sites")
		}
		out = append(out, answer.Sites...)
		if page = answer.NextPageToken; page == "" {
			return out, nil
		}
	}
}

// work imports tables until ctx ends.
func (m *importer) work(ctx context.Context, b *book, s services) error {
	for ctx.Err() == nil && !m.idle {
		err := m.send(ctx, b, s, func() *tableImport {
			m.made++
			if m.made%2 == 0 {
				return m.divisions()
			}
			return m.sites(fmt.Sprintf("T%d", m.made), tableSites)
		})
		if err != nil {
			if unanswered(err) {
				return nil
			}
			return err
		}
	}
	return nil
}

// settle has the table that is under way acknowledged.
func (m *importer) settle(ctx context.Context, b *book, s services) error {
	if m.current == nil {
		return nil
	}
	return m.send(ctx, b, s, nil)
}

// send imports the current table, or else the next.
func (m *importer) send(ctx context.Context, b *book, s services, next func() *tableImport) error {
	if m.current == nil {
		m.current = next()
		b.note(func() { b.tables = append(b.tables, m.current) })
	}
	ctx, cancel := context.WithTimeout(as(ctx, m.token()), callTimeout)
	defer cancel()
	t := m.current
	header := &xunchav1.ImportHeader{EffectiveDate: effectiveDate, Source: t.name}
	var revision int64
	if t.divisions != nil {
		answer, err := stream(ctx, s.roster.ImportDivisions,
			&xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Header{Header: header}},
			t.divisions, func(r *xunchav1.DivisionRow) *xunchav1.ImportDivisionsRequest {
				return &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: r}}
			})
		if err != nil {
			return whatCame(err, "the import of %s", t.name)
		}
		revision = answer.Revision
	} else {
		answer, err := stream(ctx, s.roster.ImportSites,
			&xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Header{Header: header}},
			t.sites, func(r *xunchav1.SiteRow) *xunchav1.ImportSitesRequest {
				return &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: r}}
			})
		if err != nil {
			return whatCame(err, "the import of %s", t.name)
		}
		revision = answer.Revision
	}
	b.record(func() { t.done, t.revision = true, revision })
	m.current = nil
	return nil
}

// stream sends a header and rows, and returns the answer.
func stream[Q, R, A any](ctx context.Context, begin func(context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[Q, A], error), header *Q, rows []R, message func(R) *Q) (*A, error) {
	call, err := begin(ctx)
	if err != nil {
		return nil, err
	}
	err = call.Send(header)
	for i := 0; err == nil && i < len(rows); i++ {
		err = call.Send(message(rows[i]))
	}
	return call.CloseAndRecv() // and, after an error of Send, why
}
