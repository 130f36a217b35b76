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
	// ErrInvalid means that a value is malformed or out of range, in whatever
	// package the rule stands that it breaks. [Invalid] makes such an error.
	ErrInvalid = errors.New("invalid value")
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

// A FieldError says which field of a value an error is about. Field is the
// value's own field as records spell it, such as "end_time" or
// "division_codes[2]". Whoever holds the value in another one knows the rest of
// the path.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns the error without the field.
func (e *FieldError) Unwrap() error { return e.Err }

// Invalid returns a FieldError that wraps ErrInvalid. What it says goes on from
// the field's name, such as "must lie between 0 and 5".
func Invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Err: invalidf(format, args...)}
}

// invalidf returns an error that wraps ErrInvalid and says why.
func invalidf(format string, args ...any) error {
	return invalidError(fmt.Sprintf(format, args...))
}

// An invalidError says why a value is invalid.
type invalidError string

func (e invalidError) Error() string { return string(e) }

// Unwrap returns ErrInvalid.
func (e invalidError) Unwrap() error { return ErrInvalid }

// A RestedOnError names the change that rests on one that is to be taken back.
type RestedOnError struct {
	// Revision is that change's, which is to be taken back first.
	Revision int64
}

func (e *RestedOnError) Error() string {
	return fmt.Sprintf("%v: revision %d", ErrRestedOn, e.Revision)
}

// Unwrap returns ErrRestedOn.
func (e *RestedOnError) Unwrap() error { return ErrRestedOn }
