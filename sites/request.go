package sites

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"xuncha/ledger"
)

// saying returns who makes the change, with what the request for it says: the method, and
// what texts gives.
func (b By) saying(method string, texts func(*ledger.Digester)) By {
	b.Request = b.Request.Saying(method, texts)
	return b
}

// sayingTable is saying of an import, whose rows rows gives. A dry run is no request that
// could be repeated: it makes no entry.
func (b By) sayingTable(method string, in Import, rows func(*ledger.Digester)) By {
	if in.DryRun {
		b.Request = ledger.Request{}
	}
	return b.saying(method, func(d *ledger.Digester) {
		d.Add(in.Effective, in.Source)
		rows(d)
	})
}

// repeated returns the entry that the request has made before, or nil.
func (s *Service) repeated(ctx context.Context, by By) (*ledger.Entry, error) {
	e, err := s.projection.Repeated(ctx, by.Request, by.Account)
	if errors.Is(err, ledger.ErrRequestConflict) {
		err = &FieldError{"request_id", err}
	}
	return e, err
}

// rosterAfter returns the roster as it was after the entry that a request has made before.
func (s *Service) rosterAfter(ctx context.Context, e *ledger.Entry) (*Roster, error) {
	if err := s.knows(ctx, e); err != nil {
		return nil, err
	}
	return s.rosterAt(ctx, s.Roster(), e.Sequence)
}

// knows brings the roster to the entry, which another server may have made just now.
func (s *Service) knows(ctx context.Context, e *ledger.Entry) error {
	if s.Roster().Revision() >= e.Sequence {
		return nil
	}
	if err := s.projection.Refresh(ctx); err != nil {
		return err
	}
	if s.Roster().Revision() < e.Sequence {
		return cmp.Or(s.Altered(), fmt.Errorf("%w: the roster has no sequence %d", ledger.ErrBroken, e.Sequence))
	}
	return nil
}

// siteAfter returns the site as it was after the entry that a request has made before.
// The digest of the request has the method in it, so that the entry is one of a site.
func (s *Service) siteAfter(ctx context.Context, e *ledger.Entry) (*Site, error) {
	if err := s.knows(ctx, e); err != nil {
		return nil, err
	}
	c, err := ParseContent(*e)
	if err != nil {
		return nil, err
	}
	c.Site.changes = []ledger.Sequence{e.Sequence}
	return c.Site, nil
}

// orderAfter returns the closure order as it was after the entry that a request has made
// before.
func (s *Service) orderAfter(ctx context.Context, e *ledger.Entry) (*ClosureOrder, error) {
	if err := s.knows(ctx, e); err != nil {
		return nil, err
	}
	c, err := ParseContent(*e)
	return c.Order, err
}

// RevisionShown returns the revision with which the answer to a change shows the order that
// it returned: that of the entry which the request made, so that a repeat is answered alike
// for ever, or that of the newest change of the order where there is none.
func (s *Service) RevisionShown(by By, id OrderID) ledger.Sequence {
	r := s.Roster()
	if life, ok := r.orders.Get(id); ok && by.Request.ID != "" {
		for _, q := range life.changes {
			if r.event(q).ID == by.Request.ID {
				return q
			}
		}
	}
	return r.OrderRevision(id)
}

// ShownAt returns the time for which the answer to a change shows the site that it
// returned: that of the entry which the request made, so that a repeat is answered alike
// for ever, or now where there is none.
func (s *Service) ShownAt(by By, site *Site) time.Time {
	if n := len(site.changes); n > 0 && by.Request.ID != "" {
		if r, q := s.Roster(), site.changes[n-1]; q <= r.Revision() && r.event(q).ID == by.Request.ID {
			return r.event(q).Time
		}
	}
	return s.Now()
}

// momentText spells a time for a digest; the zero time, which stands for none, is empty.
func momentText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// optionalText spells a text for a digest that need not be there; an empty one is not
// the same as none.
func optionalText(text *string) string {
	if text == nil {
		return ""
	}
	return "=" + *text
}

// positionText spells a position for a digest; none is empty.
func positionText(p *Position) string {
	if p == nil {
		return ""
	}
	degrees := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	return degrees(p.Latitude) + " " + degrees(p.Longitude)
}
