package command

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"xuncha/server/internal/command/client"
	"xuncha/server/internal/command/outcome"
	"xuncha/server/internal/command/serve"
)

// checkCommand is "xuncha check".
type checkCommand struct {
	serve.AtRest `embed:""`
	Photos       bool `default:"true" negatable:"" help:"Read the files of photos too. Default: yes; --no-photos leaves them out."`
	client.CheckConfig
}

// Run checks what is stored and prints a line for each finding.
func (c *checkCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	r, err := c.check(ctx, stderr)
	if err == nil {
		err = r.Print(stdout)
	}
	if err != nil {
		return &outcome.Error{Err: err, Status: outcome.Unknown}
	}
	return r.Err()
}

func (c *checkCommand) check(ctx context.Context, stderr io.Writer) (outcome.Report, error) {
	if c.Server == "" {
		return serve.CheckStore(ctx, c.AtRest, c.Photos, stderr)
	}
	if usual, err := filepath.Abs("xuncha-data"); c.Store != "" || err == nil && c.Data != usual {
		return outcome.Report{}, errors.New("--server, or XUNCHA_SERVER, cannot be used together with --data or --store: leave out what is not to be checked")
	}
	return c.CheckConfig.Check(ctx, stderr)
}
