package sites

import (
	"time"
)

// MaxOrderLength is the longest time for which one order can close sites.
// Going on for longer takes a new decision, and so a new order.
const MaxOrderLength = 90 * 24 * time.Hour

// MaxOrderDivisions is how many divisions one order can name. A scope wider
// than that is a county or a city, which is named as one.
const MaxOrderDivisions = 1000

// The inspection interval of an order lies between these.
const (
	MinInspectionInterval = time.Hour
	MaxInspectionInterval = 30 * 24 * time.Hour
)

// An OrderID names a closure order. It is a UUID in lower-case text.
type OrderID string

// A ClosureOrder is the decision that closes the sites of some divisions for a
// time. Every check-in and every due site rests on one.
type ClosureOrder struct {
	ID OrderID `json:"closure_order_id"`
	// Number is the order's official number, unique in the roster.
	Number           string `json:"number"`
	Title            string `json:"title"`
	IssuingAuthority string `json:"issuing_authority"`
	LegalBasis       string `json:"legal_basis"`
	// Divisions are those whose sites are closed, with all below them.
	Divisions []DivisionCode `json:"division_codes"`
	// Start is the first moment of the order.
	Start time.Time `json:"start_time"`
	// End is the first moment after it.
	End time.Time `json:"end_time"`
	// PlannedEnd is the end with which the order was issued.
	PlannedEnd time.Time `json:"planned_end_time"`
	// Interval is how long a site may go without a visit.
	Interval Duration `json:"inspection_interval"`
}

// InForce reports whether the order is in force at t.
func (o *ClosureOrder) InForce(t time.Time) bool { return during(t, o.Start, o.End) }

// A Duration is a time.Duration that records spell as Go does: "24h0m0s".
type Duration time.Duration

// MarshalText writes the duration as time.Duration.String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}
