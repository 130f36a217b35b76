package sites

import (
	"fmt"
	"time"
)

// parent returns the parent that the row has, or keeps where it names none.
func (t *divisionTable) parent(r *Roster, row tableRow) DivisionCode {
	if old, exists := r.open(row.Code); exists && row.in.Parent == "" {
		if _, inForce := r.open(old.Parent); inForce {
			return old.Parent
		}
	}
	return row.Parent
}

// foreign adds a problem for each row that would change what is not in the hands of whoever
// imports the table, and returns which rows these are: the division itself, the parent that
// it is taken from or put below, and whatever ends below it. Such a row is told the same as
// one that names what does not exist.
func (t *divisionTable) foreign(may *rights, effective time.Time, p *problems) map[int]bool {
	if may.by.May == nil {
		return nil
	}
	out := map[int]bool{}
	for i, row := range t.rows {
		refuse := func(column string, err error) {
			p.add(row.in.Row, column, err)
			out[i] = true
		}
		if !t.mayHave(may, row, effective) {
			refuse("code", noDivision(row.Code))
			continue
		}
		old, exists := may.r.open(row.Code)
		parent := t.parent(may.r, row)
		if exists && old.Parent == parent {
			parent = "" // it stays where it is
		} else if exists && old.Parent != "" && !may.in(old.Parent, effective) {
			refuse("parent_code", fmt.Errorf("it lies in another one now: %w", noDivision(old.Parent)))
			continue
		}
		// A parent that is new too is judged by its own row.
		if _, inTable := t.byCode[parent]; parent != "" && !(inTable && !known(may.r, parent)) && !may.in(parent, effective) {
			refuse("parent_code", fmt.Errorf("%s is neither in the table nor in force: %w", row.in.Parent, ErrDivisionUnknown))
			continue
		}
		may.r.descend(row.Code, func(d Division) bool {
			if _, stays := t.byCode[d.Code]; stays {
				return d.Code == row.Code
			}
			if !may.in(d.Code, effective) {
				refuse("code", fmt.Errorf("it is not in the table, which would end it: %w", noDivision(d.Code)))
			}
			return true
		})
	}
	return out
}

// mayHave reports whether the row's own division is in the hands of whoever imports the
// table. A new one is, unless it is to lie at the top.
func (t *divisionTable) mayHave(may *rights, row tableRow, effective time.Time) bool {
	return !known(may.r, row.Code) && row.in.Parent != "" || may.in(row.Code, effective)
}

// known reports whether the roster has, or ever had, the division.
func known(r *Roster, code DivisionCode) bool {
	_, err := r.division(code)
	return err == nil
}
