package sites

import (
	"errors"
	"fmt"
)

var (
	// ErrDivisionUnknown means that no division has, or ever had, the code.
	ErrDivisionUnknown = errors.New("no such division")
	// ErrDivisionEnded means that a division exists no more at the time asked for.
	ErrDivisionEnded = errors.New("division has ended")
	// ErrNotVillage means that a division is not of the village level,
	// where alone a site can be registered.
	ErrNotVillage = errors.New("division is not a village")
	// ErrSiteUnknown means that no site has the id.
	ErrSiteUnknown = errors.New("no such site")
	// ErrSiteStruckOff means that the site's registration has ended.
	ErrSiteStruckOff = errors.New("site is struck off")
	// ErrRegistrationTaken means that another site has the registration number.
	// A number is never given out twice, also not after its site was struck off, unless
	// the registration is taken back.
	ErrRegistrationTaken = errors.New("registration number is taken")
	// ErrStale means that the etag is not that of the site's present state.
	ErrStale = errors.New("site was changed since it was read")
	// ErrOrderUnknown means that no closure order has the id.
	ErrOrderUnknown = errors.New("no such closure order")
	// ErrOrderNumberTaken means that another closure order has the number.
	ErrOrderNumberTaken = errors.New("closure order number is taken")
	// ErrOrderTooLong means that an order would last longer than MaxOrderLength.
	ErrOrderTooLong = errors.New("closure order is longer than 90 days")
	// ErrOrderEnded means that the order's end cannot be set to the time given:
	// it lies outside the order, or the order has ended already.
	ErrOrderEnded = errors.New("closure order cannot end at that time")
	// ErrInvalid means that a value breaks a rule, in whatever package that stands.
	// [Invalid] makes such an error. The three below are kinds of it.
	ErrInvalid = errors.New("invalid value")
	// ErrMissing means that a value is not given. [Missing] makes such an error.
	ErrMissing error = kind("is missing")
	// ErrOutOfRange means that a number, a duration or a time lies outside its bounds.
	// [OutOfRange] makes such an error.
	ErrOutOfRange error = kind("is out of range")
	// ErrTooLong means that a text has too many characters, or a list too many items.
	// [TooLong] makes such an error.
	ErrTooLong error = kind("is too long")
	// ErrRowsUnknown means that no rows are stored under the SHA-256.
	ErrRowsUnknown = errors.New("no such rows")
	// ErrChangeUnknown means that the roster has no change with the revision, or none that
	// whoever asks may take back.
	ErrChangeUnknown = errors.New("no such change")
	// ErrRestedOn means that a later change rests on the one that is to be taken back. The
	// error is a *RestedOnError, which names it.
	ErrRestedOn = errors.New("a later change rests on it")
	// ErrNotRevocable means that a change was taken back already, or is of a kind that
	// cannot be.
	ErrNotRevocable = errors.New("change cannot be taken back")
	// ErrImportRejected means that rows of an import are wrong and that nothing
	// of it was stored. The error is an *ImportError, which lists them.
	ErrImportRejected = errors.New("import rejected")
)

// A RestedOnError names the change that rests on one that is to be taken back.
type RestedOnError struct {
	// Revision is that change's, which is to be taken back first.
	Revision int64
}

func (e *RestedOnError) Error() string {
	return fmt.Sprintf("%v: take back revision %d first", ErrRestedOn, e.Revision)
}

// Unwrap returns ErrRestedOn.
func (e *RestedOnError) Unwrap() error { return ErrRestedOn }
