package sites

import (
	"time"

	"xuncha/ledger"
)

// A By is who makes a change of the roster, and by which request.
type By struct {
	// Account is the name that the entry has.
	Account string
	// Request is what a repeat is known by; the zero Request for none.
	Request ledger.Request
	// May reports whether the account is responsible for the division at the time, by the
	// roster on which the change is decided. It is asked for each division that a change
	// names or leaves, every time that the change is decided; nil answers always yes.
	May func(r *Roster, code DivisionCode, at time.Time) bool
}
