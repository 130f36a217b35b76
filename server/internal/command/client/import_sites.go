package client

import (
	"context"
	"fmt"
	"io"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/table"
)

// ImportSitesCommand is "xuncha import sites".
type ImportSitesCommand struct {
	EffectiveDate string `placeholder:"YYYY-MM-DD" help:"First day at a new place of the sites that the table moves. Default: today."`
	importConfig
}

// Run imports the table, or prints what is wrong with it.
func (c *ImportSitesCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	defer frugal()()
	data, shut, err := table.Open(ctx, c.File)
	if err != nil {
		return err
	}
	defer shut()
	return c.call(ctx, func(ctx context.Context, conn *client.Client) error {
		answer, err := ImportSites(ctx, conn, stderr, c.File, data, c.EffectiveDate, c.DryRun)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "sites %s: %d registered, %d struck off, %d moved, %d corrected, %d unchanged; roster revision %d\n",
			done(answer.Changed, c.DryRun), answer.Registered, answer.Deregistered, answer.Moved, answer.Updated, answer.Unchanged, answer.Revision)
		return err
	})
}

// ImportSites imports a table of sites, or prints its problems to stderr if it has
// any. file is the name that the server puts on record.
func ImportSites(ctx context.Context, conn *client.Client, stderr io.Writer, file string, data *io.SectionReader, effective string, dryRun bool) (*xunchav1.ImportSitesResponse, error) {
	type message = xunchav1.ImportSitesRequest
	return tableImport[message, xunchav1.ImportSitesResponse, *message, *xunchav1.ImportSitesResponse]{
		columns: table.Sites,
		begin:   xunchav1.NewRosterServiceClient(conn).ImportSites,
		header: func(h *xunchav1.ImportHeader) *message {
			return &message{Part: &xunchav1.ImportSitesRequest_Header{Header: h}}
		},
		row: func(r table.Row) *message {
			return &message{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{
				Row: int32(r.Number), RegistrationNo: r.Cells[0], Name: r.Cells[1], DivisionCode: r.Cells[2], Address: r.Cells[3],
				Latitude: r.Cells[4], Longitude: r.Cells[5], RegisteredOn: r.Cells[6], DeregisteredOn: r.Cells[7],
			}}}
		},
	}.run(ctx, conn.Change, stderr, file, data, effective, dryRun)
}
