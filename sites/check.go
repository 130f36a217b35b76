package sites

import "xuncha/ledger"

// This file has the checks by which a request is judged before, or although, it comes to
// no change: what else is wrong with it is told along with what hindered it.

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
