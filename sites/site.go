package sites

import (
	"strconv"
	"strings"
	"time"

	"xuncha/ledger"
)

// A SiteID names a site for ever. It is a UUID in lower-case text.
type SiteID string

// History returns the name of the site's own history.
func (id SiteID) History() ledger.History { return ledger.History("site/" + string(id)) }

// SiteOf returns the site whose own history has the name.
func SiteOf(h ledger.History) (SiteID, bool) {
	id, ok := strings.CutPrefix(string(h), "site/")
	if !ok || id == "" {
		return "", false
	}
	return SiteID(id), true
}

// A Position is a point in WGS 84, in degrees.
type Position struct {
	// Latitude is -90 to 90, north positive.
	Latitude float64 `json:"latitude"`
	// Longitude is -180 to 180, east positive.
	Longitude float64 `json:"longitude"`
}

// A Place is where a site stands from a moment on.
type Place struct {
	// From is the first moment at this place.
	From time.Time `json:"from"`
	// Division is the village.
	Division DivisionCode `json:"division_code"`
	Address  string       `json:"address"`
	// Position is nil where it is not known.
	Position *Position `json:"position"`
}

// A Site is one registered premises. It is a value: a change makes a new one.
type Site struct {
	ID SiteID `json:"site_id"`
	// RegistrationNo is unique in the roster, for ever, unless the registration is
	// taken back.
	RegistrationNo string `json:"registration_no"`
	Name           string `json:"name"`
	// Registered is the first moment of the registration.
	Registered time.Time `json:"registered_time"`
	// Deregistered is the first moment after it; zero while the site is registered.
	Deregistered time.Time `json:"deregistered_time,omitzero"`
	// Places are where the site stood, oldest first, at least one. The first
	// holds also for any time before it.
	Places []Place `json:"places"`

	// changes are the roster entries that made or changed the site, those that take
	// others back included.
	changes []ledger.Sequence
	// revision is the newest of them that holds, where that is not the last of them.
	revision ledger.Sequence
	// revoked tells that its registration was taken back: there never was such a site.
	revoked bool
}

// Revision is the newest change that made the site what it is; 0 where all were taken back.
func (s *Site) Revision() ledger.Sequence {
	if s.revision != 0 || s.revoked || len(s.changes) == 0 {
		return s.revision
	}
	return s.changes[len(s.changes)-1]
}

// PlaceAt returns where the site stands at t.
func (s *Site) PlaceAt(t time.Time) Place { return s.Places[s.placeAt(t)] }

// placeAt returns the index in Places of where the site stands at t.
func (s *Site) placeAt(t time.Time) int {
	i := len(s.Places) - 1
	for i > 0 && t.Before(s.Places[i].From) {
		i--
	}
	return i
}

// RegisteredAt reports whether the site is registered at t.
func (s *Site) RegisteredAt(t time.Time) bool {
	return !s.revoked && during(t, s.Registered, s.Deregistered)
}

// Etag names the site's present state: it differs whenever the site changed.
func (s *Site) Etag() string {
	if len(s.changes) == 0 {
		return ""
	}
	return "r" + strconv.FormatInt(int64(s.changes[len(s.changes)-1]), 10)
}

// samePlace reports whether two places are the same spot, whenever it began.
func samePlace(a, b Place) bool {
	if a.Division != b.Division || a.Address != b.Address {
		return false
	}
	if a.Position == nil || b.Position == nil {
		return a.Position == b.Position
	}
	return *a.Position == *b.Position
}
