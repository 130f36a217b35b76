package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/table"
)

// importConfig is what both imports have.
type importConfig struct {
	File   string `arg:"" type:"existingfile" help:"CSV (UTF-8 or GB18030) or XLSX file."`
	DryRun bool   `help:"Check everything and change nothing."`
	clientConfig
}

// ImportDivisionsCommand is "xuncha import divisions".
type ImportDivisionsCommand struct {
	EffectiveDate string `required:"" placeholder:"YYYY-MM-DD" help:"First day on which the table is in force."`
	importConfig
}

// Run imports the table, or prints what is wrong with it.
func (c *ImportDivisionsCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		answer, err := ImportDivisions(ctx, conn, stderr, c.File, data, c.EffectiveDate, c.DryRun)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "divisions %s: %d created, %d ended, %d renamed, %d regrouped, %d unchanged; roster revision %d\n",
			done(answer.Changed, c.DryRun), answer.Created, answer.Ended, answer.Renamed, answer.Regrouped, answer.Unchanged, answer.Revision)
		if len(answer.DisplacedSites) > 0 {
			fmt.Fprintf(stdout, "\n%d sites stand in a village that has ended. Move them:\n", len(answer.DisplacedSites))
			t := newTable("registration no", "name", "village", "address", "site id")
			for _, site := range answer.DisplacedSites {
				t.add(site.RegistrationNo, site.Name, site.DivisionCode, site.Address, site.SiteId)
			}
			if err := t.print(stdout); err != nil {
				return err
			}
		}
		for _, o := range answer.OrphanedOrders {
			fmt.Fprintf(stdout, "closure order %s names a division that has ended\n", o.Number)
		}
		return nil
	})
}

func done(changed, dryRun bool) string {
	switch {
	case dryRun:
		return "checked, nothing changed"
	case changed:
		return "imported"
	}
	return "were so already, nothing changed"
}

// ImportDivisions checks the table, prints its problems if it has any, and
// imports it if it has none.
func ImportDivisions(ctx context.Context, conn *grpc.ClientConn, stderr io.Writer, file string, data []byte, effective string, dryRun bool) (*xunchav1.ImportDivisionsResponse, error) {
	var rows []*xunchav1.ImportDivisionsRequest
	err := table.Read(ctx, filepath.Base(file), bytes.NewReader(data), table.Divisions, func(r table.Row) error {
		rows = append(rows, &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Row{Row: &xunchav1.DivisionRow{
			Row: int32(r.Number), Code: r.Cells[0], Name: r.Cells[1], Level: r.Cells[2], ParentCode: r.Cells[3],
		}}})
		return nil
	})
	if err != nil {
		return nil, err
	}
	send := func(dryRun bool) (*xunchav1.ImportDivisionsResponse, error) {
		stream, err := xunchav1.NewRosterServiceClient(conn).ImportDivisions(ctx)
		if err != nil {
			return nil, err
		}
		header := &xunchav1.ImportDivisionsRequest{Part: &xunchav1.ImportDivisionsRequest_Header{
			Header: &xunchav1.ImportHeader{EffectiveDate: effective, DryRun: dryRun, Source: filepath.Base(file)},
		}}
		return sendAll(stream, slices.Insert(slices.Clone(rows), 0, header))
	}
	return checkedImport(stderr, file, dryRun, send)
}

// ImportSitesCommand is "xuncha import sites".
type ImportSitesCommand struct {
	EffectiveDate string `placeholder:"YYYY-MM-DD" help:"First day at a new place of the sites that the table moves. Default: today."`
	importConfig
}

// Run imports the table, or prints what is wrong with it.
func (c *ImportSitesCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		answer, err := ImportSites(ctx, conn, stderr, c.File, data, c.EffectiveDate, c.DryRun)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "sites %s: %d registered, %d struck off, %d moved, %d corrected, %d unchanged; roster revision %d\n",
			done(answer.Changed, c.DryRun), answer.Registered, answer.Deregistered, answer.Moved, answer.Updated, answer.Unchanged, answer.Revision)
		return err
	})
}

// ImportSites is ImportDivisions for sites.
func ImportSites(ctx context.Context, conn *grpc.ClientConn, stderr io.Writer, file string, data []byte, effective string, dryRun bool) (*xunchav1.ImportSitesResponse, error) {
	var rows []*xunchav1.ImportSitesRequest
	err := table.Read(ctx, filepath.Base(file), bytes.NewReader(data), table.Sites, func(r table.Row) error {
		rows = append(rows, &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{
			Row: int32(r.Number), RegistrationNo: r.Cells[0], Name: r.Cells[1], DivisionCode: r.Cells[2], Address: r.Cells[3],
			Latitude: r.Cells[4], Longitude: r.Cells[5], RegisteredOn: r.Cells[6], DeregisteredOn: r.Cells[7],
		}}})
		return nil
	})
	if err != nil {
		return nil, err
	}
	send := func(dryRun bool) (*xunchav1.ImportSitesResponse, error) {
		stream, err := xunchav1.NewRosterServiceClient(conn).ImportSites(ctx)
		if err != nil {
			return nil, err
		}
		header := &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Header{
			Header: &xunchav1.ImportHeader{EffectiveDate: effective, DryRun: dryRun, Source: filepath.Base(file)},
		}}
		return sendAll(stream, slices.Insert(slices.Clone(rows), 0, header))
	}
	return checkedImport(stderr, file, dryRun, send)
}

// sendAll sends the messages and returns the answer, or an error that says what
// the server says.
func sendAll[Req, Resp any](stream grpc.ClientStreamingClient[Req, Resp], messages []*Req) (*Resp, error) {
	for _, m := range messages {
		if stream.Send(m) != nil {
			break // CloseAndRecv has the error
		}
	}
	answer, err := stream.CloseAndRecv()
	return answer, Readable(err)
}

// checkedImport sends a table as a dry run, prints the problems that come back,
// and, where there are none and more than a dry run is wanted, sends it again.
func checkedImport[Resp interface {
	GetProblems() []*xunchav1.ImportProblem
	GetProblemCount() int32
}](stderr io.Writer, file string, dryRun bool, send func(dryRun bool) (Resp, error)) (Resp, error) {
	answer, err := send(true)
	if err != nil {
		return answer, err
	}
	if n := answer.GetProblemCount(); n > 0 {
		t := newTable("row", "column", "problem")
		t.right(0)
		for _, p := range answer.GetProblems() {
			t.add(count(int64(p.Row)), p.Column, p.Description)
		}
		return answer, errors.Join(t.print(stderr),
			fmt.Errorf("%s: %d problems (%d shown); nothing was changed", file, n, len(answer.GetProblems())))
	}
	if dryRun {
		return answer, nil
	}
	return send(false)
}
