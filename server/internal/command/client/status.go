package client

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/command/outcome"
)

// StatusCommand is "xuncha status".
type StatusCommand struct {
	JSON bool `name:"json" help:"Print the server's answer as a line of JSON."`
	clientConfig
}

// Run prints what is wrong with the server. Where anything is, the error has the status
// outcome.Failed, and where that could not be asked, outcome.Unknown.
func (c *StatusCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	var answer *xunchav1.GetServerStatusResponse
	err := c.call(ctx, func(ctx context.Context, conn *client.Client) (err error) {
		answer, err = xunchav1.NewOperationServiceClient(conn).GetServerStatus(ctx, &xunchav1.GetServerStatusRequest{})
		return err
	})
	switch {
	case err != nil:
	case c.JSON:
		err = printJSON(stdout, answer)
	default:
		err = printStatus(stdout, answer)
	}
	if err != nil {
		return &outcome.Error{Err: err, Status: outcome.Unknown}
	}
	if n := len(answer.Problems); n > 0 {
		err := fmt.Errorf("the server has problems: %d; docs/operating.md says what to do, under \"When something is wrong\"", n)
		return &outcome.Error{Err: err, Status: outcome.Failed}
	}
	return nil
}

// printStatus prints a table with a row for each problem, oldest first.
func printStatus(stdout io.Writer, answer *xunchav1.GetServerStatusResponse) error {
	if len(answer.Problems) == 0 {
		verified := "not yet since the start of the server"
		if t := answer.VerifyTime; t != nil {
			verified = t.AsTime().Local().Format(time.DateTime)
		}
		_, err := fmt.Fprintf(stdout, "All is well. The server's time is %s. All histories were checked: %s.\n",
			answer.ServerTime.AsTime().Local().Format(time.DateTime), verified)
		return err
	}
	t := newTable("since", "problem", "history", "seq", "what")
	t.right(3)
	for _, p := range answer.Problems {
		sequence := ""
		if p.Sequence > 0 {
			sequence = count(p.Sequence)
		}
		history := p.History
		if history == "" && p.SiteId != "" {
			history = "site/" + p.SiteId
		}
		t.add(p.SinceTime.AsTime().Local().Format(time.DateTime), strings.ToLower(strings.TrimPrefix(p.Kind.String(), "PROBLEM_KIND_")),
			history, sequence, p.Message)
	}
	return t.print(stdout)
}
