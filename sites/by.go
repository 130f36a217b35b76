package sites

import (
	"fmt"
	"time"

	"xuncha/ledger"
)

// A By is who makes a change of the roster, and by which request.
type By struct {
	// Account is the name that the entry has.
	Account string
	// Request is what a repeat is known by; the zero Request for none. Its ID is enough:
	// the methods of Service make the Sum of what they are given.
	Request ledger.Request
	// May reports whether the account is responsible for the division at the time, by the
	// roster on which the change is decided. It is asked for each division that a change
	// names or leaves, every time that the change is decided; nil answers always yes.
	May func(r *Roster, code DivisionCode, at time.Time) bool
	// Still returns nil where all that May has said since it was asked first still holds. It
	// is asked once more when everything is ready to be stored, as a large import takes
	// seconds until then; nil answers always nil.
	Still func() error
}

// rights tell in which divisions the caller may make a change, on one roster.
type rights struct {
	by  By
	r   *Roster
	now time.Time
	// known is what May has said of divisions as they lie now.
	known map[DivisionCode]bool
}

// rightsOn returns the rights on the roster of the caller who makes a change.
func (s *Service) rightsOn(r *Roster, by By) *rights {
	return &rights{by: by, r: r, now: s.Now(), known: map[DivisionCode]bool{}}
}

// in reports whether the division is one in which the change may be made: as it lies now
// and, where the change takes effect later, as it lies then.
func (j *rights) in(code DivisionCode, effective time.Time) bool {
	if j.by.May == nil {
		return true
	}
	may, known := j.known[code]
	if !known {
		may = j.by.May(j.r, code, j.now)
		j.known[code] = may
	}
	return may && (!effective.After(j.now) || j.by.May(j.r, code, effective))
}

// overSite reports whether the site is one that the change may be about: where it stands
// now, when the change takes effect, and wherever it is to stand later.
func (j *rights) overSite(site *Site, effective time.Time) bool {
	if j.by.May == nil {
		return true
	}
	if effective.After(j.now) && !j.in(site.PlaceAt(effective).Division, effective) {
		return false
	}
	for i := site.placeAt(j.now); i < len(site.Places); i++ {
		if p := site.Places[i]; !j.in(p.Division, p.From) {
			return false
		}
	}
	return true
}

// inAll returns an error that names those of an order's divisions in which the change may
// not be made.
func (j *rights) inAll(codes []DivisionCode, effective time.Time) error {
	var f Faults
	for i, code := range codes[:min(len(codes), MaxOrderDivisions)] {
		if !j.in(code, effective) {
			f.Add(fmt.Sprintf("division_codes[%d]", i), noDivision(code))
		}
	}
	return f.Err()
}

// noDivision, noSite and noOrder are the errors for what does not exist. For what the caller
// may not change they are the same, so that nobody learns what there is elsewhere.
func noDivision(code DivisionCode) error {
	return fmt.Errorf("division %s: %w", clip(string(code)), ErrDivisionUnknown)
}

func noSite(id SiteID) error {
	return &FieldError{"site_id", siteUnknown(id)}
}

func noOrder(id OrderID) error {
	return &FieldError{"closure_order_id", orderUnknown(id)}
}
