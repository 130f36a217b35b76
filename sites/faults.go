package sites

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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

// FieldErrors are all that is wrong with a value, two or more. They are in the order of
// its fields, and each field is in them once.
type FieldErrors []*FieldError

// Error returns a line for each field.
func (e FieldErrors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors of the fields.
func (e FieldErrors) Unwrap() []error {
	out := make([]error, len(e))
	for i, f := range e {
		out[i] = f
	}
	return out
}

// FieldErrorsOf returns the errors of fields that err is or wraps; none where it is about
// no field.
func FieldErrorsOf(err error) FieldErrors {
	if err == nil {
		return nil
	}
	var all FieldErrors
	if errors.As(err, &all) {
		return all
	}
	var one *FieldError
	if errors.As(err, &one) {
		return FieldErrors{one}
	}
	return nil
}

// Faults gathers what is wrong with a value, so that whoever sent it learns all of it at
// once. The zero value has nothing, and costs nothing. Of each field the first fault
// counts: what else is said of it may only follow from that. Of more than MaxFaults, the
// first count.
type Faults struct{ list FieldErrors }

// MaxFaults is how many faults are gathered of one value: more than an order of as many
// divisions as it can name has, all of which are wrong. One request could have a million,
// of which nobody reads so many, and each is compared with all that were found before.
const MaxFaults = 2000

// Add adds what is wrong with a field; nil is nothing.
func (f *Faults) Add(field string, err error) {
	if err != nil && len(f.list) < MaxFaults && !slices.ContainsFunc(f.list, func(e *FieldError) bool { return e.Field == field }) {
		f.list = append(f.list, &FieldError{field, err})
	}
}

// Join adds what an error says of fields; nil says nothing.
func (f *Faults) Join(err error) {
	for _, e := range FieldErrorsOf(err) {
		f.Add(e.Field, e.Err)
	}
}

// Err returns a *FieldError for one fault, FieldErrors for more, and else nil.
func (f *Faults) Err() error {
	switch len(f.list) {
	case 0:
		return nil
	case 1:
		return f.list[0]
	}
	return f.list
}

// JoinFaults returns what the errors say of fields as one error. An error that is about no
// field, such as that of a store, is about the whole, and is returned alone.
func JoinFaults(errs ...error) error {
	var f Faults
	for _, err := range errs {
		if err != nil && FieldErrorsOf(err) == nil {
			return err
		}
		f.Join(err)
	}
	return f.Err()
}

// A ValueError says what is wrong with a value in itself. What it says goes on from the
// field's name.
type ValueError struct {
	// Kind is ErrInvalid, or one of the errors that are a kind of it.
	Kind error
	// Least and Most bound the value: a number, a time.Duration or a time.Time. Of
	// ErrTooLong Most alone does, which counts Unit. They are nil where there is no bound.
	Least, Most any
	Unit        Unit

	text string
}

// A Unit is what a bound of ErrTooLong counts.
type Unit int

// The units.
const (
	Characters Unit = iota
	Items
	Bytes
)

func (e *ValueError) Error() string { return e.text }

// Unwrap returns the kind.
func (e *ValueError) Unwrap() error { return e.Kind }

// Invalid returns a FieldError that wraps ErrInvalid. What it says goes on from
// the field's name, such as "must name a village".
func Invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Err: invalidf(format, args...)}
}

// invalidf returns an error that wraps ErrInvalid and says why.
func invalidf(format string, args ...any) error {
	return &ValueError{Kind: ErrInvalid, text: fmt.Sprintf(format, args...)}
}

// Missing returns a FieldError that wraps ErrMissing. What it says goes on from
// "is missing", such as ": every order has an end".
func Missing(field, more string) error {
	return &FieldError{Field: field, Err: missing(more)}
}

func missing(more string) error {
	return &ValueError{Kind: ErrMissing, text: ErrMissing.Error() + more}
}

// OutOfRange returns a FieldError that wraps ErrOutOfRange and names the bounds, both of
// which are allowed.
func OutOfRange(field string, least, most any) error {
	return &FieldError{Field: field, Err: &ValueError{
		Kind: ErrOutOfRange, Least: least, Most: most, text: fmt.Sprintf("must lie between %v and %v", least, most),
	}}
}

// TooLong returns a FieldError that wraps ErrTooLong, of a text or a list that has n of
// the unit, and may have at most most.
func TooLong(field string, n, most int, unit Unit) error {
	return &FieldError{Field: field, Err: tooLong(n, most, unit)}
}

func tooLong(n, most int, unit Unit) error {
	text := fmt.Sprintf("has %d; at most %d are allowed", n, most)
	switch unit {
	case Characters:
		text = fmt.Sprintf("has %d characters; at most %d are allowed", n, most)
	case Bytes:
		text = fmt.Sprintf("has %d bytes; at most %d are allowed", n, most)
	}
	return &ValueError{Kind: ErrTooLong, Most: most, Unit: unit, text: text}
}

// A kind is a sentinel that is a kind of ErrInvalid.
type kind string

func (k kind) Error() string { return string(k) }

// Unwrap returns ErrInvalid.
func (k kind) Unwrap() error { return ErrInvalid }
