package rpc

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

type rosterService struct {
	xunchav1.UnimplementedRosterServiceServer
	config  Config
	imports *importSlots
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
