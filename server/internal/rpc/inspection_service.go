package rpc

import (
	"context"
	"math"
	"time"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

type inspectionService struct {
	xunchav1.UnimplementedInspectionServiceServer
	config Config
}

func (s *inspectionService) SubmitCheckIn(ctx context.Context, req *xunchav1.SubmitCheckInRequest) (*xunchav1.SubmitCheckInResponse, error) {
	clientTime, err := timeOf("client_time", req.ClientTime)
	if err != nil {
		return nil, err
	}
	checkIn, err := toCheckIn(req.CheckIn)
	if err != nil {
		return nil, inField("check_in", err)
	}
	stored, duplicate, err := s.config.Inspections.Submit(ctx, reportedBy(ctx, req.CheckIn.SiteId), checkIn, clientTime)
	if err != nil {
		return nil, inField("check_in", err)
	}
	if !duplicate { // of a new one no photo can have come
		receipt := fromReceipt(stored, nil, s.config.refused(ctx))
		return &xunchav1.SubmitCheckInResponse{Receipt: photosAs(req.CheckIn.Photos, receipt)}, nil
	}
	receipts, err := s.receipts(ctx, stored)
	if err != nil {
		return nil, err
	}
	receipts[0].Duplicate = true
	return &xunchav1.SubmitCheckInResponse{Receipt: photosAs(req.CheckIn.Photos, receipts[0])}, nil
}

// receipts returns the receipts of check-ins, with what has come of their photos.
func (s *inspectionService) receipts(ctx context.Context, stored ...*inspections.Stored) ([]*xunchav1.Receipt, error) {
	states, err := s.config.Photos.States(ctx, stored)
	if err != nil {
		return nil, err
	}
	out := make([]*xunchav1.Receipt, len(stored))
	for i, c := range stored {
		out[i] = fromReceipt(c, states[i], s.config.refused(ctx))
	}
	return out, nil
}

func (s *inspectionService) GetCheckIn(ctx context.Context, req *xunchav1.GetCheckInRequest) (*xunchav1.GetCheckInResponse, error) {
	stored, err := s.config.Inspections.Get(ctx, sites.SiteID(lower(req.SiteId)), inspections.CheckInID(lower(req.CheckInId)))
	if err != nil {
		return nil, err
	}
	receipts, err := s.receipts(ctx, stored)
	if err != nil {
		return nil, err
	}
	if err := s.config.Inspections.FindReused(ctx, stored); err != nil {
		return nil, err
	}
	return &xunchav1.GetCheckInResponse{CheckIn: fromCheckIn(stored, scopeOf(ctx).seesSiteNamed), Receipt: receipts[0]}, nil
}

// whose returns an error where the list is not of either a division or a site.
func whose(req *xunchav1.ListCheckInsRequest) error {
	switch {
	case req.DivisionCode == "" && req.SiteId == "":
		return sites.Missing("division_code", ": give either it or site_id")
	case req.DivisionCode != "" && req.SiteId != "":
		return sites.Invalid("division_code", "give either it or site_id, and not both")
	}
	return nil
}

func (s *inspectionService) ListCheckIns(ctx context.Context, req *xunchav1.ListCheckInsRequest) (*xunchav1.ListCheckInsResponse, error) {
	if err := whose(req); err != nil {
		return nil, err
	}
	question, err := s.config.question(sites.DivisionCode(req.DivisionCode), req.StartTime, req.EndTime, req.KnownTime)
	if err != nil {
		return nil, err
	}
	var cursor struct {
		coverage.VisitRef
		Day time.Time `json:",omitzero"`
	}
	query := queryOf(req)
	if err := readPageToken(req.PageToken, &cursor, query...); err != nil {
		return nil, err
	}
	if cursor.Sequence < 0 || cursor.Sequence > math.MaxUint32 {
		return nil, errBadToken
	}
	if err := s.config.resume(&question, req.StartTime, req.EndTime, &cursor.Day); err != nil {
		return nil, err
	}
	done, err := ask(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	filter := coverage.VisitFilter{
		Site: sites.SiteID(lower(req.SiteId)), Open: req.FoundOpen,
		VisitedLate: req.Flag == xunchav1.Flag_FLAG_VISITED_LATE, SyncedLate: req.Flag == xunchav1.Flag_FLAG_SYNCED_LATE,
	}
	for size := pageSize(req); ; {
		found, err := s.config.Inspections.List(ctx, question, filter, cursor.VisitRef, size)
		spend(ctx, int(found.Cost))
		if err != nil {
			return nil, err
		}
		out := &xunchav1.ListCheckInsResponse{AlteredCount: int32(found.Altered)}
		if out.Items, err = s.fitting(ctx, found.CheckIns); err != nil {
			return nil, err
		}
		if len(out.Items) < len(found.CheckIns) {
			size = len(out.Items)
			continue // with as many as fit, whose end is known then
		}
		if found.Next != (coverage.VisitRef{}) {
			cursor.VisitRef = found.Next
			if out.NextPageToken, err = pageToken(cursor, query...); err != nil {
				return nil, err
			}
		}
		return encoded(out) // as long as the question has its turn
	}
}

// fitting returns as many of the check-ins, from the first on, as fit on a page. Only those
// with dozens of photos are so large that not all of them do.
func (s *inspectionService) fitting(ctx context.Context, list []*inspections.Stored) ([]*xunchav1.CheckInItem, error) {
	receipts, err := s.receipts(ctx, list...)
	if err != nil {
		return nil, err
	}
	if err := s.config.Inspections.FindReused(ctx, list...); err != nil {
		return nil, err
	}
	p := page[*xunchav1.CheckInItem]{size: len(list)}
	for i, c := range list {
		if !p.offer(true, func() *xunchav1.CheckInItem {
			return &xunchav1.CheckInItem{CheckIn: fromCheckIn(c, scopeOf(ctx).seesSiteNamed), Receipt: receipts[i]}
		}) {
			break
		}
	}
	return p.items, nil
}
