package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"xuncha/ledger"
)

// ErrDenied means that the database does not let its user in, or do something. It
// goes together with ledger.ErrUnavailable: a privilege that was taken away, or a
// password that was changed, is an operator's doing and no fault of the call. So
// phones keep what they have and try again until it is put right. A write that was
// denied may have been let through before the driver tried it a second time.
var ErrDenied = errors.New("the database's user may not do this")

// The numbers and names of errors are those of MongoDB's error_codes.yml.
const codeOutOfDiskSpace = 14031

// denied are the codes of ErrDenied.
var denied = []int{
	11,  // UserNotFound
	13,  // Unauthorized
	18,  // AuthenticationFailed
	334, // MechanismUnavailable
	391, // ReauthenticationRequired
}

// final are the codes of what the database refuses however often it is asked, because
// the reason lies in the command, the document or the schema. Any other error may
// pass, also one that nobody knows yet: elections, timeouts, cursors that are gone,
// shards that move, memory that is short. There are hundreds of those, and each
// release brings more.
var final = map[int]string{
	// The command, or a value in it, is wrong.
	2:   "BadValue",
	4:   "NoSuchKey",
	9:   "FailedToParse",
	12:  "UnsupportedFormat",
	14:  "TypeMismatch",
	15:  "Overflow",
	16:  "InvalidLength",
	20:  "IllegalOperation",
	22:  "InvalidBSON",
	72:  "InvalidOptions",
	73:  "InvalidNamespace",
	168: "InvalidPipelineOperator",
	241: "ConversionFailure",
	357: "InvalidBSONType",
	378: "NonConformantBSON",

	// The server is of a kind or a version that does not know the command, or is told
	// not to do it.
	59:  "CommandNotFound",
	101: "OutdatedClient",
	115: "CommandNotSupported",
	148: "ReadConcernMajorityNotEnabled",
	224: "QueryFeatureNotAllowed",
	238: "NotImplemented",
	322: "APIVersionError",
	323: "APIStrictError",
	324: "APIDeprecationError",
	352: "UnsupportedOpQueryCommand",

	// The document cannot be stored, or not be changed so.
	10:    "CannotMutateObject",
	28:    "PathNotViable",
	40:    "ConflictingUpdateOperators",
	52:    "DollarPrefixedFieldName",
	53:    "InvalidIdField",
	54:    "NotSingleValueField",
	56:    "EmptyFieldName",
	57:    "DottedFieldName",
	61:    "ShardKeyNotFound",
	66:    "ImmutableField",
	116:   "DocTooLargeForCapped",
	121:   "DocumentValidationFailure",
	171:   "CannotIndexParallelArrays",
	201:   "CannotBuildIndexKeys",
	10334: "BSONObjectTooLarge",
	11000: "DuplicateKey",
	17280: "KeyTooLong",

	// A collection or an index is there, and is another one.
	48:  "NamespaceExists",
	67:  "CannotCreateIndex",
	68:  "IndexAlreadyExists",
	85:  "IndexOptionsConflict",
	86:  "IndexKeySpecsConflict",
	166: "CommandNotSupportedOnView",
	167: "OptionNotSupportedOnView",
	197: "InvalidIndexSpecificationOption",
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
	// What passes is not wrapped: a deadline of ours is not the caller's.
	codes, ofServer := codesOf(err)
	switch {
	case slices.Contains(codes, codeOutOfDiskSpace):
		return fmt.Errorf("%w: %v", ledger.ErrFull, err)
	case slices.ContainsFunc(codes, isDenied), isOfSignIn(err):
		return fmt.Errorf("%w: %w: %v", ledger.ErrUnavailable, ErrDenied, err)
	case ofServer && slices.ContainsFunc(codes, inFinal) && !hasWriteConcernError(err):
		return err
	case ofServer, isOfConnection(err):
		return fmt.Errorf("%w: %v", ledger.ErrUnavailable, err)
	}
	return err
}

// isFinal reports whether a write was refused for a reason that does not pass, so
// that nothing of it can still arrive.
//
// Where a connection breaks, the driver sends a write a second time, and tells only
// what came of that. All that is final is so for the first time too.
func isFinal(err error) bool {
	codes, _ := codesOf(err)
	return len(codes) > 0 && !hasWriteConcernError(err) &&
		!slices.ContainsFunc(codes, func(code int) bool { return !inFinal(code) })
}

func inFinal(code int) bool  { return final[code] != "" }
func isDenied(code int) bool { return slices.Contains(denied, code) }

// codesOf returns the codes that the database gave for an error, and whether it is the
// database's at all.
func codesOf(err error) (codes []int, ofServer bool) {
	var server mongo.ServerError
	var raw driver.Error // as connections have it where the driver does not wrap it
	switch {
	case errors.As(err, &server):
		return server.ErrorCodes(), true
	case errors.As(err, &raw):
		return []int{int(raw.Code)}, true
	}
	return nil, false
}

// isOfSignIn reports whether a new connection could not sign in, for a reason that the
// database gave no code for.
func isOfSignIn(err error) bool {
	var refused *auth.Error
	return errors.As(err, &refused) && !isOfConnection(refused.Inner())
}

// isOfConnection reports whether an error comes from the way to the database rather
// than from it: there is no server to ask, or the connection broke, or it took too long.
func isOfConnection(err error) bool {
	var (
		selection topology.ServerSelectionError
		pool      topology.PoolError
		cleared   driver.RetryablePoolError
		broken    topology.ConnectionError
		reply     driver.ResponseError
		network   net.Error
	)
	return errors.As(err, &selection) || errors.As(err, &pool) || errors.As(err, &cleared) || errors.As(err, &broken) ||
		errors.As(err, &reply) || errors.As(err, &network) || mongo.IsNetworkError(err) || mongo.IsTimeout(err) ||
		slices.ContainsFunc([]error{
			mongo.ErrClientDisconnected, topology.ErrServerClosed, context.DeadlineExceeded, context.Canceled,
		}, func(target error) bool { return errors.Is(err, target) })
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
