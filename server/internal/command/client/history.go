package client

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// HistoryCommand is "xuncha history".
type HistoryCommand struct {
	Site    string `arg:"" help:"Id or registration number of the site."`
	Limit   int    `default:"50" help:"Entries that are printed at most. Default: ${default}."`
	Records bool   `help:"With --json, the exact records too, from which the hashes can be computed."`
	JSON    bool   `name:"json" help:"Print a line of JSON for each entry."`
	clientConfig
}

// Run prints the history.
func (c *HistoryCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.call(ctx, func(ctx context.Context, conn *client.Client) error {
		id, err := findSite(ctx, conn, c.Site)
		if err != nil {
			return err
		}
		entries, err := ListHistory(ctx, conn, id, c.Limit, c.Records)
		if err != nil {
			return err
		}
		if !c.JSON {
			return PrintHistory(stdout, entries)
		}
		for _, e := range entries {
			if err := printJSON(stdout, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// ListHistory returns the newest entries of a site's history, newest first, and no more
// than most. If records is true, they have their exact records.
func ListHistory(ctx context.Context, conn grpc.ClientConnInterface, site string, most int, records bool) ([]*xunchav1.HistoryEntry, error) {
	audit := xunchav1.NewAuditServiceClient(conn)
	var out []*xunchav1.HistoryEntry
	page := &xunchav1.ListSiteHistoryRequest{SiteId: site, IncludeRecords: records}
	for len(out) < most {
		page.PageSize = int32(min(most-len(out), 200))
		answer, err := audit.ListSiteHistory(ctx, page)
		if err != nil {
			return nil, err
		}
		out = append(out, answer.Entries...)
		if page.PageToken = answer.NextPageToken; page.PageToken == "" {
			break
		}
	}
	return out, nil
}

// PrintHistory prints a table with a row for each entry.
func PrintHistory(stdout io.Writer, entries []*xunchav1.HistoryEntry) error {
	t := newTable("received", "history", "seq", "kind", "what", "hash")
	t.right(2)
	for _, e := range entries {
		history, _, _ := strings.Cut(e.History, "/")
		t.add(e.ReceiveTime.AsTime().Local().Format(time.DateTime), history, count(e.Sequence),
			strings.ToLower(strings.TrimPrefix(e.Kind.String(), "ENTRY_KIND_")), describe(e), fmt.Sprintf("%x…", e.EntryHash[:6]))
	}
	return t.print(stdout)
}

// describe returns the content of an entry in a line, and before it whether it counts.
func describe(e *xunchav1.HistoryEntry) string {
	text := describeContent(e)
	switch {
	case e.RevokedBySequence != 0:
		text = fmt.Sprintf("TAKEN BACK by %d: %s", e.RevokedBySequence, text)
	case e.SetAside:
		text = "SET ASIDE: " + text
	case e.Altered:
		text = "DOES NOT VERIFY: " + text
	}
	return strings.TrimSuffix(text, ": ")
}

func describeContent(e *xunchav1.HistoryEntry) string {
	switch c := e.Content.(type) {
	case *xunchav1.HistoryEntry_CheckIn:
		in := c.CheckIn
		parts := []string{
			strings.ToLower(strings.TrimPrefix(in.Finding.String(), "FINDING_")),
			fmt.Sprintf("%d events cancelled", in.CancelledEventCount), fmt.Sprintf("%d people dispersed", in.DispersedPeopleCount),
		}
		if in.DistanceM != nil {
			parts = append(parts, fmt.Sprintf("%.0f m from the site", *in.DistanceM))
		}
		switch n := len(in.Photos); n {
		case 0:
		case 1:
			parts = append(parts, "1 photo")
		default:
			parts = append(parts, fmt.Sprintf("%d photos", n))
		}
		refused := 0
		for _, p := range in.Photos {
			if p.RefusedReason != xunchav1.ErrorReason_ERROR_REASON_UNSPECIFIED {
				refused++
			}
		}
		if refused > 0 {
			parts = append(parts, fmt.Sprintf("%d of them refused", refused))
		}
		for _, f := range in.Flags {
			parts = append(parts, strings.ToLower(strings.TrimPrefix(f.String(), "FLAG_")))
		}
		return strings.Join(parts, ", ")
	case *xunchav1.HistoryEntry_PhotoEvent:
		p := c.PhotoEvent
		text := fmt.Sprintf("photo %x… of check-in %s", p.Sha256[:6], p.CheckInId)
		if p.RetentionDays > 0 {
			return fmt.Sprintf("%s, %d days after its order ended", text, p.RetentionDays)
		}
		text += fmt.Sprintf(", %d bytes", p.StoredSizeBytes)
		if p.Reused || p.FirstCheckInId != "" {
			text += ", used before"
		}
		return text
	case *xunchav1.HistoryEntry_RepairEvent:
		return fmt.Sprintf("set aside %s: %s", sequences(c.RepairEvent.Sequences), c.RepairEvent.Reason)
	case *xunchav1.HistoryEntry_RevokeEvent:
		return fmt.Sprintf("takes back %d: %s", c.RevokeEvent.Revision, c.RevokeEvent.Reason)
	case *xunchav1.HistoryEntry_Site:
		return fmt.Sprintf("%s %s in %s", c.Site.RegistrationNo, c.Site.Name, c.Site.DivisionCode)
	case *xunchav1.HistoryEntry_ClosureOrder:
		o := c.ClosureOrder
		return fmt.Sprintf("%s, %s to %s", o.Number, o.StartTime.AsTime().Local().Format(time.DateTime), o.EndTime.AsTime().Local().Format(time.DateTime))
	case *xunchav1.HistoryEntry_ImportEvent:
		i := c.ImportEvent
		return fmt.Sprintf("%s: %d created, %d changed, %d ended", i.Source, i.Created, i.Changed, i.Ended)
	}
	return ""
}

// maxSequences is how many sequences a line names.
const maxSequences = 10

// sequences names entries by their sequences.
func sequences(all []int64) string {
	var parts []string
	for i, q := range all {
		if i == maxSequences {
			parts = append(parts, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		parts = append(parts, count(q))
	}
	return strings.Join(parts, ", ")
}
