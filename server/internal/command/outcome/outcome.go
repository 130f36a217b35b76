// Package outcome says what a check of histories has found, and with which status the
// program ends.
package outcome

import (
	"fmt"
	"io"
	"strings"
)

// The statuses with which the program ends.
const (
	// Failed is that of an error, and of a check that has found something altered or lost.
	Failed = 1
	// Unknown is that of a check that could not be made, and of a command that was not
	// given as it should be.
	Unknown = 2
)

// An Error is an error with the status with which the program ends.
type Error struct {
	Err    error
	Status int
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error that it has.
func (e *Error) Unwrap() error { return e.Err }

// A Finding is something that was altered or lost.
type Finding struct {
	// History and Sequence name the entry; empty and 0 where it is about none.
	History  string
	Sequence int64
	// RegistrationNo and Name are those of the site whose history it is, where the roster
	// has them.
	RegistrationNo, Name string
	// Why says what is wrong.
	Why string
}

// String returns the finding as a line.
func (f Finding) String() string {
	var b strings.Builder
	if f.History != "" {
		b.WriteString(f.History)
		if f.RegistrationNo != "" {
			fmt.Fprintf(&b, " (%s %s)", f.RegistrationNo, f.Name)
		}
		if f.Sequence > 0 {
			fmt.Fprintf(&b, ", sequence %d", f.Sequence)
		}
		b.WriteString(": ")
	}
	// A text from a database may have several lines.
	b.WriteString(strings.Join(strings.Fields(f.Why), " "))
	return b.String()
}

// A Report is what came of a check.
type Report struct {
	// Where names what was checked.
	Where string
	// Histories, Entries, Imports and Photos count what was checked. Imports and Photos
	// are -1 where they were not.
	Histories, Entries, Imports, Photos int64
	// SetAside counts the entries that repairs have set aside; -1 where that is not known.
	SetAside int64
	Findings []Finding
	// More counts the findings that are not among Findings.
	More int64
}

// Print prints a line for each finding and a summary.
func (r Report) Print(w io.Writer) error {
	for _, f := range r.Findings {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	what := []string{fmt.Sprintf("%d histories with %d entries", r.Histories, r.Entries)}
	if r.Imports >= 0 {
		what = append(what, fmt.Sprintf("the rows of %d imports", r.Imports))
	}
	if r.Photos >= 0 {
		what = append(what, fmt.Sprintf("%d photos", r.Photos))
	}
	result := "all is well"
	if n := int64(len(r.Findings)) + r.More; n > 0 {
		result = fmt.Sprintf("findings: %d", n)
	}
	if r.SetAside > 0 {
		result += fmt.Sprintf("; entries that were set aside before: %d", r.SetAside)
	}
	_, err := fmt.Fprintf(w, "Checked %s: %s; %s.\n", r.Where, strings.Join(what, ", "), result)
	return err
}

// Err returns nil where all is well, or an error with the status Failed.
func (r Report) Err() error {
	if len(r.Findings) == 0 {
		return nil
	}
	return &Error{fmt.Errorf("%s: something was altered or lost; docs/operating.md says what to do, under \"When something is wrong\"", r.Where), Failed}
}
