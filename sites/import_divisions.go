package sites

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"xuncha/ledger"
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
	// EndedCodes are the divisions that end, by code.
	EndedCodes []DivisionCode
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
// A parent is any division of a wider level, of the table or in force. A nation,
// a province or a city may be without one; where it is in force and has one, it
// keeps it: a city's own table, in which nothing is above the city, does not take
// the city out of its province.
//
// The error is an *ImportError where rows are wrong; nothing is stored then.
// A table that changes nothing makes no entry.
func (s *Service) ImportDivisions(ctx context.Context, by By, in Import, rows []DivisionRow) (*DivisionImport, error) {
	by = by.sayingTable("ImportDivisions", in, func(d *ledger.Digester) {
		for i := range rows {
			row := &rows[i]
			d.Add(string(DivisionCode(row.Code).Shortest()), row.Name, row.Level, string(DivisionCode(row.Parent).Shortest()))
		}
	})
	var table *divisionTable
	var out *DivisionImport
	all := len(rows)
	changed, r, again, err := importTable(ctx, s, by, in, all, KindDivisionsImported, func(r *Roster, effective time.Time) ([]divisionChange, func(string) Content, error) {
		if table == nil {
			table = readDivisionRows(rows)
		}
		plan, n, err := s.planDivisions(r, s.rightsOn(r, by), table, effective)
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
	}, func() { rows, table = nil, nil })
	if err != nil {
		return nil, err
	}
	if again != nil {
		c := again.Divisions
		out = &DivisionImport{
			Created: c.Created, Ended: c.Ended, Renamed: c.Renamed, Regrouped: c.Regrouped,
			Unchanged: all - c.Created - c.Renamed - c.Regrouped,
			Displaced: r.displaced(c.Effective), Orphaned: r.orphaned(c.Effective),
		}
		if out.EndedCodes, err = s.endedBy(ctx, c); err != nil {
			return nil, err
		}
	}
	out.Changed, out.Roster = changed, r
	return out, nil
}

// endedBy returns the codes of the divisions that an import has ended.
func (s *Service) endedBy(ctx context.Context, c *DivisionsImported) (codes []DivisionCode, err error) {
	if c.Ended == 0 {
		return nil, nil
	}
	rows, err := readRows(ctx, s.Rows, c.Rows, divisionChange.whole)
	for _, row := range rows {
		if row.Op == endDivision {
			codes = append(codes, row.Code)
		}
	}
	return codes, err
}

// tableRow is a row of a division table. Level and Parent are empty where the
// row's own are wrong.
type tableRow struct {
	in *DivisionRow
	divisionChange
	// name is what is wrong with the name, unless the division has it already: it may be
	// of a time with other rules.
	name error
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
	for i := range rows {
		in := &rows[i]
		row := tableRow{in: in, divisionChange: divisionChange{Op: beginDivision, Name: in.Name}}
		check := func(column string, err error) {
			if err != nil {
				p.add(in.Row, column, err)
			}
		}
		var err error
		if row.Code, err = ParseDivisionCode(in.Code); in.Code == "" {
			err = missing("")
		}
		check("code", err)
		row.Level = readLevel(in.Level, row.Code, in.Parent != "")
		if in.Level == "" {
			check("level", missing(""))
		} else if row.Level == 0 {
			p.sayf(in.Row, "level", "%q is no level: want nation, province, city, county, township or village, or a word such as 省, 自治州, 县, 街道 or 社区", clip(in.Level))
		} else if n := len(row.Code); n != 0 && n != row.Level.digits() {
			has := fmt.Sprintf("%s has %d", row.Code, n)
			if in.Code != string(row.Code) {
				has = fmt.Sprintf("%s stands for %s, which has %d", in.Code, row.Code, n)
			}
			p.sayf(in.Row, "level", "a %s has a code of %d digits; %s", row.Level, row.Level.digits(), has)
			row.Level = 0
		} else if row.Level == Nation && row.Code != "" && row.Code != nationCode {
			p.sayf(in.Row, "level", "a nation has the code %s; %s is another division's", nationCode, in.Code)
			row.Level = 0
		}
		row.name = textProblem(in.Name, 1, MaxName)
		if _, twice := t.byCode[row.Code]; twice || row.Code == "" {
			check("name", row.name) // for the row itself is left out
		}
		if in.Parent != "" {
			row.Parent, err = ParseDivisionCode(in.Parent)
			check("parent_code", err)
		}
		if row.Code != "" {
			if first, twice := t.byCode[row.Code]; twice {
				other := t.rows[first].in
				if other.Code == in.Code {
					p.sayf(in.Row, "code", "%s is also in row %d", in.Code, other.Row)
				} else {
					p.sayf(in.Row, "code", "%s is the same as %s in row %d", in.Code, other.Code, other.Row)
				}
				continue
			}
			t.byCode[row.Code] = len(t.rows)
			t.rows = append(t.rows, row)
		}
	}
	return t
}

// settled returns the table with the level that the roster has of a division,
// where the row's word leaves open which one it means.
func (t *divisionTable) settled(r *Roster) *divisionTable {
	out := t
	for i, row := range t.rows {
		levels, open := openWords[row.in.Level]
		versions := r.Versions(row.Code)
		if !open || row.Level == 0 || len(versions) == 0 {
			continue
		}
		if had := versions[len(versions)-1].Level; had != row.Level && slices.Contains(levels, had) {
			if out == t {
				c := *t
				c.rows = slices.Clone(t.rows)
				out = &c
			}
			out.rows[i].Level = had
		}
	}
	return out
}

// planDivisions compares the table with what is in force. Its error has also
// the problems that were found when the table was read.
func (s *Service) planDivisions(r *Roster, may *rights, t *divisionTable, effective time.Time) ([]divisionChange, *DivisionImport, error) {
	t = t.settled(r)
	p := t.problems
	p.Problems = slices.Clone(p.Problems) // for a change is planned again where others came first
	foreign := t.foreign(may, effective, &p)
	if p.Total == 0 && r.hasTable(t, effective) {
		return nil, &DivisionImport{Unchanged: len(t.rows)}, nil
	}
	n := &DivisionImport{}
	var plan []divisionChange
	var newest newestChange // of those that the roster has of what the table speaks for
	ends := t.ends(r)
	for i, row := range t.rows {
		if foreign[i] {
			continue // which is reported already, and no more is said of it
		}
		newest.see(r, row.Code)
		old, exists := r.open(row.Code)
		if !exists || old.Name != row.Name {
			p.check(row.in.Row, "name", row.name)
		}
		row.Parent = t.parent(r, row)
		if err := t.checkParent(r, row, ends); err != nil {
			p.add(row.in.Row, "parent_code", err)
		}
		switch {
		case row.Level == 0: // which is reported already
		case exists && old.Level != row.Level:
			p.sayf(row.in.Row, "level", "%s is a %s, and a code's level never changes", row.in.Code, old.Level)
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
	for _, code := range slices.Sorted(maps.Keys(ends)) {
		d := ends[code]
		newest.see(r, code)
		n.Ended++
		n.EndedCodes = append(n.EndedCodes, code)
		plan = append(plan, divisionChange{Op: endDivision, Code: code, Name: d.Name, Level: d.Level, Parent: d.Parent})
	}
	if newest.time.After(effective) {
		return nil, nil, &FieldError{"effective_date", s.beforeChange(effective, newest)}
	}
	return plan, n, nil
}

// checkParent returns what is wrong with the parent that the row has, or keeps.
// ends are the divisions that the table ends.
func (t *divisionTable) checkParent(r *Roster, row tableRow, ends map[DivisionCode]Division) error {
	if row.in.Parent == "" && row.Level != 0 && !levels[row.Level].top {
		return missing(": only a nation, a province or a city may be without a parent")
	}
	if row.Parent == "" {
		return nil
	}
	written := cmp.Or(row.in.Parent, string(row.Parent))
	_, inTable := t.byCode[row.Parent]
	_, inForce := r.open(row.Parent)
	_, isEnded := ends[row.Parent]
	switch {
	case !inTable && !inForce && len(r.Versions(row.Parent)) > 0:
		return fmt.Errorf("%s is not in the table: %w", written, ErrDivisionEnded)
	case !inTable && !inForce:
		return fmt.Errorf("%s is neither in the table nor in force: %w", written, ErrDivisionUnknown)
	case isEnded && t.problems.Total == 0: // else its row may be one that cannot be read
		return invalidf("%s is not in the table, which ends it", written)
	}
	level, parent := t.levelOf(r, row.Code), t.levelOf(r, row.Parent)
	if row.Level == 0 || parent == 0 || parent.Wider(level) {
		return nil
	}
	if level == Levels[0] {
		return invalidf("%s is a %s; a %s lies in no other division", written, parent, level)
	}
	return invalidf("%s is a %s; a %s lies in a division of a wider level", written, parent, level)
}

// levelOf returns the level that a code has, or else is to have; 0 where the
// table's is wrong. A row with a wrong level is one problem, and not one for
// each row below it too.
func (t *divisionTable) levelOf(r *Roster, code DivisionCode) Level {
	if d, ok := r.open(code); ok {
		return d.Level
	}
	if i, ok := t.byCode[code]; ok {
		return t.rows[i].Level
	}
	return 0
}

// ends returns what is in force below a row of the table and has none itself.
func (t *divisionTable) ends(r *Roster) map[DivisionCode]Division {
	out := map[DivisionCode]Division{}
	for _, row := range t.rows {
		r.descend(row.Code, func(d Division) bool {
			if d.Code == row.Code {
				return true
			}
			if _, stays := t.byCode[d.Code]; stays {
				return false // its own row goes on from there
			}
			out[d.Code] = d
			return true
		})
	}
	return out
}

// hasTable reports whether the table says what was in force at the time, also
// where a later table is in force by now.
func (r *Roster) hasTable(t *divisionTable, at time.Time) bool {
	for _, row := range t.rows {
		d, err := r.Division(row.Code, at)
		if err != nil || d.Name != row.Name || d.Level != row.Level {
			return false
		}
		if keeps := row.in.Parent == "" && levels[row.Level].top; !keeps && d.Parent != row.Parent {
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

// descend calls f for the division and, where f says so, for those below it,
// as far as they have no end.
func (r *Roster) descend(code DivisionCode, f func(Division) bool) {
	if d, ok := r.open(code); ok && !f(d) {
		return
	}
	for _, n := range r.childNumbers(code) {
		c := r.divisions.At(n).code
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
