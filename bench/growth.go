package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// growthShares are the sizes of a country that are measured to see what grows.
var growthShares = [...]float64{0.1, 1.0 / 3, 1}

// mostGrowth is by how much a page's cost may differ between the least country and the
// whole and still count as the same, on a machine that others use too.
const mostGrowth = 1.5

// compareSizes measures a tenth, a third and the whole of a country, and prints their
// rows side by side. It returns the rows of the whole, with those on growth.
func compareSizes(ctx context.Context, o options, binary string, w io.Writer) ([]row, error) {
	var runs []countryRun
	for _, share := range growthShares {
		run, err := runCountry(ctx, o, binary, share, w)
		if err != nil {
			// What was measured before is worth knowing all the same.
			return nil, errors.Join(fmt.Errorf("a share of %.3f: %w", share, err), printSizes(w, runs))
		}
		runs = append(runs, run)
	}
	if err := printSizes(w, runs); err != nil {
		return nil, err
	}
	least, whole := runs[0], runs[len(runs)-1]
	rows := whole.rows
	for i, cost := range whole.costs {
		if i >= len(least.costs) {
			break // the row of the least says why
		}
		times := float64(cost.cpu) / float64(max(least.costs[i].cpu, 1))
		rows = append(rows, row{
			name:     fmt.Sprintf("a page of %s, %d sites against %d", cost.list, whole.land.sites, least.land.sites),
			measured: fmt.Sprintf("%.2f × the CPU time", times), bar: fmt.Sprintf("≤ %.1f ×", mostGrowth), met: times <= mostGrowth,
		})
	}
	return rows, nil
}

// printSizes prints a column for each size.
func printSizes(w io.Writer, runs []countryRun) error {
	if len(runs) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "what")
	for _, r := range runs {
		fmt.Fprintf(t, "\t%d sites, %d check-ins", r.land.sites, r.stored)
	}
	fmt.Fprintln(t, "\t")
	for _, name := range namesOf(runs) {
		fmt.Fprint(t, name)
		for _, r := range runs {
			fmt.Fprintf(t, "\t%s", r.cell(name))
		}
		fmt.Fprintln(t, "\t")
	}
	return t.Flush()
}

// namesOf returns the names of the runs' rows in order, also those that one run alone
// has.
func namesOf(runs []countryRun) (names []string) {
	seen := map[string]bool{}
	for i := range runs {
		for _, r := range runs[len(runs)-1-i].rows {
			if !seen[r.name] {
				seen[r.name] = true
				names = append(names, r.name)
			}
		}
	}
	return names
}

// cell returns what stands in the run's column: the CPU time where it was measured.
func (r countryRun) cell(name string) string {
	for _, row := range r.rows {
		if row.name == name {
			if row.cpu != "" {
				return row.cpu
			}
			return row.measured
		}
	}
	return "–"
}
