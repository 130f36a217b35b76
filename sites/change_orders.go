package sites

import (
	"context"
	"fmt"
	"slices"
	"time"

	"xuncha/ledger"
)

// CreateOrder issues a closure order and returns it. Its ID and PlannedEnd are
// set here.
func (s *Service) CreateOrder(ctx context.Context, by By, o ClosureOrder) (*ClosureOrder, error) {
	by = by.saying("CreateClosureOrder", func(d *ledger.Digester) {
		d.Add(o.Number, o.Title, o.IssuingAuthority, o.LegalBasis, momentText(o.Start), momentText(o.End), time.Duration(o.Interval).String())
		for _, code := range o.Divisions {
			d.Add(string(code.Shortest()))
		}
	})
	o.ID = OrderID(s.NewID())
	o.Start, o.End = o.Start.UTC(), o.End.UTC()
	o.PlannedEnd = o.End
	o.Divisions = slices.Clone(o.Divisions)
	r, again, err := s.change(ctx, by, func(r *Roster) (*decision, error) {
		if err := JoinFaults(s.rightsOn(r, by).inAll(o.Divisions, o.Start), s.checkOrder(r, &o)); err != nil {
			return nil, err
		}
		return &decision{kind: KindOrderIssued, content: Content{Order: &o}}, nil
	})
	if err != nil {
		return nil, err
	}
	if again != nil {
		return orderAfter(again)
	}
	return r.Order(o.ID)
}

// EndOrder ends the order before its time; a zero end means now. The end may
// lie in the past, but not outside the order.
func (s *Service) EndOrder(ctx context.Context, by By, id OrderID, end time.Time) (*ClosureOrder, error) {
	by = by.saying("EndClosureOrder", func(d *ledger.Digester) { d.Add(string(id), momentText(end)) })
	if end.IsZero() {
		end = s.Now()
	}
	// It must be possible to open places again whatever else fails.
	r, again, err := s.change(ledger.WithReserve(ctx), by, func(r *Roster) (*decision, error) {
		old, err := r.Order(id)
		if err != nil || s.rightsOn(r, by).inAll(old.Divisions, end) != nil {
			return nil, noOrder(id)
		}
		if !end.After(old.Start) || !end.Before(old.End) {
			return nil, &FieldError{"end_time", fmt.Errorf("%w: it runs from %s to %s", ErrOrderEnded, s.moment(old.Start), s.moment(old.End))}
		}
		o := *old
		o.End = end.UTC()
		return &decision{kind: KindOrderEnded, content: Content{Order: &o}}, nil
	})
	if err != nil {
		return nil, err
	}
	if again != nil {
		return orderAfter(again)
	}
	return r.Order(id)
}
