package client

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"xuncha/client"
	"xuncha/internal/texts"
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
			kindOf(c), describeChange(c))
	}
	return t.print(stdout)
}

// kindOf returns the word for what a change is.
func kindOf(c *xunchav1.RosterChange) string {
	return strings.ToLower(strings.TrimPrefix(c.GetKind().String(), "ENTRY_KIND_"))
}

// describeChange returns what a change is about in a line, and before it whether it was
// taken back.
func describeChange(c *xunchav1.RosterChange) string {
	what := whatChanged(c)
	if c.RevokedByRevision != 0 {
		return fmt.Sprintf("TAKEN BACK by %d: %s", c.RevokedByRevision, what)
	}
	return what
}

// whatChanged returns what a change is about.
func whatChanged(c *xunchav1.RosterChange) string {
	switch {
	case c.GetRevokedRevision() != 0:
		return fmt.Sprintf("takes back %d: %s", c.RevokedRevision, c.Reason)
	case c.GetRegistrationNo() != "":
		return c.RegistrationNo
	case c.GetClosureOrderNumber() != "":
		return c.ClosureOrderNumber
	case c.GetEffectiveTime() != nil:
		return fmt.Sprintf("%s as of %s", c.Source, c.EffectiveTime.AsTime().Local().Format(time.DateTime+" -07:00"))
	}
	return c.GetReason()
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
		if _, err = fmt.Fprintf(stdout, "Change %d is taken back (%s %s); the roster's revision is %d.\n",
			c.Revision, kindOf(answer.Change), texts.Spelled(whatChanged(answer.Change)), answer.Revision); err != nil {
			return err
		}
		return printOrphaned(stdout, answer.OrphanedAccounts, answer.OrphanedAccountCount, "is gone")
	})
}
