package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/command/outcome"
)

// CheckConfig holds the flags of a check that a running server makes.
type CheckConfig struct {
	Server    string `placeholder:"HOST:PORT" help:"Have the running server at the address check what it has stored, instead of a store that is at rest. An auditor or an administrator of all divisions may."`
	signInAs  `embed:""`
	clientTLS `embed:""`
	Timeout   time.Duration `default:"24h" help:"How long the check by a server may take. Default: ${default}."`
}

// Check has the server check all that it has stored.
func (c *CheckConfig) Check(ctx context.Context, stderr io.Writer) (outcome.Report, error) {
	r := outcome.Report{Where: "server " + c.Server, Imports: -1, Photos: -1, SetAside: -1}
	how := clientConfig{Server: c.Server, signInAs: c.signInAs, clientTLS: c.clientTLS, Timeout: c.Timeout}
	err := how.call(ctx, func(ctx context.Context, conn *client.Client) error {
		answers, err := xunchav1.NewOperationServiceClient(conn).CheckHistories(ctx, &xunchav1.CheckHistoriesRequest{})
		for err == nil {
			var a *xunchav1.CheckHistoriesResponse
			if a, err = answers.Recv(); err == nil && a.Done {
				r.Histories, r.Entries = a.Histories, a.EntriesChecked
				r.Findings = findings(ctx, conn, a.Problems)
				return nil
			}
			if err == nil && onTerminal(stderr) {
				fmt.Fprintf(stderr, "\rchecking %d/%d entries", a.EntriesChecked, a.EntriesTotal)
			}
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("the server ended the check before it was done")
		}
		return err
	})
	if onTerminal(stderr) {
		fmt.Fprintln(stderr)
	}
	return r, err
}

// findings returns the problems, with what the roster calls the sites.
func findings(ctx context.Context, conn *client.Client, problems []*xunchav1.ServerProblem) (out []outcome.Finding) {
	roster := xunchav1.NewRosterServiceClient(conn)
	known := map[string]*xunchav1.Site{}
	for _, p := range problems {
		f := outcome.Finding{History: p.History, Sequence: p.Sequence, Why: p.Message}
		if id := p.SiteId; id != "" {
			if _, asked := known[id]; !asked {
				answer, err := roster.GetSite(ctx, &xunchav1.GetSiteRequest{SiteId: id})
				if err == nil {
					known[id] = answer.Site
				} else {
					known[id] = nil // the id says as much
				}
			}
			f.RegistrationNo, f.Name = known[id].GetRegistrationNo(), known[id].GetName()
		}
		out = append(out, f)
	}
	return out
}

// onTerminal reports whether w is a terminal.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
