package rpc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"xuncha/inspections"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// This file holds who may report a visit, and bring its photos: whoever could do so when
// the visit was. What a phone brings late is not lost because its officer, the site or a
// division has moved since.

// reportedBy returns who reports a visit to the site with the id.
func reportedBy(ctx context.Context, id string) inspections.By {
	s := scopeOf(ctx)
	by := inspections.By{Account: account(ctx)}
	if !s.all() {
		by.May = func(site *sites.Site, at time.Time) error { return s.sure(s.visited("site_id", id, site, at)) }
	}
	return by
}

// visited returns nil where the caller might visit the site at the time: it was an officer
// then, of a division in which the site stood. The site is nil where there is none with
// the id.
func (s *scope) visited(field, id string, site *sites.Site, at time.Time) error {
	officer, roster := false, s.config.Roster.Roster()
	// The phone's clock, by which the visit was, may be a little behind ours.
	times := [...]time.Time{at, at.Add(inspections.ClockTolerance)}
	for i, t := range times {
		if t.After(s.now) {
			t = s.now
			times[i] = t
		}
		for divisions := range officerAt(s.caller.Account, t) {
			officer = true
			if site != nil && lies(roster, site.PlaceAt(t).Division, divisions, t) {
				return nil
			}
		}
	}
	if !officer {
		return fmt.Errorf("%s at %s: %w", s.caller.Account.Role, at.Format(time.RFC3339), errRole)
	}
	if site != nil {
		for _, t := range times {
			if was, err := s.lay(site, t); was || err != nil {
				return err
			}
		}
	}
	return noSite(field, id)
}

// remakeCost is what it costs, beside the spend of others, to make the roster of the past
// anew, for each site on it.
const remakeCost = 30

// lay reports whether the site lay in the divisions that the caller had at the time, as
// the roster was known then. An import or a move that was entered later, for a day before,
// loses no visit.
func (s *scope) lay(site *sites.Site, at time.Time) (bool, error) {
	changed := slices.ContainsFunc(s.config.Roster.Roster().Concerning(site), func(e sites.Event) bool { return e.Time.After(at) })
	if !changed {
		return false, nil
	}
	for divisions := range officerAt(s.caller.Account, at) {
		ready := s.config.Roster.Ready(at)
		known, err := s.config.Roster.RosterKnown(s.ctx, at)
		if err != nil {
			return false, err
		}
		if !ready {
			s.spent.Add(int64(remakeCost * known.NumSites()))
		}
		was, err := known.SiteEver(site.ID)
		if err == nil && lies(known, was.PlaceAt(at).Division, divisions, at) {
			return true, nil
		}
	}
	return false, nil
}

// officerAt gives the divisions of which the account was an officer at t: as is known now,
// and as was known then.
func officerAt(a *accounts.Account, t time.Time) iter.Seq[[]sites.DivisionCode] {
	return func(yield func([]sites.DivisionCode) bool) {
		role, divisions := a.At(t)
		if role == accounts.Officer && !yield(divisions) {
			return
		}
		then, were := a.KnownAt(t)
		if then == accounts.Officer && (role != then || !slices.Equal(divisions, were)) {
			yield(were)
		}
	}
}

// photosOf returns nil where the caller may bring photos of the check-in: it has reported
// the visit itself, might have, or is an officer who sees the site today.
func (s *scope) photosOf(field, id, checkIn string) error {
	if s.all() {
		return nil
	}
	unseen := s.site(field, id)
	if unseen == nil && s.caller.Account.Role == accounts.Officer {
		return nil
	}
	c, err := s.config.Inspections.Get(s.ctx, sites.SiteID(lower(id)), inspections.CheckInID(lower(checkIn)))
	switch {
	case errors.Is(err, inspections.ErrNotFound), errors.Is(err, sites.ErrSiteUnknown):
		if unseen == nil {
			return err
		}
		return s.sure(unseen)
	case err != nil:
		if unseen != nil && !s.everVisited(id) {
			return s.sure(unseen) // who has never been there has brought nothing, and hears nothing of it
		}
		return err
	case c.Entry.Account == s.caller.Account.Username:
		return nil
	}
	site, _ := s.config.Roster.Roster().SiteEver(c.Site) // nil where it is not on the roster
	return s.sure(s.visited(field, id, site, c.VisitTime()))
}

// everVisited reports whether the caller was ever an officer of a division in which the site
// with the id has ever lain.
func (s *scope) everVisited(id string) bool {
	roster := s.config.Roster.Roster()
	site, err := roster.SiteEver(sites.SiteID(lower(id)))
	if err != nil {
		return false
	}
	for _, p := range roster.Placements(site) {
		for role, divisions := range s.caller.Account.Ever() {
			if role == accounts.Officer && slices.ContainsFunc(p.Path, func(code sites.DivisionCode) bool { return slices.Contains(divisions, code) }) {
				return true
			}
		}
	}
	return false
}
