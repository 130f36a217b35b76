package coverage

import (
	"context"
	"slices"
	"strings"
	"time"

	"xuncha/sites"
)

// A Query is a question about a division and all below it.
type Query struct {
	Division sites.DivisionCode
	// Start and End bound the window, [Start, End), which is no longer than MaxWindow.
	Start, End time.Time
	// Now is the server's clock. A question up to a minute behind the latest
	// one about the same window is answered as of that one.
	Now time.Time
	// Known, where it is not zero, asks how things were known then: only visits
	// received by then count, and Roster, the roster as known then, is what
	// they are counted by. Both are left out to ask how things are known now.
	Known  time.Time
	Roster *sites.Roster
	// Depth is how many levels below the division a report goes. The lists do
	// not use it.
	Depth int
	// MaxRows is how many rows a report may have; 0 sets no limit.
	MaxRows int
}

// A Row is the figures of one division.
type Row struct {
	Division sites.DivisionCode
	// Name and Level are those at the window's last moment, by the rule of
	// sites.Roster.LastDivision.
	Name  string
	Level sites.Level
	Figures
	// LastCapture is the latest capture of the check-ins; zero without any.
	LastCapture time.Time
}

// A Report is the row of a division, with those of its children by code.
type Report struct {
	Row
	Children []Report
}

// An Answer is a report with how long it holds and what it cost.
type Answer struct {
	Report
	Stamp Stamp
	Cost  Cost
}

// Report returns the figures of a division and, down to the depth, of those
// below it. The errors are ErrWindow, ErrWindowTooLong, sites.ErrDivisionUnknown,
// a *TooManyRowsError, and that of the context. A division that ended before the
// window has zeros, unless a site is counted in it.
//
// The cost is given with an error, too.
func (x *Index) Report(ctx context.Context, q Query) (Answer, error) {
	m := x.newMeter(ctx)
	defer m.rest()
	f, stamp, err := x.figures(q, m)
	if err != nil {
		return Answer{Cost: m.cost}, err
	}
	w := reportWriter{figures: f, meter: m, last: q.End.Add(-1)}
	report, err := w.report(q)
	if err != nil {
		return Answer{Cost: m.cost}, err
	}
	return Answer{Report: report, Stamp: stamp, Cost: m.cost}, nil
}

// A reportWriter writes a report from figures.
type reportWriter struct {
	*figures
	meter *meter
	last  time.Time // the window's last moment
}

// A line is a row that is not written yet.
type line struct {
	report *Report
	places []int32
}

// report writes the rows level by level, so that it notices early when they are too
// many.
func (w *reportWriter) report(q Query) (Report, error) {
	var top Report
	top.Division = q.Division
	if d, err := w.layout.roster.LastDivision(q.Division, w.last); err == nil {
		top.Name, top.Level = d.Name, d.Level
	}
	level, rows := []line{{&top, w.layout.of(q.Division)}}, 1
	all := slices.Clone(level)
	for depth := range q.Depth {
		var next []line
		for _, above := range level {
			below, err := w.below(above)
			if err != nil {
				return Report{}, err
			}
			if rows += len(below); q.MaxRows > 0 && rows > q.MaxRows {
				return Report{}, &TooManyRowsError{MaxRows: q.MaxRows, Fits: depth}
			}
			next = append(next, below...)
		}
		all = append(all, next...)
		level = next
	}
	for _, l := range all {
		var sum node
		for _, p := range l.places {
			n, err := w.at(p, w.meter)
			if err != nil {
				return Report{}, err
			}
			sum.add(&n, 1)
		}
		l.report.Figures = sum.Figures
		if sum.CheckIns > 0 {
			l.report.LastCapture = moment(sum.last)
		}
		if err := w.meter.spend(1); err != nil {
			return Report{}, err
		}
	}
	return top, nil
}

// below returns the rows below one: the divisions in force under it, and any other in
// which a site is counted.
func (w *reportWriter) below(above line) ([]line, error) {
	var children []int32
	for _, p := range above.places {
		children = append(children, w.layout.places.ref(p).children...)
	}
	rows := make([]Report, 0, len(children)+1)
	for d := range w.layout.roster.ChildrenAfter(above.report.Division, "", w.last) {
		rows = append(rows, Report{Row: Row{Division: d.Code, Name: d.Name, Level: d.Level}})
	}
	for _, c := range children {
		code := w.layout.places.ref(c).code
		i, in := slices.BinarySearchFunc(rows, code, byCode)
		if in {
			continue
		}
		n, err := w.figures.at(c, w.meter)
		if err != nil {
			return nil, err
		}
		if n.SitesDue+n.CheckIns == 0 {
			continue
		}
		row := Report{Row: Row{Division: code}}
		if d, err := w.layout.roster.LastDivision(code, w.last); err == nil {
			row.Name, row.Level = d.Name, d.Level
		}
		rows = slices.Insert(rows, i, row)
	}
	if err := w.meter.spend(len(rows)); err != nil {
		return nil, err
	}
	out := make([]line, len(rows))
	for i := range rows {
		out[i].report = &rows[i]
	}
	for k, c := range children {
		i, in := slices.BinarySearchFunc(rows, w.layout.places.ref(c).code, byCode)
		if !in {
			continue
		}
		if l := &out[i]; l.places == nil {
			l.places = children[k : k+1 : k+1]
		} else {
			l.places = append(l.places, c)
		}
	}
	if len(rows) > 0 {
		above.report.Children = rows
	}
	return out, nil
}

func byCode(r Report, code sites.DivisionCode) int {
	return strings.Compare(string(r.Division), string(code))
}
