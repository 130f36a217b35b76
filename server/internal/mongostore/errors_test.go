package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"xuncha/ledger"
)

// asErrors returns a code in each kind of error in which the driver gives it.
func asErrors(code int) map[string]error {
	write := mongo.WriteError{Code: code}
	return map[string]error{
		"command":    mongo.CommandError{Code: int32(code)},
		"write":      mongo.WriteException{WriteErrors: mongo.WriteErrors{write}},
		"bulk write": mongo.BulkWriteException{WriteErrors: []mongo.BulkWriteError{{WriteError: write}}},
		"connection": topology.ConnectionError{Wrapped: driver.Error{Code: int32(code)}},
	}
}

// Of the database's errors, those that are final stay as they are, and all others can be
// tried again. A write is over only where it was refused for good.
func TestCodes(t *testing.T) {
	passing := map[int]string{
		6: "HostUnreachable", 24: "LockTimeout", 43: "CursorNotFound", 46: "LockBusy", 82: "NoProgressMade", 91: "ShutdownInProgress",
		112: "WriteConflict", 175: "QueryPlanKilled", 189: "PrimarySteppedDown", 202: "NetworkInterfaceExceededTimeLimit",
		237: "CursorKilled", 262: "ExceededTimeLimit", 365: "TemporarilyUnavailable", 371: "UserWritesBlocked", 384: "ConnectionError",
		10107: "NotWritablePrimary", 13388: "StaleConfig", 0: "no code at all", 7654321: "a code that does not exist",
	}
	check := func(code int, name string, want error) {
		for kind, err := range asErrors(code) {
			err := fmt.Errorf("insert: %w", err)
			got := translate(t.Context(), err)
			if want == nil && got != err || want != nil && !errors.Is(got, want) {
				t.Errorf("%s (%d) as a %s error: got %v, want %v", name, code, kind, got, want)
			}
			if got, want := isFinal(err), want == nil; got != want {
				t.Errorf("%s (%d) as a %s error: final %v, want %v", name, code, kind, got, want)
			}
		}
	}
	for code, name := range passing {
		check(code, name, ledger.ErrUnavailable)
	}
	for _, code := range denied {
		check(code, "denied", ledger.ErrUnavailable)
		check(code, "denied", ErrDenied)
	}
	check(codeOutOfDiskSpace, "OutOfDiskSpace", ledger.ErrFull)
	for code, name := range final {
		check(code, name, nil)
	}
	// The codes that the database calls retriable itself, and those of a change of primary.
	for _, code := range []int{
		6, 7, 50, 64, 79, 89, 91, 100, 133, 134, 189, 262, 317, 358, 384, 402, 406, 407, 412, 9001, 10058, 10107, 11600, 11601, 11602, 13435, 13436,
	} {
		if name := final[code]; name != "" {
			t.Errorf("%s (%d) is taken for final", name, code)
		}
	}
}

// A write of which a majority is not known to have it is not over, whatever else was
// wrong; nor is one of several of which one may pass.
func TestIsFinal(t *testing.T) {
	invalid, moved := mongo.WriteError{Code: 121}, mongo.WriteError{Code: 189}
	late := &mongo.WriteConcernError{Code: 64}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"none":              {nil, false},
		"ours":              {ledger.ErrMoved, false},
		"network":           {mongo.CommandError{Labels: []string{"NetworkError"}}, false},
		"two":               {mongo.WriteException{WriteErrors: mongo.WriteErrors{invalid, invalid}}, true},
		"one of two passes": {mongo.WriteException{WriteErrors: mongo.WriteErrors{invalid, moved}}, false},
		"no majority":       {mongo.WriteException{WriteConcernError: late}, false},
		"and no majority":   {mongo.WriteException{WriteErrors: mongo.WriteErrors{invalid}, WriteConcernError: late}, false},
		"bulk, and no majority": {mongo.BulkWriteException{
			WriteErrors: []mongo.BulkWriteError{{WriteError: invalid}}, WriteConcernError: late}, false},
		"no majority, for a reason that is final elsewhere": {mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 2}}, false},
	} {
		if got := isFinal(c.err); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// What passes may be tried again; a caller's own end is its own, and what is wrong with
// what was read is no matter of waiting.
func TestTranslate(t *testing.T) {
	password := errors.New("unable to authenticate")
	for _, c := range []struct {
		name string
		err  error
		want error // nil where it stays as it is
	}{
		{"no majority", mongo.BulkWriteException{WriteConcernError: &mongo.WriteConcernError{Code: 64}}, ledger.ErrUnavailable},
		{"no majority, and a place that is taken", mongo.BulkWriteException{
			WriteErrors:       []mongo.BulkWriteError{{WriteError: mongo.WriteError{Code: 11000}}},
			WriteConcernError: &mongo.WriteConcernError{Code: 64},
		}, ledger.ErrUnavailable},
		{"network", mongo.CommandError{Labels: []string{"NetworkError"}}, ledger.ErrUnavailable},
		{"no server", topology.ServerSelectionError{Wrapped: errors.New("nobody answers")}, ledger.ErrUnavailable},
		{"a handshake that broke", topology.ConnectionError{Wrapped: errors.New("EOF")}, ledger.ErrUnavailable},
		{"a password that was changed", topology.ConnectionError{Wrapped: fmt.Errorf("auth error: %w", driver.Error{Code: 18})}, ErrDenied},
		{"no mechanism to sign in with", fmt.Errorf("handshake: %w", new(auth.Error)), ErrDenied},
		{"a pool that is closed", topology.ErrPoolClosed, ledger.ErrUnavailable},
		{"a pool that is full", topology.WaitQueueTimeoutError{Wrapped: context.DeadlineExceeded}, ledger.ErrUnavailable},
		{"a reply that cannot be read", driver.NewCommandResponseError("reply", password), ledger.ErrUnavailable},
		{"dialling", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, ledger.ErrUnavailable},
		{"disconnected", mongo.ErrClientDisconnected, ledger.ErrUnavailable},
		{"our own deadline", fmt.Errorf("find: %w", context.DeadlineExceeded), ledger.ErrUnavailable},
		{"ours", fmt.Errorf("x: %w", ledger.ErrMoved), ledger.ErrMoved},
		{"nothing there", mongo.ErrNoDocuments, nil},
		{"of the domain", ledger.ErrNotFound, nil},
		{"a document of another shape", bson.Unmarshal([]byte{5, 0, 0, 0, 1}, new(writerDoc)), nil},
		{"what cannot be written", mongo.MarshalError{Err: errors.New("x")}, nil},
	} {
		got := translate(t.Context(), c.err)
		if c.want == nil {
			if got.Error() != c.err.Error() || known(got) {
				t.Errorf("%s: got %v, want it as it is", c.name, got)
			}
		} else if !errors.Is(got, c.want) || errors.Is(got, context.DeadlineExceeded) || !strings.Contains(got.Error(), c.err.Error()) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		} else if c.want == ErrDenied && !errors.Is(got, ledger.ErrUnavailable) {
			t.Errorf("%s: got %v, which nobody tries again", c.name, got)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := translate(ended, mongo.CommandError{Code: 11601}); got != context.Canceled {
		t.Errorf("a caller that left: got %v", got)
	}
	if translate(t.Context(), nil) != nil {
		t.Error("nothing became an error")
	}
}
