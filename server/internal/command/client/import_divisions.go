package client

import (
	"context"
	"fmt"
	"io"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/table"
)

// ImportDivisionsCommand is "xuncha import divisions".
type ImportDivisionsCommand struct {
	EffectiveDate string `required:"" placeholder:"YYYY-MM-DD" help:"First day on which the table is in force."`
	importConfig
}

// Run imports the table, or prints what is wrong with it.
func (c *ImportDivisionsCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	defer frugal()()
	data, shut, err := table.Open(ctx, c.File)
	if err != nil {
		return err
	}
	defer shut()
	return c.call(ctx, func(ctx context.Context, conn *client.Client) error {
		answer, err := ImportDivisions(ctx, conn, stderr, c.File, data, c.EffectiveDate, c.DryRun)
		if err != nil {
			return err
		}
		return printDivisionImport(stdout, answer, c.DryRun)
	})
}

// printDivisionImport says what an import of divisions has changed, or would change, and
// what is left to do.
func printDivisionImport(stdout io.Writer, answer *xunchav1.ImportDivisionsResponse, dryRun bool) error {
	fmt.Fprintf(stdout, "divisions %s: %d created, %d ended, %d renamed, %d regrouped, %d unchanged; roster revision %d\n",
		done(answer.Changed, dryRun), answer.Created, answer.Ended, answer.Renamed, answer.Regrouped, answer.Unchanged, answer.Revision)
	if len(answer.DisplacedSites) > 0 {
		fmt.Fprintf(stdout, "\n%d sites stand in a village that has ended. Move them:\n", answer.DisplacedSiteCount)
		t := newTable("registration no", "name", "village", "address", "site id")
		for _, site := range answer.DisplacedSites {
			t.add(site.RegistrationNo, site.Name, site.DivisionCode, site.Address, site.SiteId)
		}
		if err := t.print(stdout); err != nil {
			return err
		}
		if rest := int(answer.DisplacedSiteCount) - len(answer.DisplacedSites); rest > 0 {
			fmt.Fprintf(stdout, "and %d more sites\n", rest)
		}
	}
	for _, o := range answer.OrphanedOrders {
		fmt.Fprintf(stdout, "closure order %s names a division that has ended\n", o.Number)
	}
	if rest := int(answer.OrphanedOrderCount) - len(answer.OrphanedOrders); rest > 0 {
		fmt.Fprintf(stdout, "and %d more closure orders\n", rest)
	}
	return printOrphaned(stdout, answer.OrphanedAccounts, answer.OrphanedAccountCount, "ends")
}

// printOrphaned names the accounts, of so many in all, that are bound to a division of which
// the word says what has become.
func printOrphaned(stdout io.Writer, people []*xunchav1.Account, all int32, word string) error {
	var err error
	for _, a := range people {
		if _, err = fmt.Fprintf(stdout, "account %s is bound to a division that %s; give it others\n", a.Username, word); err != nil {
			return err
		}
	}
	if rest := int(all) - len(people); rest > 0 {
		_, err = fmt.Fprintf(stdout, "and %d more accounts\n", rest)
	}
	return err
}

// ImportDivisions imports a table of divisions, or prints its problems to stderr if it
// has any. file is the name that the server puts on record.
func ImportDivisions(ctx context.Context, conn *client.Client, stderr io.Writer, file string, data *io.SectionReader, effective string, dryRun bool) (*xunchav1.ImportDivisionsResponse, error) {
	type message = xunchav1.ImportDivisionsRequest
	return tableImport[message, xunchav1.ImportDivisionsResponse, *message, *xunchav1.ImportDivisionsResponse]{
		columns: table.Divisions,
		begin:   xunchav1.NewRosterServiceClient(conn).ImportDivisions,
		header: func(h *xunchav1.ImportHeader) *message {
			return &message{Part: &xunchav1.ImportDivisionsRequest_Header{Header: h}}
		},
		row: func(r table.Row) *message {
			return &message{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{
				Row: int32(r.Number), Code: r.Cells[0], Name: r.Cells[1], Level: r.Cells[2], ParentCode: r.Cells[3],
			}}}
		},
	}.run(ctx, conn.Change, stderr, file, data, effective, dryRun)
}
