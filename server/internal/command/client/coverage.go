package client

import (
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// CoverageCommand is "xuncha coverage".
type CoverageCommand struct {
	Division string    `arg:"" help:"Code of the division, such as 511600."`
	Depth    int32     `default:"1" help:"Levels below the division that are printed, 0 to 5. Default: ${default}."`
	Start    time.Time `help:"Beginning of the window, such as 2026-02-01T00:00:00+08:00. Default: the beginning of today."`
	End      time.Time `help:"End of the window. Default: the end of the day on which it begins."`
	Known    time.Time `help:"Print the figures as they were known at this time. Default: now."`
	JSON     bool      `name:"json" help:"Print the server's answer as a line of JSON."`
	clientConfig
}

// Run prints the coverage.
func (c *CoverageCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.call(ctx, func(ctx context.Context, conn *client.Client) error {
		answer, err := xunchav1.NewCoverageServiceClient(conn).GetCoverage(ctx, &xunchav1.GetCoverageRequest{
			DivisionCode: c.Division, Depth: c.Depth,
			StartTime: optional(c.Start), EndTime: optional(c.End), KnownTime: optional(c.Known),
		})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(stdout, answer)
		}
		return PrintCoverage(stdout, answer)
	})
}

func optional(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// PrintCoverage prints a table with a row for each division. The divisions below
// another are indented. Where histories do not verify, it says so.
func PrintCoverage(stdout io.Writer, answer *xunchav1.GetCoverageResponse) error {
	t := newTable("division", "code", "due", "inspected", "overdue", "never", "open", "check-ins", "late", "synced late", "cancelled", "dispersed")
	t.right(2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	altered := answer.Row.SitesAltered
	if altered > 0 {
		t.rows[0] = append(t.rows[0], "altered")
		t.right(append(t.numbers, 12)...)
	}
	var walk func(*xunchav1.GetCoverageResponse, string)
	walk = func(a *xunchav1.GetCoverageResponse, indent string) {
		r := a.Row
		cells := []string{indent + r.DivisionName, r.DivisionCode, count(r.SitesDue), count(r.SitesInspected), count(r.SitesOverdue),
			count(r.SitesNeverInspected), count(r.SitesFoundOpen), count(r.CheckIns), count(r.VisitedLate),
			count(r.SyncedLate), count(r.CancelledEvents), count(r.DispersedPeople)}
		if altered > 0 {
			cells = append(cells, count(r.SitesAltered))
		}
		t.add(cells...)
		for _, child := range a.Children {
			walk(child, indent+"  ")
		}
	}
	walk(answer, "")
	if err := t.print(stdout); err != nil {
		return err
	}
	if altered > 0 {
		if _, err := fmt.Fprintf(stdout, "The histories of %d sites do not verify, so the figures may miss entries of theirs; \"xuncha status\" says which.\n", altered); err != nil {
			return err
		}
	}
	if answer.RosterAltered {
		if _, err := fmt.Fprintln(stdout, "The roster's history does not verify; the figures are those of the roster as it stood before."); err != nil {
			return err
		}
	}
	return nil
}
