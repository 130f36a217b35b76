package sites

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A DivisionRow is a row of a division table, as it stands in the file.
type DivisionRow struct {
	// Row is its number there, for the problems.
	Row                       int
	Code, Name, Level, Parent string
}

// A DivisionImport is what an import of a division table changed, or would
// have changed.
type DivisionImport struct {
	Created, Ended, Renamed, Regrouped, Unchanged int
	// Displaced are the registered sites that stand in a village that is no
	// more, by registration number. They stay under the divisions that it had
	// until they are moved.
	Displaced []*Site
	// Orphaned are the closure orders, in force or to come, that name a
	// division that is no more.
	Orphaned []*ClosureOrder
	// Changed tells whether an entry was made.
	Changed bool
	// Roster is the roster afterwards.
	Roster *Roster
}

// ImportDivisions makes the table the one that is in force from its effective
// day on. The table speaks for its top rows and all below them: what is in
// force there and not in the table ends on that day, what is new or has
// another name or parent begins. What was in force before stays answerable.
// The day may not lie before a change that the roster already has, unless the
// table says what was in force on that day: that changes nothing.
//
// The error is an *ImportError where rows are wrong; nothing is stored then.
// A table that changes nothing makes no entry.
func (s *Service) ImportDivisions(ctx context.Context, account string, in Import, rows []DivisionRow) (*DivisionImport, error) {
	var table *divisionTable
	var out *DivisionImport
	changed, r, err := importTable(ctx, s, account, in, len(rows), KindDivisionsImported, func(r *Roster, effective time.Time) ([]divisionChange, func(string) Content, error) {
		if table == nil {
			table = readDivisionRows(rows)
		}
		plan, n, err := s.planDivisions(r, table, effective)
		if err != nil {
			return nil, nil, err
		}
		out = n
		next := r.preview(plan, effective)
		out.Displaced = next.displaced(effective)
		out.Orphaned = next.orphaned(effective)
		return plan, func(sum string) Content {
			return Content{Divisions: &DivisionsImported{
				Source: in.Source, Effective: effective.UTC(), Rows: sum,
				Created: n.Created, Ended: n.Ended, Renamed: n.Renamed, Regrouped: n.Regrouped,
			}}
		}, nil
	})
	if err != nil {
		return nil, err
	}
	out.Changed, out.Roster = changed, r
	return out, nil
}

// tableRow is a row of a division table. Level and Parent are empty where the
// row's own are wrong.
type tableRow struct {
	row int
	divisionChange
}

// divisionTable is a division table that was read without the roster.
type divisionTable struct {
	// rows are those that have a code of their own, also where something else
	// is wrong with them, so that the rows below are not reported for its sake.
	rows     []tableRow
	byCode   map[DivisionCode]int // index into rows
	problems problems
}

// readDivisionRows checks what can be checked without the roster.
func readDivisionRows(rows []DivisionRow) *divisionTable {
	t := &divisionTable{rows: make([]tableRow, 0, len(rows)), byCode: make(map[DivisionCode]int, len(rows))}
	p := &t.problems
	for _, in := range rows {
		row := tableRow{row: in.Row, divisionChange: divisionChange{Op: beginDivision, Name: in.Name}}
		check := func(column string, err error) {
			if err != nil {
				p.add(in.Row, column, err)
			}
		}
		var err error
		row.Code, err = ParseDivisionCode(in.Code)
		check("code", err)
		if level, known := levelWords[in.Level]; known {
			row.Level = level
		} else {
			check("level", invalidf("%q is no level: want city, county, township or village", clip(in.Level)))
		}
		level := row.Level
		if row.Code != "" && level != 0 && len(row.Code) != level.digits() {
			p.sayf(in.Row, "level", "a %s has a code of %d digits; %s has %d", level, level.digits(), row.Code, len(row.Code))
			row.Level = 0
		}
		if why := textProblem(in.Name, 1, MaxName); why != "" {
			check("name", invalidf("%s", why))
		}
		switch {
		case in.Parent != "" && level == City:
			p.sayf(in.Row, "parent_code", "a city has no parent")
		case in.Parent != "":
			row.Parent, err = ParseDivisionCode(in.Parent)
			check("parent_code", err)
		case level > City:
			p.sayf(in.Row, "parent_code", "is missing: a %s lies in a %s", level, level-1)
		}
		if row.Code != "" {
			if first, twice := t.byCode[row.Code]; twice {
				p.sayf(in.Row, "code", "%s is also in row %d", row.Code, t.rows[first].row)
				continue
			}
			t.byCode[row.Code] = len(t.rows)
			t.rows = append(t.rows, row)
		}
	}
	return t
}

// planDivisions compares the table with what is in force. Its error has also
// the problems that were found when the table was read.
func (s *Service) planDivisions(r *Roster, t *divisionTable, effective time.Time) ([]divisionChange, *DivisionImport, error) {
	if t.problems.Total == 0 && r.hasTable(t, effective) {
		return nil, &DivisionImport{Unchanged: len(t.rows)}, nil
	}
	p := t.problems
	p.Problems = slices.Clone(p.Problems) // for a change is planned again where others came first
	n := &DivisionImport{}
	var plan []divisionChange
	latest := time.Time{} // of the changes that the roster has to what the table speaks for
	see := func(code DivisionCode) {
		for _, v := range r.Versions(code) {
			latest = later(later(latest, v.From), v.To)
		}
	}
	// levelOf returns the level that a code has, or else is to have; 0 where the
	// table's is wrong. A row with a wrong level is one problem, and not one for
	// each row below it too.
	levelOf := func(code DivisionCode) Level {
		if d, ok := r.open(code); ok {
			return d.Level
		}
		if i, ok := t.byCode[code]; ok {
			return t.rows[i].Level
		}
		return 0
	}
	for _, row := range t.rows {
		see(row.Code)
		old, exists := r.open(row.Code)
		level := levelOf(row.Code)
		if row.Parent != "" {
			_, inTable := t.byCode[row.Parent]
			_, inForce := r.open(row.Parent)
			parent := levelOf(row.Parent)
			switch {
			case !inTable && !inForce && len(r.Versions(row.Parent)) > 0:
				p.add(row.row, "parent_code", fmt.Errorf("%s is not in the table: %w", row.Parent, ErrDivisionEnded))
			case !inTable && !inForce:
				p.add(row.row, "parent_code", fmt.Errorf("%s is neither in the table nor in force: %w", row.Parent, ErrDivisionUnknown))
			case row.Level != 0 && parent != 0 && parent != level-1:
				p.sayf(row.row, "parent_code", "%s is a %s; a %s lies in a %s", row.Parent, parent, level, level-1)
			}
		}
		switch {
		case row.Level == 0: // which is reported already
		case exists && old.Level != row.Level:
			p.sayf(row.row, "level", "%s is a %s, and a code's level never changes", row.Code, old.Level)
		case exists && old.Name == row.Name && old.Parent == row.Parent:
			n.Unchanged++
			continue
		case !exists:
			n.Created++
		case old.Parent != row.Parent:
			n.Regrouped++
		default:
			n.Renamed++
		}
		plan = append(plan, row.divisionChange)
	}
	if err := p.err(); err != nil {
		return nil, nil, err
	}
	for _, row := range t.rows {
		if _, inTable := t.byCode[row.Parent]; inTable {
			continue
		}
		r.descend(row.Code, func(d Division) {
			see(d.Code)
			if _, stays := t.byCode[d.Code]; !stays {
				n.Ended++
				plan = append(plan, divisionChange{Op: endDivision, Code: d.Code, Name: d.Name, Level: d.Level, Parent: d.Parent})
			}
		})
	}
	if latest.After(effective) {
		return nil, nil, Invalid("effective_date", "is %s, but a later table is in force since %s; give that day or a later one",
			effective.In(s.Zone).Format(time.DateOnly), latest.In(s.Zone).Format(time.DateOnly))
	}
	return plan, n, nil
}

// hasTable reports whether the table says what was in force at the time, also
// where a later table is in force by now.
func (r *Roster) hasTable(t *divisionTable, at time.Time) bool {
	for _, row := range t.rows {
		d, err := r.Division(row.Code, at)
		if err != nil || d.Name != row.Name || d.Level != row.Level || d.Parent != row.Parent {
			return false
		}
		for _, below := range r.Children(row.Code, at) {
			if _, ok := t.byCode[below.Code]; !ok {
				return false
			}
		}
	}
	return true
}

// descend calls f for the division and all below it that have no end.
func (r *Roster) descend(code DivisionCode, f func(Division)) {
	if d, ok := r.open(code); ok {
		f(d)
	}
	for _, n := range r.childNumbers(code) {
		c := r.divisions.at(n).code
		if v, ok := r.open(c); ok && v.Parent == code {
			r.descend(c, f)
		}
	}
}

// displaced returns the sites registered at t or later that then stand in a
// village that is not in force.
func (r *Roster) displaced(t time.Time) []*Site {
	var out []*Site
	for s := range r.Sites() {
		if !s.Deregistered.IsZero() && !s.Deregistered.After(t) {
			continue
		}
		last := s.Places[len(s.Places)-1]
		if _, err := r.Division(last.Division, later(t, last.From)); errors.Is(err, ErrDivisionEnded) {
			out = append(out, s)
		}
	}
	return out
}

// orphaned returns the orders that run at t or later and name a division that
// is not in force then.
func (r *Roster) orphaned(t time.Time) []*ClosureOrder {
	var out []*ClosureOrder
	for _, o := range r.Orders() {
		if o.End.After(t) && slices.ContainsFunc(o.Divisions, func(c DivisionCode) bool {
			_, err := r.Division(c, later(t, o.Start))
			return err != nil
		}) {
			out = append(out, o)
		}
	}
	return out
}
