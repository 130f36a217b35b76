package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
)

const (
	// firstPause is how long the client waits after a first failure. Each pause is
	// twice as long as the one before, up to longestPause.
	firstPause   = 50 * time.Millisecond
	longestPause = 30 * time.Second
	// patience is for how long Change tries again after the first failure.
	patience = 30 * time.Second
)

// A sleeper waits so long, or until ctx ends, and then returns its error.
type sleeper func(ctx context.Context, d time.Duration) error

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause waits after the failure err, of which so many came before in a row. It
// returns nil once the call may be made again, and otherwise the error to give up
// with: err where another try is of no use, or err with that of ctx, which ends
// before it.
func (sleep sleeper) pause(ctx context.Context, before int, err error) error {
	again, wait := retryable(err)
	if !again {
		return err
	}
	backoff := longestPause
	if doubled := firstPause << min(before, 20); doubled < backoff {
		backoff = doubled
	}
	// Not all phones that lost the same server come back at once.
	backoff -= rand.N(backoff / 4)
	wait = max(wait, backoff)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return fmt.Errorf("%w (no time is left for another try: %w)", err, context.DeadlineExceeded)
	}
	if ended := sleep(ctx, wait); ended != nil {
		return fmt.Errorf("%w (%w)", err, ended)
	}
	return nil
}

// retryable reports whether the same call may succeed later, and after how long at
// the earliest where the server says so.
func retryable(err error) (again bool, after time.Duration) {
	st, ok := status.FromError(err)
	if !ok || err == nil {
		return false, 0
	}
	for _, d := range st.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return true, r.RetryDelay.AsDuration()
		}
	}
	return st.Code() == codes.Unavailable, 0
}

// hasReason reports whether the server gave the reason for the error.
func hasReason(err error, reason xunchav1.ErrorReason) bool {
	st, ok := status.FromError(err)
	if !ok || err == nil {
		return false
	}
	for _, d := range st.Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok && "ERROR_REASON_"+i.Reason == reason.String() {
			return true
		}
	}
	return false
}

func tokenInvalid(err error) bool {
	return status.Code(err) == codes.Unauthenticated && hasReason(err, xunchav1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
}

// Change makes a call that changes the roster or an account, once and for all: it makes an
// id for the request, which call sends as its request_id, and calls again with the same id
// where the answer was lost or the server says that the same call may succeed later. It
// gives up after half a minute, when ctx ends, or where the server asks to wait for longer
// than that, with the error of the last try.
func (c *Client) Change(ctx context.Context, call func(ctx context.Context, requestID string) error) error {
	id := c.session.config.NewID()
	var waiting context.Context
	for n := 0; ; n++ {
		err := call(ctx, id)
		if err == nil {
			return nil
		}
		if waiting == nil {
			var cancel context.CancelFunc
			waiting, cancel = context.WithTimeout(ctx, patience)
			defer cancel()
		}
		if c.session.sleep.pause(waiting, n, err) != nil {
			return err
		}
	}
}
