package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"xuncha/ledger"
)

// The server's error codes, as MongoDB's error_codes.yml lists them.
const (
	codeOutOfDiskSpace = 14031
	codeUnauthorized   = 13
	codeAuthentication = 18
)

// passing are the codes of what passes: no primary just now, a server that is
// starting or stopping, an operation that was interrupted or took too long.
var passing = []int{
	6,     // HostUnreachable
	7,     // HostNotFound
	50,    // MaxTimeMSExpired
	64,    // WriteConcernFailed
	89,    // NetworkTimeout
	91,    // ShutdownInProgress
	100,   // UnsatisfiableWriteConcern, while members are down
	112,   // WriteConflict
	133,   // FailedToSatisfyReadPreference
	134,   // ReadConcernMajorityNotAvailableYet
	189,   // PrimarySteppedDown
	262,   // ExceededTimeLimit
	317,   // ConnectionPoolExpired
	358,   // InternalTransactionNotSupported, while a cluster is changed
	9001,  // SocketException
	10107, // NotWritablePrimary
	11600, // InterruptedAtShutdown
	11601, // Interrupted
	11602, // InterruptedDueToReplStateChange
	13388, // StaleConfig
	13435, // NotPrimaryNoSecondaryOk
	13436, // NotPrimaryOrSecondary
}

// translate gives the driver's errors the meaning that callers know. Where the
// caller's own context has ended, that is the error.
func translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	if known(err) {
		return err
	}
	var server mongo.ServerError
	var concern mongo.WriteConcernError
	var selection topology.ServerSelectionError
	switch {
	case errors.As(err, &server) && server.HasErrorCode(codeOutOfDiskSpace):
		return fmt.Errorf("%w: %v", ledger.ErrFull, err)
	case mongo.IsNetworkError(err), mongo.IsTimeout(err), errors.As(err, &selection), errors.As(err, &concern),
		errors.Is(err, mongo.ErrClientDisconnected), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.As(err, &server) && slices.ContainsFunc(passing, server.HasErrorCode),
		server != nil && (server.HasErrorLabel("RetryableWriteError") || server.HasErrorLabel("RetryableError")),
		hasWriteConcernError(err):
		// Not wrapped: a deadline of ours is not the caller's.
		return fmt.Errorf("%w: %v", ledger.ErrUnavailable, err)
	}
	return err
}

// isFinal reports whether a write was refused for a reason that does not pass, so
// that nothing of it can still arrive.
func isFinal(err error) bool {
	var many mongo.BulkWriteException
	return errors.As(err, &many) && many.WriteConcernError == nil && len(many.WriteErrors) > 0 &&
		!slices.ContainsFunc(passing, many.HasErrorCode)
}

// known reports whether the engine itself has said what an error means.
func known(err error) bool {
	return slices.ContainsFunc([]error{ledger.ErrUnavailable, ledger.ErrFull, ledger.ErrMoved, ledger.ErrBroken},
		func(target error) bool { return errors.Is(err, target) })
}

// hasWriteConcernError reports whether a write was made and is not known to be
// with a majority.
func hasWriteConcernError(err error) bool {
	var many mongo.BulkWriteException
	var one mongo.WriteException
	return errors.As(err, &many) && many.WriteConcernError != nil || errors.As(err, &one) && one.WriteConcernError != nil
}
