package sites

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"xuncha/ledger"
)

// A SiteRow is a row of a table of sites, as it stands in the file. A cell
// that is empty says nothing: of a site that is on the roster it changes
// nothing.
type SiteRow struct {
	// Row is its number there, for the problems.
	Row                          int
	RegistrationNo, Name         string
	Division, Address            string
	Latitude, Longitude          string // decimal degrees, WGS 84
	RegisteredOn, DeregisteredOn string // days such as 2019-12-31
}

// A SiteImport is what an import of sites changed, or would have changed. Each
// row counts once, as the first of these that it is.
type SiteImport struct {
	Registered, Deregistered, Moved, Updated, Unchanged int
	// Changed tells whether an entry was made.
	Changed bool
	// Roster is the roster afterwards.
	Roster *Roster
}

// ImportSites registers the sites of a table, and moves, strikes off or
// corrects those that the roster has already, known by their registration
// number. Sites that are not in the table stay as they are.
//
// The error is an *ImportError where rows are wrong; nothing is stored then.
// A table that changes nothing makes no entry.
func (s *Service) ImportSites(ctx context.Context, by By, in Import, rows []SiteRow) (*SiteImport, error) {
	by = by.sayingTable("ImportSites", in, func(d *ledger.Digester) {
		for i := range rows {
			row := &rows[i]
			d.Add(row.RegistrationNo, row.Name, string(DivisionCode(row.Division).Shortest()), row.Address,
				row.Latitude, row.Longitude, row.RegisteredOn, row.DeregisteredOn)
		}
	})
	if in.Effective == "" {
		in.Effective = DayOf(s.Now(), s.Zone, 0).Format(time.DateOnly)
	}
	var out *SiteImport
	all := len(rows)
	changed, r, again, err := importTable(ctx, s, by, in, all, KindSitesImported, func(r *Roster, effective time.Time) ([]*Site, func(string) Content, error) {
		n := &SiteImport{}
		plan, err := s.planSites(r, s.rightsOn(r, by), rows, effective, n)
		out = n
		return plan, func(sum string) Content {
			return Content{Sites: &SitesImported{
				Source: in.Source, Effective: effective.UTC(), Rows: sum,
				Registered: n.Registered, Updated: n.Updated, Moved: n.Moved, Deregistered: n.Deregistered,
			}}
		}, err
	}, func() { rows = nil }) // a country's are as large as what is made of them then
	if err != nil {
		return nil, err
	}
	if again != nil {
		c := again.Sites
		out = &SiteImport{Registered: c.Registered, Deregistered: c.Deregistered, Moved: c.Moved, Updated: c.Updated}
		out.Unchanged = all - c.Registered - c.Deregistered - c.Moved - c.Updated
	}
	out.Changed, out.Roster = changed, r
	return out, nil
}

// planSites returns the sites that the rows change, as they are afterwards.
func (s *Service) planSites(r *Roster, may *rights, rows []SiteRow, effective time.Time, n *SiteImport) ([]*Site, error) {
	var p problems
	var plan []*Site
	seen := make(map[string]int, len(rows))
	for _, row := range rows {
		before := p.Total
		old, _ := r.SiteByRegistration(row.RegistrationNo)
		err := textProblem(row.RegistrationNo, 1, MaxRegistrationNo)
		if err != nil && old == nil { // else it is of a time with other rules
			p.add(row.Row, "registration_no", err)
		} else if first, twice := seen[row.RegistrationNo]; twice {
			p.sayf(row.Row, "registration_no", "%q is also in row %d", clip(row.RegistrationNo), first)
		} else {
			seen[row.RegistrationNo] = row.Row
		}
		if old != nil && !may.overSite(old, effective) {
			p.add(row.Row, "registration_no", fmt.Errorf("%q: %w", clip(row.RegistrationNo), ErrRegistrationTaken))
			continue
		}
		site := s.readSiteRow(r, may, row, old, effective, &p)
		if p.Total > before {
			continue
		}
		switch {
		case old == nil:
			site.ID = SiteID(s.NewID())
			n.Registered++
		case old.Deregistered.IsZero() && !site.Deregistered.IsZero():
			n.Deregistered++
		case len(site.Places) > len(old.Places):
			n.Moved++
		case site.Name != old.Name || !site.Registered.Equal(old.Registered) || !site.Deregistered.Equal(old.Deregistered) ||
			!samePlace(site.Places[len(site.Places)-1], old.Places[len(old.Places)-1]):
			n.Updated++
		default:
			n.Unchanged++
			continue
		}
		plan = append(plan, site)
	}
	return plan, p.err()
}

// readSiteRow returns the site that the row makes, of old where that is not
// nil, adding what is wrong to p.
func (s *Service) readSiteRow(r *Roster, may *rights, row SiteRow, old *Site, effective time.Time, p *problems) *Site {
	site := &Site{RegistrationNo: row.RegistrationNo}
	if old != nil {
		c := *old
		site = &c
	}
	if old == nil || row.Name != "" && row.Name != old.Name {
		p.check(row.Row, "name", textProblem(row.Name, 1, MaxName))
		site.Name = row.Name
	}
	day := func(column, cell string, to *time.Time) {
		if cell == "" {
			return
		}
		if t, err := s.Day(cell); err != nil {
			p.add(row.Row, column, err)
		} else if !t.Equal(*to) { // else it is on the roster, whatever it is
			if err := s.checkEffect(t); err != nil {
				p.add(row.Row, column, err)
			}
			*to = t.UTC()
		}
	}
	day("registered_on", row.RegisteredOn, &site.Registered)
	day("deregistered_on", row.DeregisteredOn, &site.Deregistered)
	if old == nil && row.RegisteredOn == "" {
		p.add(row.Row, "registered_on", missing(""))
	}
	if !site.Deregistered.IsZero() && !site.Deregistered.After(site.Registered) {
		p.sayf(row.Row, "deregistered_on", "must lie after registered_on")
	}
	s.readPlace(r, may, row, site, old, effective, p)
	return site
}

// readPlace puts the place that the row names into site.
func (s *Service) readPlace(r *Roster, may *rights, row SiteRow, site, old *Site, effective time.Time, p *problems) {
	place := Place{Division: DivisionCode(row.Division).Shortest(), Address: row.Address, Position: readPosition(row, p)}
	var last Place
	if old != nil {
		last = old.Places[len(old.Places)-1]
	}
	if row.Address != last.Address { // which may be of a time with other rules
		p.check(row.Row, "address", textProblem(row.Address, 0, MaxAddress))
	}
	if old != nil && (row.Division == "" || place.Division == last.Division) {
		place.Division, place.From = last.Division, last.From
		if row.Address == "" {
			place.Address = last.Address
		}
		if place.Position == nil {
			place.Position = last.Position
		}
		site.Places = append(slices.Clone(old.Places[:len(old.Places)-1]), place)
		if len(site.Places) == 1 {
			site.Places[0].From = site.Registered
		}
		return
	}
	s.checkVillage(r, may, row, site, effective, p)
	if old == nil {
		place.From = site.Registered
		site.Places = []Place{place}
		return
	}
	place.From = effective.UTC()
	if !effective.After(last.From) {
		p.sayf(row.Row, "division_code", "the site stands at its present place since %s; a move must take effect after that%s", s.moment(last.From), s.ifPlanned(last.From))
	}
	if !old.Deregistered.IsZero() {
		p.add(row.Row, "division_code", fmt.Errorf("a move of a site that is not registered: %w", ErrSiteStruckOff))
	}
	site.Places = append(slices.Clone(old.Places), place)
}

// checkVillage checks the division that a row newly puts a site in: a village
// in force on the effective day, or, of a site that was struck off before, on
// its last day.
func (s *Service) checkVillage(r *Roster, may *rights, row SiteRow, site *Site, effective time.Time, p *problems) {
	code, err := ParseDivisionCode(row.Division)
	if row.Division == "" {
		err = missing("")
	}
	if err != nil {
		p.add(row.Row, "division_code", err)
		return
	}
	at := later(effective, site.Registered)
	if !site.Deregistered.IsZero() && site.Deregistered.Before(at) {
		at = site.Deregistered.Add(-1)
	}
	written := row.Division
	if written != string(code) {
		written += " (" + string(code) + ")"
	}
	d, err := r.Division(code, at)
	if !may.in(code, at) {
		err = ErrDivisionUnknown // which is all that is said of it
	}
	if errors.Is(err, ErrDivisionEnded) {
		v := r.Versions(code)
		if last := v[len(v)-1]; at.Before(v[0].From) && !v[0].To.Equal(v[0].From) {
			// The oldest table that the roster has stands for the time before it.
			d, err = v[0], nil
		} else if !last.To.IsZero() {
			err = fmt.Errorf("%s %s: %w on %s", written, last.Name, ErrDivisionEnded, last.To.In(s.Zone).Format(time.DateOnly))
		}
	}
	if errors.Is(err, ErrDivisionUnknown) {
		err = fmt.Errorf("division %s: %w", written, ErrDivisionUnknown)
	}
	if err != nil {
		p.add(row.Row, "division_code", err)
	} else if d.Level != Village {
		p.add(row.Row, "division_code", fmt.Errorf("%s %s is a %s: %w", written, d.Name, d.Level, ErrNotVillage))
	}
}

// readPosition returns the row's position, or nil where it has none.
func readPosition(row SiteRow, p *problems) *Position {
	if row.Latitude == "" && row.Longitude == "" {
		return nil
	}
	degrees := func(column, cell string, most float64) float64 {
		v, err := strconv.ParseFloat(cell, 64)
		switch {
		case cell == "":
			p.add(row.Row, column, missing(": a position needs both coordinates"))
		case err != nil:
			p.sayf(row.Row, column, "%q is no number of degrees", clip(cell))
		case !(v >= -most && v <= most): // so written that NaN fails too
			p.sayf(row.Row, column, "%s must lie between -%g and %g", clip(cell), most, most)
		}
		return v
	}
	return &Position{
		Latitude:  degrees("latitude", row.Latitude, 90),
		Longitude: degrees("longitude", row.Longitude, 180),
	}
}
