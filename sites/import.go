package sites

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"xuncha/ledger"
)

// MaxProblems is how many problems of one import are listed; the rest are
// only counted.
const MaxProblems = 100

// MaxImportRows is how many rows one import can have.
const MaxImportRows = 1_000_000

// A Problem is one thing that is wrong in an imported table.
type Problem struct {
	// Row is the row's number as the importer counts it.
	Row int
	// Column is the column's name, such as "parent_code".
	Column string
	// Err says what is wrong; it wraps one of the package's errors.
	Err error
}

func (p Problem) String() string { return fmt.Sprintf("row %d, %s: %v", p.Row, p.Column, p.Err) }

// An ImportError lists what is wrong in an imported table. It wraps
// ErrImportRejected.
type ImportError struct {
	// Problems are the first MaxProblems, by row.
	Problems []Problem
	// Total counts all of them.
	Total int
}

func (e *ImportError) Error() string {
	return fmt.Sprintf("%v: %d problems, the first in %s", ErrImportRejected, e.Total, e.Problems[0])
}

// Unwrap returns ErrImportRejected.
func (e *ImportError) Unwrap() error { return ErrImportRejected }

// problems gathers what is wrong in a table, by row, of one row in the order in
// which it was found.
type problems struct{ ImportError }

func (p *problems) add(row int, column string, err error) {
	p.Total++
	at, _ := slices.BinarySearchFunc(p.Problems, row+1, func(q Problem, row int) int { return cmp.Compare(q.Row, row) })
	if at == MaxProblems {
		return
	}
	if len(p.Problems) == MaxProblems {
		p.Problems = p.Problems[:MaxProblems-1]
	}
	p.Problems = slices.Insert(p.Problems, at, Problem{row, column, err})
}

// check adds what a check has found; nil is nothing.
func (p *problems) check(row int, column string, err error) {
	if err != nil {
		p.add(row, column, err)
	}
}

func (p *problems) sayf(row int, column, format string, args ...any) {
	p.add(row, column, invalidf(format, args...))
}

func (p *problems) err() error {
	if p.Total == 0 {
		return nil
	}
	return &p.ImportError
}

// An Import says how a table is to be taken over.
type Import struct {
	// Effective is the first day, such as 2019-10-31, on which what the table
	// says holds. Only a site import may leave it out: it means today.
	Effective string
	// Source is what the table is called in the roster's history, such as the
	// name of its file.
	Source string
	// DryRun checks everything and changes nothing.
	DryRun bool
}

// importTable stores what plan makes of a table of n rows and the newest roster: the
// rows of what changes, and the content of the entry that names them by their
// SHA-256. A dry run, and a plan without rows, store nothing. Once they are stored, stored
// is called, and plan is not asked again. It returns the roster afterwards.
//
// Where the request has imported the table before, plan is not asked, again is the content
// of that entry, and the roster is the one after it.
func importTable[T any](ctx context.Context, s *Service, by By, in Import, n int, kind ledger.Kind,
	plan func(r *Roster, effective time.Time) (rows []T, content func(sum string) Content, err error), stored func(),
) (changed bool, after *Roster, again *Content, err error) {
	var f Faults
	effective := s.checkImport(in, &f)
	switch {
	case n == 0:
		f.Join(Missing("rows", fmt.Sprintf(": a table has 1 to %d", MaxImportRows)))
	case n > MaxImportRows:
		f.Join(TooLong("rows", n, MaxImportRows, Items))
	}
	if err := f.Err(); err != nil {
		return false, nil, nil, err
	}
	after, before, err := s.change(ctx, by, func(r *Roster) (*decision, error) {
		rows, content, err := plan(r, effective)
		changed = err == nil && !in.DryRun && len(rows) > 0
		if !changed {
			return nil, err
		}
		lines, sum, err := marshalRows(rows)
		return &decision{kind: kind, content: content(sum), rows: lines, rowsSum: sum, stored: stored}, err
	})
	if err != nil || before == nil {
		return changed, after, nil, err
	}
	c, err := ParseContent(*before)
	if err == nil {
		after, err = s.rosterAt(ctx, after, before.Sequence)
	}
	return true, after, &c, err
}

// checkImport adds what is wrong with how a table is to be taken over, and returns when it
// takes effect.
func (s *Service) checkImport(in Import, f *Faults) time.Time {
	if in.Effective == "" {
		f.Join(Missing("effective_date", ""))
	}
	effective, err := s.Day(in.Effective)
	if err == nil {
		err = s.checkEffect(effective)
	}
	f.Add("effective_date", err)
	f.Add("source", textProblem(in.Source, 0, MaxName))
	return effective
}
