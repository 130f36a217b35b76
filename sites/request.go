package sites

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"xuncha/ledger"
)

// saying returns b with the digest of what its request says: the method, and what texts adds.
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

// repeat returns the roster once it has the entry that the request has made before, which
// another server may have made just now. The error is of an account that may not change
// what the entry did any more.
func (s *Service) repeat(ctx context.Context, by By, e *ledger.Entry) (*Roster, error) {
	if s.Roster().Revision() < e.Sequence {
		if err := s.projection.Refresh(ctx); err != nil {
			return nil, err
		}
	}
	r := s.Roster()
	if r.Revision() < e.Sequence {
		return nil, cmp.Or(s.Altered(), fmt.Errorf("%w: the roster has no sequence %d", ledger.ErrBroken, e.Sequence))
	}
	return r, s.mayRepeat(ctx, by, r, e)
}

// mayRepeat returns an error where the account may not change any more what the entry did,
// as it is on the roster: it is said the same as of what does not exist.
func (s *Service) mayRepeat(ctx context.Context, by By, r *Roster, e *ledger.Entry) error {
	if by.May == nil {
		return nil
	}
	c, err := ParseContent(*e)
	if err != nil {
		return err
	}
	may := s.rightsOn(r, by)
	overSite := func(site *Site) bool {
		now, err := r.Site(site.ID)
		return may.overSite(site, may.now) && (err != nil || may.overSite(now, may.now))
	}
	switch {
	case c.Site != nil && !overSite(c.Site):
		if e.Kind == KindSiteRegistered {
			return &FieldError{"division_code", noDivision(c.Site.Places[0].Division)}
		}
		return noSite(c.Site.ID)
	case c.Order != nil:
		err = may.inAll(c.Order.Divisions, may.now)
		if err != nil && e.Kind == KindOrderEnded {
			err = noOrder(c.Order.ID)
		}
	case c.Sites != nil:
		var rows []*Site
		rows, err = readRows(ctx, s.Rows, c.Sites.Rows, (*Site).whole)
		if i := slices.IndexFunc(rows, func(site *Site) bool { return !overSite(site) }); i >= 0 {
			err = &FieldError{"rows", fmt.Errorf("%q: %w", rows[i].RegistrationNo, ErrSiteUnknown)}
		}
	case c.Divisions != nil:
		var rows []divisionChange
		rows, err = readRows(ctx, s.Rows, c.Divisions.Rows, divisionChange.whole)
		at := later(c.Divisions.Effective, may.now) // before, some are not there
		if i := slices.IndexFunc(rows, func(d divisionChange) bool { return !by.May(r, d.Code, at) }); i >= 0 {
			err = &FieldError{"rows", noDivision(rows[i].Code)}
		}
	case c.Revoked != nil:
		for code := range r.stillTouched(r.event(e.Sequence), may.now) {
			if !may.in(code, may.now) {
				return noChange(c.Revoked.Revision)
			}
		}
	}
	return err
}

// siteAfter returns the site as it was after the entry that a request has made before.
// The digest of the request has the method in it, so that the entry is one of a site.
func siteAfter(e *ledger.Entry) (*Site, error) {
	c, err := ParseContent(*e)
	if err != nil {
		return nil, err
	}
	c.Site.changes = []ledger.Sequence{e.Sequence}
	return c.Site, nil
}

// orderAfter returns the closure order as it was after the entry that a request has made
// before.
func orderAfter(e *ledger.Entry) (*ClosureOrder, error) {
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
