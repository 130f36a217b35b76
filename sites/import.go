package sites

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
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
	// more, by registration number. They keep their old place in the hierarchy
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
	effective, err := s.Day(in.Effective)
	if err != nil {
		return nil, &FieldError{"effective_date", err}
	}
	if err := checkText("source", in.Source, 0, MaxName); err != nil {
		return nil, err
	}
	if len(rows) == 0 || len(rows) > MaxImportRows {
		return nil, Invalid("rows", "are %d; a table has 1 to %d", len(rows), MaxImportRows)
	}
	table := readDivisionRows(rows)
	var out *DivisionImport
	r, err := s.change(ctx, account, func(r *Roster) (*decision, error) {
		plan, n, err := s.planDivisions(r, table, effective)
		if err != nil {
			return nil, err
		}
		out = n
		next := r.preview(plan, effective)
		out.Displaced = next.displaced(effective)
		out.Orphaned = next.orphaned(effective)
		if in.DryRun || len(plan) == 0 {
			return nil, nil
		}
		out.Changed = true
		lines, sum, err := marshalRows(plan)
		return &decision{
			kind: KindDivisionsImported,
			content: Content{Divisions: &DivisionsImported{
				Source: in.Source, Effective: effective.UTC(), Rows: sum,
				Created: n.Created, Ended: n.Ended, Renamed: n.Renamed, Regrouped: n.Regrouped,
			}},
			rows: lines, rowsSum: sum,
		}, err
	})
	if err != nil {
		return nil, err
	}
	out.Roster = r
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

// open returns the version of the code that has no end.
func (r *Roster) open(code DivisionCode) (Division, bool) {
	v := r.Versions(code)
	if len(v) == 0 || !v[len(v)-1].To.IsZero() {
		return Division{}, false
	}
	return v[len(v)-1], true
}

// descend calls f for the division and all below it that have no end.
func (r *Roster) descend(code DivisionCode, f func(Division)) {
	if d, ok := r.open(code); ok {
		f(d)
	}
	if d, ok := r.divisions[code]; ok {
		for _, c := range d.children {
			if v, ok := r.open(c); ok && v.Parent == code {
				r.descend(c, f)
			}
		}
	}
}

// displaced returns the sites registered at t or later that then stand in a
// village that is not in force.
func (r *Roster) displaced(t time.Time) []*Site {
	var out []*Site
	for _, s := range r.listed {
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
	for _, o := range r.orderList {
		if o.End.After(t) && slices.ContainsFunc(o.Divisions, func(c DivisionCode) bool {
			_, err := r.Division(c, later(t, o.Start))
			return err != nil
		}) {
			out = append(out, o)
		}
	}
	return out
}

// A SiteRow is a row of a table of sites, as it stands in the file. A cell
// that is empty says nothing: of a site that is on the roster it changes
// nothing.
type SiteRow struct {
	// Row is its number there, for the problems.
	Row                          int
	RegistrationNo, Name         string
	Division, Address            string
	Latitude, Longitude          string // decimal degrees, WGS 84
	RegisteredOn, DeregisteredOn string // days such as 2019-12-31
}

// A SiteImport is what an import of sites changed, or would have changed. Each
// row counts once, as the first of these that it is.
type SiteImport struct {
	Registered, Deregistered, Moved, Updated, Unchanged int
	// Changed tells whether an entry was made.
	Changed bool
	// Roster is the roster afterwards.
	Roster *Roster
}

// ImportSites registers the sites of a table, and moves, strikes off or
// corrects those that the roster has already, known by their registration
// number. Sites that are not in the table stay as they are.
//
// The error is an *ImportError where rows are wrong; nothing is stored then.
// A table that changes nothing makes no entry.
func (s *Service) ImportSites(ctx context.Context, account string, in Import, rows []SiteRow) (*SiteImport, error) {
	if in.Effective == "" {
		in.Effective = s.Now().In(s.Zone).Format(time.DateOnly)
	}
	effective, err := s.Day(in.Effective)
	if err != nil {
		return nil, &FieldError{"effective_date", err}
	}
	if err := checkText("source", in.Source, 0, MaxName); err != nil {
		return nil, err
	}
	if len(rows) == 0 || len(rows) > MaxImportRows {
		return nil, Invalid("rows", "are %d; a table has 1 to %d", len(rows), MaxImportRows)
	}
	var out *SiteImport
	r, err := s.change(ctx, account, func(r *Roster) (*decision, error) {
		n := &SiteImport{}
		plan, err := s.planSites(r, rows, effective, n)
		if err != nil {
			return nil, err
		}
		out = n
		if in.DryRun || len(plan) == 0 {
			return nil, nil
		}
		out.Changed = true
		lines, sum, err := marshalRows(plan)
		return &decision{
			kind: KindSitesImported,
			content: Content{Sites: &SitesImported{
				Source: in.Source, Effective: effective.UTC(), Rows: sum,
				Registered: n.Registered, Updated: n.Updated, Moved: n.Moved, Deregistered: n.Deregistered,
			}},
			rows: lines, rowsSum: sum,
		}, err
	})
	if err != nil {
		return nil, err
	}
	out.Roster = r
	return out, nil
}

// planSites returns the sites that the rows change, as they are afterwards.
func (s *Service) planSites(r *Roster, rows []SiteRow, effective time.Time, n *SiteImport) ([]*Site, error) {
	var p problems
	var plan []*Site
	seen := make(map[string]int, len(rows))
	for _, row := range rows {
		before := p.Total
		if why := textProblem(row.RegistrationNo, 1, MaxRegistrationNo); why != "" {
			p.sayf(row.Row, "registration_no", "%s", why)
		} else if first, twice := seen[row.RegistrationNo]; twice {
			p.sayf(row.Row, "registration_no", "%q is also in row %d", clip(row.RegistrationNo), first)
		} else {
			seen[row.RegistrationNo] = row.Row
		}
		old, _ := r.SiteByRegistration(row.RegistrationNo)
		site := s.readSiteRow(r, row, old, effective, &p)
		if p.Total > before {
			continue
		}
		switch {
		case old == nil:
			site.ID = SiteID(s.NewID())
			n.Registered++
		case old.Deregistered.IsZero() && !site.Deregistered.IsZero():
			n.Deregistered++
		case len(site.Places) > len(old.Places):
			n.Moved++
		case site.Name != old.Name || !site.Registered.Equal(old.Registered) || !site.Deregistered.Equal(old.Deregistered) ||
			!samePlace(site.Places[len(site.Places)-1], old.Places[len(old.Places)-1]):
			n.Updated++
		default:
			n.Unchanged++
			continue
		}
		plan = append(plan, site)
	}
	return plan, p.err()
}

// readSiteRow returns the site that the row makes, of old where that is not
// nil, adding what is wrong to p.
func (s *Service) readSiteRow(r *Roster, row SiteRow, old *Site, effective time.Time, p *problems) *Site {
	site := &Site{RegistrationNo: row.RegistrationNo}
	if old != nil {
		c := *old
		site = &c
	}
	if row.Name != "" || old == nil {
		if why := textProblem(row.Name, 1, MaxName); why != "" {
			p.sayf(row.Row, "name", "%s", why)
		}
		site.Name = row.Name
	}
	day := func(column, cell string, to *time.Time) {
		if cell == "" {
			return
		}
		if t, err := s.Day(cell); err != nil {
			p.add(row.Row, column, err)
		} else if !t.Equal(*to) {
			*to = t.UTC()
		}
	}
	day("registered_on", row.RegisteredOn, &site.Registered)
	day("deregistered_on", row.DeregisteredOn, &site.Deregistered)
	if old == nil && row.RegisteredOn == "" {
		p.sayf(row.Row, "registered_on", "must not be empty")
	}
	if !site.Deregistered.IsZero() && !site.Deregistered.After(site.Registered) {
		p.sayf(row.Row, "deregistered_on", "must lie after registered_on")
	}
	s.readPlace(r, row, site, old, effective, p)
	return site
}

// readPlace puts the place that the row names into site.
func (s *Service) readPlace(r *Roster, row SiteRow, site, old *Site, effective time.Time, p *problems) {
	place := Place{Division: DivisionCode(row.Division), Address: row.Address, Position: readPosition(row, p)}
	if why := textProblem(row.Address, 0, MaxAddress); why != "" {
		p.sayf(row.Row, "address", "%s", why)
	}
	var last Place
	if old != nil {
		last = old.Places[len(old.Places)-1]
	}
	if old != nil && (row.Division == "" || place.Division == last.Division) {
		place.Division, place.From = last.Division, last.From
		if row.Address == "" {
			place.Address = last.Address
		}
		if place.Position == nil {
			place.Position = last.Position
		}
		site.Places = append(slices.Clone(old.Places[:len(old.Places)-1]), place)
		if len(site.Places) == 1 {
			site.Places[0].From = site.Registered
		}
		return
	}
	s.checkVillage(r, row, site, effective, p)
	if old == nil {
		place.From = site.Registered
		site.Places = []Place{place}
		return
	}
	place.From = effective.UTC()
	if !effective.After(last.From) {
		p.sayf(row.Row, "division_code", "the site stands at its present place since %s; a move must take effect after that", s.moment(last.From))
	}
	if !old.Deregistered.IsZero() {
		p.add(row.Row, "division_code", fmt.Errorf("a move of a site that is not registered: %w", ErrSiteStruckOff))
	}
	site.Places = append(slices.Clone(old.Places), place)
}

// checkVillage checks the division that a row newly puts a site in: a village
// in force on the effective day, or, of a site that was struck off before, on
// its last day.
func (s *Service) checkVillage(r *Roster, row SiteRow, site *Site, effective time.Time, p *problems) {
	code, err := ParseDivisionCode(row.Division)
	if err != nil {
		p.add(row.Row, "division_code", err)
		return
	}
	at := later(effective, site.Registered)
	if !site.Deregistered.IsZero() && site.Deregistered.Before(at) {
		at = site.Deregistered.Add(-1)
	}
	d, err := r.Division(code, at)
	if errors.Is(err, ErrDivisionEnded) {
		v := r.Versions(code)
		if last := v[len(v)-1]; at.Before(v[0].From) && !v[0].To.Equal(v[0].From) {
			// The oldest table that the roster has stands for the time before it.
			d, err = v[0], nil
		} else if !last.To.IsZero() {
			err = fmt.Errorf("%s %s: %w on %s", code, last.Name, ErrDivisionEnded, last.To.In(s.Zone).Format(time.DateOnly))
		}
	}
	if err != nil {
		p.add(row.Row, "division_code", err)
	} else if d.Level != Village {
		p.add(row.Row, "division_code", fmt.Errorf("%s %s is a %s: %w", d.Code, d.Name, d.Level, ErrNotVillage))
	}
}

// readPosition returns the row's position, or nil where it has none.
func readPosition(row SiteRow, p *problems) *Position {
	if row.Latitude == "" && row.Longitude == "" {
		return nil
	}
	degrees := func(column, cell string, most float64) float64 {
		v, err := strconv.ParseFloat(cell, 64)
		switch {
		case cell == "":
			p.sayf(row.Row, column, "is missing: a position needs both coordinates")
		case err != nil:
			p.sayf(row.Row, column, "%q is no number of degrees", clip(cell))
		case !(v >= -most && v <= most): // so written that NaN fails too
			p.sayf(row.Row, column, "%s must lie between -%g and %g", clip(cell), most, most)
		}
		return v
	}
	return &Position{
		Latitude:  degrees("latitude", row.Latitude, 90),
		Longitude: degrees("longitude", row.Longitude, 180),
	}
}
