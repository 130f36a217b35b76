package client

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// ChangesCommand is "xuncha changes".
type ChangesCommand struct {
	Limit int  `default:"50" help:"Changes that are printed at most. Default: ${default}."`
	JSON  bool `name:"json" help:"Print a line of JSON for each change."`
	clientConfig
}

// Run prints the changes.
func (c *ChangesCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.call(ctx, func(ctx context.Context, conn *client.Client) error {
		roster := xunchav1.NewRosterServiceClient(conn)
		var list []*xunchav1.RosterChange
		page := &xunchav1.ListChangesRequest{}
		for len(list) < c.Limit {
			page.PageSize = int32(min(c.Limit-len(list), 200))
			answer, err := roster.ListChanges(ctx, page)
			if err != nil {
				return err
			}
			list = append(list, answer.Changes...)
			if page.PageToken = answer.NextPageToken; page.PageToken == "" {
				break
			}
		}
		if !c.JSON {
			return PrintChanges(stdout, list)
		}
		for _, change := range list {
			if err := printJSON(stdout, change); err != nil {
				return err
			}
		}
		return nil
	})
}

// PrintChanges prints a table with a row for each change.
func PrintChanges(stdout io.Writer, list []*xunchav1.RosterChange) error {
	t := newTable("revision", "received", "account", "kind", "what")
	t.right(0)
	for _, c := range list {
		t.add(count(c.Revision), c.ReceiveTime.AsTime().Local().Format(time.DateTime), c.Account,
			strings.ToLower(strings.TrimPrefix(c.Kind.String(), "ENTRY_KIND_")), describeChange(c))
	}
	return t.print(stdout)
}

// describeChange returns what a change is about in a line, and before it whether it was
// taken back.
func describeChange(c *xunchav1.RosterChange) string {
	var what string
	switch {
	case c.RevokedRevision != 0:
		what = fmt.Sprintf("takes back %d: %s", c.RevokedRevision, c.Reason)
	case c.RegistrationNo != "":
		what = c.RegistrationNo
	case c.ClosureOrderNumber != "":
		what = c.ClosureOrderNumber
	case c.EffectiveTime != nil:
		what = fmt.Sprintf("%s as of %s", c.Source, c.EffectiveTime.AsTime().Local().Format(time.DateTime+" -07:00"))
	default:
		what = c.Reason
	}
	if c.RevokedByRevision != 0 {
		return fmt.Sprintf("TAKEN BACK by %d: %s", c.RevokedByRevision, what)
	}
	return what
}

// RevokeCommand is "xuncha revoke".
type RevokeCommand struct {
	Revision int64  `arg:"" help:"The change's revision, as xuncha changes prints it."`
	Reason   string `required:"" placeholder:"TEXT" help:"Why, for the history. No person may be named in it."`
	JSON     bool   `name:"json" help:"Print the answer as a line of JSON."`
	clientConfig
}

// Run takes the change back.
func (c *RevokeCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.call(ctx, func(ctx context.Context, conn *client.Client) error {
		var answer *xunchav1.RevokeChangeResponse
		err := conn.Change(ctx, func(ctx context.Context, requestID string) (err error) {
			answer, err = xunchav1.NewRosterServiceClient(conn).RevokeChange(ctx, &xunchav1.RevokeChangeRequest{
				Revision: c.Revision, Reason: c.Reason, RequestId: requestID,
			})
			return err
		})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(stdout, answer)
		}
		if _, err = fmt.Fprintf(stdout, "Change %d is taken back; the roster's revision is %d.\n", c.Revision, answer.Revision); err != nil {
			return err
		}
		return printOrphaned(stdout, answer.OrphanedAccounts, answer.OrphanedAccountCount, "is gone")
	})
}
