package sites

import (
	"fmt"
	"slices"
	"time"

	"xuncha/ledger"
)

// This file checks what a request asks for. The exported checks are for a request that was
// refused for another reason already, so that its caller learns all that is wrong at once.

// CheckNewSite returns all that is wrong with a site that is to be registered, as the
// roster is now.
func (s *Service) CheckNewSite(n NewSite) error {
	return s.checkNewSite(s.Roster(), s.newSite(n))
}

// newSite returns the site with what it says of itself.
func (s *Service) newSite(n NewSite) *Site {
	site := &Site{RegistrationNo: n.RegistrationNo, Name: n.Name, Registered: n.Registered}
	if site.Registered.IsZero() {
		site.Registered = s.Now()
	}
	site.Registered = site.Registered.UTC()
	site.Places = []Place{{From: site.Registered, Division: n.Division, Address: n.Address, Position: n.Position}}
	return site
}

// CheckOrder returns all that is wrong with an order that is to be issued, as the roster
// is now.
func (s *Service) CheckOrder(o ClosureOrder) error { return s.checkOrder(s.Roster(), &o) }

// CheckImport returns all that is wrong with an import beside its rows.
func (s *Service) CheckImport(in Import) error {
	var f Faults
	s.checkImport(in, &f)
	return f.Err()
}

// CheckRevoke returns all that is wrong in itself with taking a change back.
func CheckRevoke(revision ledger.Sequence, reason string) error {
	var f Faults
	if revision == 0 {
		f.Join(Missing("revision", ""))
	}
	f.Add("reason", textProblem(reason, 1, MaxReason))
	return f.Err()
}

// Check returns all that is wrong with the update in itself.
func (u SiteUpdate) Check() error {
	var f Faults
	if u.Name != nil {
		f.Join(checkName(*u.Name))
	}
	spot := Place{Position: u.Position}
	if u.Address != nil {
		spot.Address = *u.Address
	}
	f.Join(checkSpot(spot))
	return f.Err()
}

// CheckPlace returns all that is wrong with a place that a site is to be put in, as the
// roster is now.
func (s *Service) CheckPlace(p Place) error {
	if p.From.IsZero() {
		p.From = s.Now()
	}
	return s.checkPlace(s.Roster(), p)
}

// checkNewSite returns all that is wrong with a site that is to be registered.
func (s *Service) checkNewSite(r *Roster, site *Site) error {
	var f Faults
	f.Add("registration_no", textProblem(site.RegistrationNo, 1, MaxRegistrationNo))
	if _, err := r.SiteByRegistration(site.RegistrationNo); err == nil {
		f.Add("registration_no", fmt.Errorf("%q: %w", site.RegistrationNo, ErrRegistrationTaken))
	}
	f.Join(checkName(site.Name))
	f.Add("registered_time", s.checkEffect(site.Registered))
	f.Join(s.checkPlace(r, site.Places[0]))
	return f.Err()
}

// checkOrder returns all that is wrong with an order that is to be issued.
func (s *Service) checkOrder(r *Roster, o *ClosureOrder) error {
	var f Faults
	f.Add("number", textProblem(o.Number, 1, MaxRegistrationNo))
	if _, taken := r.orderNumbers.Get(o.Number); taken {
		f.Add("number", fmt.Errorf("%q: %w", o.Number, ErrOrderNumberTaken))
	}
	f.Add("title", textProblem(o.Title, 1, MaxOrderText))
	f.Add("issuing_authority", textProblem(o.IssuingAuthority, 1, MaxOrderText))
	f.Add("legal_basis", textProblem(o.LegalBasis, 1, MaxOrderText))
	f.Join(s.checkScope(r, o))
	s.checkOrderTimes(o, &f)
	switch d := time.Duration(o.Interval); {
	case d == 0:
		f.Join(Missing("inspection_interval", ""))
	case d < MinInspectionInterval || d > MaxInspectionInterval:
		f.Join(OutOfRange("inspection_interval", MinInspectionInterval, MaxInspectionInterval))
	}
	return f.Err()
}

// checkScope returns all that is wrong with the divisions that the order names.
func (s *Service) checkScope(r *Roster, o *ClosureOrder) error {
	switch n := len(o.Divisions); {
	case n == 0:
		return Missing("division_codes", fmt.Sprintf(": an order names 1 to %d divisions", MaxOrderDivisions))
	case n > MaxOrderDivisions:
		return TooLong("division_codes", n, MaxOrderDivisions, Items)
	}
	var f Faults
	for i, c := range o.Divisions {
		field := fmt.Sprintf("division_codes[%d]", i)
		if slices.Contains(o.Divisions[:i], c) {
			f.Join(Invalid(field, "%s is named twice", c))
			continue
		}
		if _, err := r.Division(c, o.Start); err != nil {
			// A table that takes effect after the order's start is all there is
			// to go by where the roster began later than the order.
			if _, err := r.Division(c, s.Now()); err != nil {
				f.Add(field, err)
			}
		}
	}
	return f.Err()
}

// checkPlace returns all that is wrong with a place that a site is put in.
func (s *Service) checkPlace(r *Roster, p Place) error {
	var f Faults
	if p.Division == "" {
		f.Join(Missing("division_code", ""))
	} else if _, err := ParseDivisionCode(string(p.Division)); err != nil {
		f.Add("division_code", err)
	} else if d, err := r.Division(p.Division, later(p.From, s.Now())); err != nil {
		f.Add("division_code", err)
	} else if d.Level != Village {
		f.Add("division_code", fmt.Errorf("%s %s is a %s: %w", d.Code, d.Name, d.Level, ErrNotVillage))
	}
	f.Join(checkSpot(p))
	return f.Err()
}

// checkSpot returns all that is wrong with a place's address and position.
func checkSpot(p Place) error {
	var f Faults
	f.Add("address", textProblem(p.Address, 0, MaxAddress))
	if p.Position != nil {
		// Written so that what is not a number fails too.
		if l := p.Position.Latitude; !(l >= -90 && l <= 90) {
			f.Join(OutOfRange("latitude", -90, 90))
		}
		if l := p.Position.Longitude; !(l >= -180 && l <= 180) {
			f.Join(OutOfRange("longitude", -180, 180))
		}
	}
	return f.Err()
}

func checkName(name string) error { return CheckText("name", name, 1, MaxName) }

func checkEtag(site *Site, etag string) error {
	if etag != "" && etag != site.Etag() {
		return &FieldError{"etag", fmt.Errorf("%w: the etag is now %s", ErrStale, site.Etag())}
	}
	return nil
}

func checkRegistered(site *Site) error {
	if !site.Deregistered.IsZero() {
		return fmt.Errorf("site %s: %w", site.ID, ErrSiteStruckOff)
	}
	return nil
}
