package client

import (
	"context"
	"fmt"
	"io"
	"time"

	"xuncha/client"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// ConfirmClockCommand is "xuncha confirm-clock".
type ConfirmClockCommand struct {
	clientConfig
}

// Run tells the server that its clock is right.
func (c *ConfirmClockCommand) Run(ctx context.Context, stdout, stderr io.Writer) error {
	return c.call(ctx, func(ctx context.Context, conn *client.Client) error {
		answer, err := xunchav1.NewOperationServiceClient(conn).ConfirmClock(ctx, &xunchav1.ConfirmClockRequest{})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "The server's time is %s.\n", answer.ServerTime.AsTime().Local().Format(time.DateTime))
		return err
	})
}
