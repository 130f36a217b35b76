package client

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// Submit sends a check-in until its receipt comes, an error says that sending it
// again is of no use, or ctx ends. The check-in's id and its content stay the same
// for ever, also when the app sends it again later, so that it is stored once.
func (c *Client) Submit(ctx context.Context, report *xunchav1.CheckIn) (*xunchav1.Receipt, error) {
	inspections := xunchav1.NewInspectionServiceClient(c)
	for n := 0; ; n++ {
		answer, err := inspections.SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: report, ClientTime: timestamppb.New(c.now())})
		if err == nil {
			return answer.Receipt, nil
		}
		if err := c.session.sleep.pause(ctx, n, err); err != nil {
			return nil, err
		}
	}
}
