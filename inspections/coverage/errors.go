package coverage

import (
	"errors"
	"fmt"
	"time"
)

// MaxWindow is how long a window may be at most.
const MaxWindow = 400 * 24 * time.Hour

var (
	// ErrWindow means that a window does not end after its start.
	ErrWindow = errors.New("window does not end after its start")
	// ErrWindowTooLong means that a window is longer than MaxWindow.
	ErrWindowTooLong = errors.New("window is too long")
	// ErrTooManyRows is what errors.Is finds in a TooManyRowsError.
	ErrTooManyRows = errors.New("report has too many rows")
)

// A TooManyRowsError means that a report would have more rows than the question
// allows.
type TooManyRowsError struct {
	// MaxRows is how many rows the question allows.
	MaxRows int
	// Fits is the greatest depth at which the report has no more rows than that. It
	// is less than the depth that was asked for, and at least 0.
	Fits int
}

// Error names the limit and the depth that fits.
func (e *TooManyRowsError) Error() string {
	return fmt.Sprintf("%v: more than %d; depth %d fits", ErrTooManyRows, e.MaxRows, e.Fits)
}

// Is reports whether target is ErrTooManyRows.
func (e *TooManyRowsError) Is(target error) bool { return target == ErrTooManyRows }
