package sites

import (
	"context"
	"slices"
	"time"

	"xuncha/ledger"
)

// NewSite is what is needed to register a site.
type NewSite struct {
	RegistrationNo, Name string
	Division             DivisionCode
	Address              string
	Position             *Position
	// Registered is the first moment of the registration; zero means now.
	Registered time.Time
}

// CreateSite registers a site and returns it.
func (s *Service) CreateSite(ctx context.Context, by By, n NewSite) (*Site, error) {
	by = by.saying("CreateSite", func(d *ledger.Digester) {
		d.Add(n.RegistrationNo, n.Name, string(n.Division.Shortest()), n.Address, positionText(n.Position), momentText(n.Registered))
	})
	site := s.newSite(n)
	site.ID = SiteID(s.NewID())
	return s.changeSite(ctx, by, site.ID, KindSiteRegistered, func(r *Roster, _ *Site) (*Site, error) {
		var mine error
		if !s.rightsOn(r, by).in(n.Division, site.Registered) {
			mine = &FieldError{"division_code", noDivision(n.Division)}
		}
		return site, JoinFaults(mine, s.checkNewSite(r, site))
	})
}

// A SiteUpdate corrects what the roster says of a site. A nil field stays.
type SiteUpdate struct {
	Name, Address *string
	Position      *Position
}

// UpdateSite corrects the site's name, or the address and position of the
// place where it stands now, also where it is to move later. Where it stands is
// changed by MoveSite. An etag that is not empty and not the site's own is
// ErrStale. An update that changes nothing makes no entry.
func (s *Service) UpdateSite(ctx context.Context, by By, id SiteID, etag string, u SiteUpdate) (*Site, error) {
	by = by.saying("UpdateSite", func(d *ledger.Digester) {
		d.Add(string(id), etag, optionalText(u.Name), optionalText(u.Address), positionText(u.Position))
	})
	return s.changeSite(ctx, by, id, KindSiteUpdated, func(_ *Roster, old *Site) (*Site, error) {
		stale := checkEtag(old, etag)
		site := *old
		site.Places = slices.Clone(old.Places)
		at := old.placeAt(s.Now())
		place := &site.Places[at]
		if u.Name != nil {
			site.Name = *u.Name
		}
		if u.Address != nil {
			place.Address = *u.Address
		}
		if u.Position != nil {
			place.Position = u.Position
		}
		if stale == nil && site.Name == old.Name && samePlace(*place, old.Places[at]) {
			return nil, nil
		}
		// What stays as it is may be of a time with other rules.
		var name error
		if site.Name != old.Name {
			name = checkName(site.Name)
		}
		spot := *place
		if spot.Address == old.Places[at].Address {
			spot.Address = ""
		}
		return &site, JoinFaults(stale, name, checkSpot(spot))
	})
}

// MoveSite puts the site into another village from the place's From on; a zero
// From means now. Without a position the new one is not known.
func (s *Service) MoveSite(ctx context.Context, by By, id SiteID, etag string, to Place) (*Site, error) {
	by = by.saying("MoveSite", func(d *ledger.Digester) {
		d.Add(string(id), etag, string(to.Division.Shortest()), to.Address, positionText(to.Position), momentText(to.From))
	})
	if to.From.IsZero() {
		to.From = s.Now()
	}
	to.From = to.From.UTC()
	return s.changeSite(ctx, by, id, KindSiteMoved, func(r *Roster, old *Site) (*Site, error) {
		var f Faults
		f.Add("site_id", checkRegistered(old))
		f.Join(checkEtag(old, etag))
		last := old.Places[len(old.Places)-1]
		f.Add("effective_time", s.checkEffect(to.From))
		if !to.From.After(last.From) {
			f.Join(Invalid("effective_time", "must lie after %s, since when the site stands at its present place%s", s.moment(last.From), s.ifPlanned(last.From)))
		}
		may := s.rightsOn(r, by)
		if !may.overSite(old, to.From) {
			return nil, noSite(id)
		}
		if !may.in(to.Division, to.From) {
			f.Add("division_code", noDivision(to.Division))
		}
		f.Join(s.checkPlace(r, to))
		if err := f.Err(); err != nil {
			return nil, err
		}
		site := *old
		site.Places = append(slices.Clone(old.Places), to)
		return &site, nil
	})
}

// DeregisterSite strikes the site off the roster from the time at on; zero
// means now. The site and its history stay.
func (s *Service) DeregisterSite(ctx context.Context, by By, id SiteID, etag string, at time.Time) (*Site, error) {
	by = by.saying("DeregisterSite", func(d *ledger.Digester) { d.Add(string(id), etag, momentText(at)) })
	if at.IsZero() {
		at = s.Now()
	}
	return s.changeSite(ctx, by, id, KindSiteDeregistered, func(r *Roster, old *Site) (*Site, error) {
		if !s.rightsOn(r, by).overSite(old, at) {
			return nil, noSite(id)
		}
		var f Faults
		f.Add("site_id", checkRegistered(old))
		f.Join(checkEtag(old, etag))
		f.Add("effective_time", s.checkEffect(at))
		if !at.After(old.Registered) {
			f.Join(Invalid("effective_time", "must lie after %s, since when the site is registered", s.moment(old.Registered)))
		}
		if err := f.Err(); err != nil {
			return nil, err
		}
		site := *old
		site.Deregistered = at.UTC()
		return &site, nil
	})
}

// changeSite stores what change makes of the site, which is nil where the
// roster does not have it yet, and returns the site afterwards.
func (s *Service) changeSite(ctx context.Context, by By, id SiteID, kind ledger.Kind, change func(*Roster, *Site) (*Site, error)) (*Site, error) {
	r, again, err := s.change(ctx, by, func(r *Roster) (*decision, error) {
		var old *Site
		if kind != KindSiteRegistered {
			var err error
			if old, err = r.Site(id); err != nil || !s.rightsOn(r, by).overSite(old, time.Time{}) {
				return nil, noSite(id)
			}
		}
		site, err := change(r, old)
		if err != nil || site == nil {
			return nil, err
		}
		return &decision{kind: kind, content: Content{Site: site}}, nil
	})
	if err != nil {
		return nil, err
	}
	if again != nil {
		return siteAfter(again)
	}
	return r.Site(id)
}
