package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"sort"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

type rosterService struct {
	xunchav1.UnimplementedRosterServiceServer
	config Config
}

// asOf reads a moment that is now where it is absent.
func (s *rosterService) asOf(t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return s.config.Now(), nil
	}
	return timeOf("as_of_time", t)
}

func (s *rosterService) ListDivisions(ctx context.Context, req *xunchav1.ListDivisionsRequest) (*xunchav1.ListDivisionsResponse, error) {
	at, err := s.asOf(req.AsOfTime)
	if err != nil {
		return nil, err
	}
	r := s.config.Roster.Roster()
	parent := sites.DivisionCode(req.ParentCode)
	if parent != "" {
		if _, err := r.Division(parent, at); err != nil {
			return nil, &sites.FieldError{Field: "parent_code", Err: err}
		}
	}
	var cursor struct {
		After sites.DivisionCode `json:"a"`
		At    time.Time          `json:"t,omitzero"`
	}
	query := queryOf(req)
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	if at, err = resumeAt(req.AsOfTime, &cursor.At, at); err != nil {
		return nil, err
	}
	list := r.ChildrenAfter(parent, cursor.After, at)
	if sc := scopeOf(ctx); parent == "" && !sc.all() {
		all := sc.tops(r, at)
		list = slices.Values(all[sort.Search(len(all), func(i int) bool { return all[i].Code > cursor.After }):])
	}
	out, p := &xunchav1.ListDivisionsResponse{}, page[*xunchav1.Division]{size: pageSize(req)}
	for d := range list {
		if !p.offer(true, func() *xunchav1.Division { return fromDivision(d) }) {
			out.NextPageToken, err = pageToken(cursor, query...)
			break
		}
		cursor.After = d.Code
	}
	out.Divisions = p.items
	return out, err
}

func (s *rosterService) GetDivision(_ context.Context, req *xunchav1.GetDivisionRequest) (*xunchav1.GetDivisionResponse, error) {
	at, err := s.asOf(req.AsOfTime)
	if err != nil {
		return nil, err
	}
	r := s.config.Roster.Roster()
	d, err := r.Division(sites.DivisionCode(req.Code), at)
	if err != nil {
		return nil, &sites.FieldError{Field: "code", Err: err}
	}
	out := &xunchav1.GetDivisionResponse{Division: fromDivision(d)}
	for _, code := range r.Path(d.Code, at)[1:] {
		above, err := r.LastDivision(code, at)
		if err != nil {
			return nil, err
		}
		out.Ancestors = append(out.Ancestors, fromDivision(above))
	}
	return out, nil
}

// An importRequest is a message of either import.
type importRequest[R any] interface {
	GetHeader() *xunchav1.ImportHeader
	GetRow() R
}

// maxImport is how many bytes the rows of one import can have, which are held in
// memory until all are there.
const maxImport = 256 << 20

// receiveImport reads an import's stream: one header, then rows.
func receiveImport[Req importRequest[R], R interface {
	comparable
	proto.Message
}, Row any](recv func() (Req, error), read func(R) Row) (header *xunchav1.ImportHeader, rows []Row, err error) {
	var none R
	size := 0
	for {
		req, err := recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		h, row := req.GetHeader(), req.GetRow()
		switch {
		case h != nil && header == nil && len(rows) == 0:
			header = h
		case h != nil:
			return nil, nil, sites.Invalid("header", "must come first, and once")
		case header == nil:
			return nil, nil, &sites.FieldError{Field: "header", Err: fmt.Errorf("%w: it comes before the rows", sites.ErrMissing)}
		case row != none && len(rows) == sites.MaxImportRows:
			return nil, nil, &sites.FieldError{Field: "row", Err: fmt.Errorf("%w: an import has at most %d rows", sites.ErrTooLong, sites.MaxImportRows)}
		case row != none:
			if size += proto.Size(row); size > maxImport {
				return nil, nil, &sites.FieldError{Field: "row", Err: fmt.Errorf("%w: the rows of an import are at most %d MiB", errTooLarge, maxImport>>20)}
			}
			rows = append(rows, read(row))
		}
	}
	if header == nil {
		return nil, nil, &sites.FieldError{Field: "header", Err: sites.ErrMissing}
	}
	return header, rows, nil
}

func (s *rosterService) ImportDivisions(stream grpc.ClientStreamingServer[xunchav1.ImportDivisionsRequest, xunchav1.ImportDivisionsResponse]) error {
	rows, err := s.importDivisions(stream)
	giveBack(rows)
	return err
}

// importDivisions returns how many rows the import has.
func (s *rosterService) importDivisions(stream grpc.ClientStreamingServer[xunchav1.ImportDivisionsRequest, xunchav1.ImportDivisionsResponse]) (n int, err error) {
	header, rows, err := receiveImport(stream.Recv, func(r *xunchav1.DivisionRow) sites.DivisionRow {
		return sites.DivisionRow{Row: int(r.Row), Code: r.Code, Name: r.Name, Level: r.Level, Parent: r.ParentCode}
	})
	if err != nil {
		return len(rows), err
	}
	before := s.config.Roster.Roster().Revision()
	done, err := s.config.Roster.ImportDivisions(stream.Context(), requestBy(stream.Context(), header), toImport(header), rows)
	var rejected *sites.ImportError
	if header.DryRun && errors.As(err, &rejected) {
		return len(rows), stream.SendAndClose(&xunchav1.ImportDivisionsResponse{
			Problems: fromProblems(rejected.Problems), ProblemCount: int32(rejected.Total), Revision: int64(before),
		})
	}
	if err != nil {
		return len(rows), inImport(err)
	}
	out := &xunchav1.ImportDivisionsResponse{
		Changed: done.Changed, Revision: int64(done.Roster.Revision()),
		Created: int32(done.Created), Ended: int32(done.Ended), Renamed: int32(done.Renamed),
		Regrouped: int32(done.Regrouped), Unchanged: int32(done.Unchanged),
	}
	now, sc := s.config.Now(), scopeOf(stream.Context())
	if done.Changed { // so that a repeat shows all as it was then
		now = done.Roster.Time()
	}
	displaced := slices.DeleteFunc(done.Displaced, func(site *sites.Site) bool { return !sc.seesSite(site) })
	orders := slices.DeleteFunc(done.Orphaned, func(o *sites.ClosureOrder) bool { return !sc.seesOrder(o) })
	people, err := s.orphaned(sc, done.EndedCodes, now)
	if err != nil {
		return len(rows), err
	}
	out.DisplacedSites = first(3, displaced, func(site *sites.Site) *xunchav1.Site { return fromSite(site, now) })
	out.OrphanedOrders = first(3, orders, func(o *sites.ClosureOrder) *xunchav1.ClosureOrder {
		return fromOrder(o, done.Roster.OrderRevision(o.ID))
	})
	out.OrphanedAccounts = first(3, people, fromAccount)
	out.DisplacedSiteCount, out.OrphanedOrderCount = int32(len(displaced)), int32(len(orders))
	out.OrphanedAccountCount = int32(len(people))
	return len(rows), stream.SendAndClose(out)
}

// orphaned returns the accounts in use at a time that are bound to one of the divisions,
// which end, and that the caller keeps.
func (s *rosterService) orphaned(sc *scope, ended []sites.DivisionCode, at time.Time) (out []*accounts.Account, err error) {
	if len(ended) == 0 {
		return nil, nil
	}
	people, err := s.config.Accounts.Known(sc.ctx, at)
	if err != nil {
		return nil, err
	}
	ends := func(code sites.DivisionCode) bool { _, ok := slices.BinarySearch(ended, code); return ok }
	for a := range people {
		if a.Disabled.IsZero() && slices.ContainsFunc(a.Divisions, ends) && sc.seesAccount(a) {
			out = append(out, a)
		}
	}
	return out, nil
}

// manyRows is how many rows an import has, at least, after which memory is given back.
const manyRows = 50_000

// giveBack gives memory back to the system after an import of so many rows. A country's
// leaves hundreds of megabytes, which nobody needs until the next one.
func giveBack(rows int) {
	if rows >= manyRows {
		debug.FreeOSMemory()
	}
}

// first returns as many of the values, as messages, as fill one of so many parts of an
// answer.
func first[V any, M proto.Message](parts int, values []V, message func(V) M) []M {
	p := page[M]{size: len(values), used: maxPageBytes - maxPageBytes/parts}
	for _, v := range values {
		if !p.offer(true, func() M { return message(v) }) {
			break
		}
	}
	return p.items
}

func (s *rosterService) ImportSites(stream grpc.ClientStreamingServer[xunchav1.ImportSitesRequest, xunchav1.ImportSitesResponse]) error {
	rows, err := s.importSites(stream)
	giveBack(rows)
	return err
}

// importSites returns how many rows the import has.
func (s *rosterService) importSites(stream grpc.ClientStreamingServer[xunchav1.ImportSitesRequest, xunchav1.ImportSitesResponse]) (n int, err error) {
	header, rows, err := receiveImport(stream.Recv, func(r *xunchav1.SiteRow) sites.SiteRow {
		return sites.SiteRow{
			Row: int(r.Row), RegistrationNo: r.RegistrationNo, Name: r.Name, Division: r.DivisionCode, Address: r.Address,
			Latitude: r.Latitude, Longitude: r.Longitude, RegisteredOn: r.RegisteredOn, DeregisteredOn: r.DeregisteredOn,
		}
	})
	if err != nil {
		return len(rows), err
	}
	before := s.config.Roster.Roster().Revision()
	done, err := s.config.Roster.ImportSites(stream.Context(), requestBy(stream.Context(), header), toImport(header), rows)
	var rejected *sites.ImportError
	if header.DryRun && errors.As(err, &rejected) {
		return len(rows), stream.SendAndClose(&xunchav1.ImportSitesResponse{
			Problems: fromProblems(rejected.Problems), ProblemCount: int32(rejected.Total), Revision: int64(before),
		})
	}
	if err != nil {
		return len(rows), inImport(err)
	}
	return len(rows), stream.SendAndClose(&xunchav1.ImportSitesResponse{
		Changed: done.Changed, Revision: int64(done.Roster.Revision()),
		Registered: int32(done.Registered), Deregistered: int32(done.Deregistered), Moved: int32(done.Moved),
		Updated: int32(done.Updated), Unchanged: int32(done.Unchanged),
	})
}

func (s *rosterService) CreateSite(ctx context.Context, req *xunchav1.CreateSiteRequest) (*xunchav1.CreateSiteResponse, error) {
	site, err := toNewSite(req.Site)
	if err != nil {
		return nil, inField("site", err)
	}
	by := requestBy(ctx, req)
	made, err := s.config.Roster.CreateSite(ctx, by, site)
	if err != nil {
		return nil, inField("site", err)
	}
	return &xunchav1.CreateSiteResponse{Site: s.site(by, made)}, nil
}

// site writes a site as it stands after a change, or will stand if it is registered later.
func (s *rosterService) site(by sites.By, site *sites.Site) *xunchav1.Site {
	return fromSite(site, s.config.Roster.ShownAt(by, site))
}

// order writes a closure order as it stands after a change.
func (s *rosterService) order(by sites.By, o *sites.ClosureOrder) *xunchav1.ClosureOrder {
	return fromOrder(o, s.config.Roster.RevisionShown(by, o.ID))
}

func (s *rosterService) UpdateSite(ctx context.Context, req *xunchav1.UpdateSiteRequest) (*xunchav1.UpdateSiteResponse, error) {
	position, err := positionOf(req.Latitude, req.Longitude)
	if err != nil {
		return nil, err
	}
	by := requestBy(ctx, req)
	site, err := s.config.Roster.UpdateSite(ctx, by, sites.SiteID(lower(req.SiteId)), req.Etag,
		sites.SiteUpdate{Name: req.Name, Address: req.Address, Position: position})
	if err != nil {
		return nil, err
	}
	return &xunchav1.UpdateSiteResponse{Site: s.site(by, site)}, nil
}

func (s *rosterService) MoveSite(ctx context.Context, req *xunchav1.MoveSiteRequest) (*xunchav1.MoveSiteResponse, error) {
	to, err := toPlace(req)
	if err != nil {
		return nil, err
	}
	by := requestBy(ctx, req)
	site, err := s.config.Roster.MoveSite(ctx, by, sites.SiteID(lower(req.SiteId)), req.Etag, to)
	if err != nil {
		return nil, err
	}
	return &xunchav1.MoveSiteResponse{Site: s.site(by, site)}, nil
}

func (s *rosterService) DeregisterSite(ctx context.Context, req *xunchav1.DeregisterSiteRequest) (*xunchav1.DeregisterSiteResponse, error) {
	at, err := timeOf("effective_time", req.EffectiveTime)
	if err != nil {
		return nil, err
	}
	by := requestBy(ctx, req)
	site, err := s.config.Roster.DeregisterSite(ctx, by, sites.SiteID(lower(req.SiteId)), req.Etag, at)
	if err != nil {
		return nil, err
	}
	return &xunchav1.DeregisterSiteResponse{Site: s.site(by, site)}, nil
}

func (s *rosterService) GetSite(_ context.Context, req *xunchav1.GetSiteRequest) (*xunchav1.GetSiteResponse, error) {
	at, err := s.asOf(req.AsOfTime)
	if err != nil {
		return nil, err
	}
	site, err := s.config.Roster.Roster().Site(sites.SiteID(lower(req.SiteId)))
	if err != nil {
		return nil, &sites.FieldError{Field: "site_id", Err: err}
	}
	return &xunchav1.GetSiteResponse{Site: fromSite(site, at)}, nil
}

func (s *rosterService) ListSites(ctx context.Context, req *xunchav1.ListSitesRequest) (*xunchav1.ListSitesResponse, error) {
	at, err := s.asOf(req.AsOfTime)
	if err != nil {
		return nil, err
	}
	r := s.config.Roster.Roster()
	code := sites.DivisionCode(req.DivisionCode)
	if code != "" && len(r.Versions(code)) == 0 {
		return nil, &sites.FieldError{Field: "division_code", Err: fmt.Errorf("%s: %w", code, sites.ErrDivisionUnknown)}
	}
	var cursor struct {
		After string    `json:"a"`
		At    time.Time `json:"t,omitzero"`
	}
	query := queryOf(req)
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	if at, err = resumeAt(req.AsOfTime, &cursor.At, at); err != nil {
		return nil, err
	}
	sc := scopeOf(ctx)
	out, p := &xunchav1.ListSitesResponse{}, page[*xunchav1.Site]{size: pageSize(req)}
	for site := range r.SitesAfter(cursor.After, sc.listed(code)...) {
		shown := sc.seesSite(site) && site.RegisteredAt(at) && (code == "" || r.Within(site.PlaceAt(at).Division, code, at))
		if !p.offer(shown, func() *xunchav1.Site { return fromSite(site, at) }) {
			out.NextPageToken, err = pageToken(cursor, query...)
			break
		}
		cursor.After = site.RegistrationNo
	}
	out.Sites = p.items
	spend(ctx, p.looked)
	return out, err
}

func (s *rosterService) CreateClosureOrder(ctx context.Context, req *xunchav1.CreateClosureOrderRequest) (*xunchav1.CreateClosureOrderResponse, error) {
	order, err := toOrder(req.ClosureOrder)
	if err != nil {
		return nil, inField("closure_order", err)
	}
	by := requestBy(ctx, req)
	made, err := s.config.Roster.CreateOrder(ctx, by, order)
	if err != nil {
		return nil, inField("closure_order", err)
	}
	return &xunchav1.CreateClosureOrderResponse{ClosureOrder: s.order(by, made)}, nil
}

func (s *rosterService) EndClosureOrder(ctx context.Context, req *xunchav1.EndClosureOrderRequest) (*xunchav1.EndClosureOrderResponse, error) {
	end, err := timeOf("end_time", req.EndTime)
	if err != nil {
		return nil, err
	}
	by := requestBy(ctx, req)
	order, err := s.config.Roster.EndOrder(ctx, by, sites.OrderID(lower(req.ClosureOrderId)), end)
	if err != nil {
		return nil, err
	}
	return &xunchav1.EndClosureOrderResponse{ClosureOrder: s.order(by, order)}, nil
}

func (s *rosterService) GetClosureOrder(_ context.Context, req *xunchav1.GetClosureOrderRequest) (*xunchav1.GetClosureOrderResponse, error) {
	r := s.config.Roster.Roster()
	order, err := r.Order(sites.OrderID(lower(req.ClosureOrderId)))
	if err != nil {
		return nil, &sites.FieldError{Field: "closure_order_id", Err: err}
	}
	return &xunchav1.GetClosureOrderResponse{ClosureOrder: fromOrder(order, r.OrderRevision(order.ID))}, nil
}

func (s *rosterService) ListClosureOrders(ctx context.Context, req *xunchav1.ListClosureOrdersRequest) (*xunchav1.ListClosureOrdersResponse, error) {
	at, err := timeOf("in_force_time", req.InForceTime)
	if err != nil {
		return nil, err
	}
	var cursor struct {
		After sites.OrderID `json:"a"`
	}
	query := queryOf(req)
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	r := s.config.Roster.Roster()
	var after *sites.ClosureOrder
	if cursor.After != "" {
		if after, _, err = r.OrderEver(cursor.After); err != nil { // for it may have been taken back meanwhile
			return nil, errBadToken
		}
	}
	out, p := &xunchav1.ListClosureOrdersResponse{}, page[*xunchav1.ClosureOrder]{size: pageSize(req)}
	sc := scopeOf(ctx)
	for o := range r.OrdersBefore(after) {
		if !at.IsZero() && at.Sub(o.Start) > sites.MaxOrderLength {
			break // this one and all that began before it are over
		}
		shown := (at.IsZero() || o.InForce(at)) && sc.seesOrder(o)
		if !p.offer(shown, func() *xunchav1.ClosureOrder { return fromOrder(o, r.OrderRevision(o.ID)) }) {
			out.NextPageToken, err = pageToken(cursor, query...)
			break
		}
		cursor.After = o.ID
	}
	out.ClosureOrders = p.items
	spend(ctx, p.looked)
	return out, err
}
