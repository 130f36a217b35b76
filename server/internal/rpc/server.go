// Package rpc serves the API over gRPC: each method reads its request, calls
// the domain and writes the answer. What is the same for every call, from
// validation to the form of an error, is in the interceptors.
package rpc

import (
	"context"
	"log/slog"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	// Phones may send compressed requests, and then get compressed answers.
	_ "google.golang.org/grpc/encoding/gzip"

	"xuncha/inspections"
	"xuncha/inspections/photos"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/server/internal/wire"
	"xuncha/sites"
)

// Account is who calls while the server has no accounts: whoever can reach it,
// which are those on this machine. Records name it.
const Account = "local"

// streamWorkers is how many goroutines wait for calls. Writers wait for the
// disk together, so it is far more than there are processors.
const streamWorkers = 128

// connWindow is how many bytes a client may send of all calls on a connection before the
// server has read them.
const connWindow = 1 << 20

// Config is what a server works with. All fields down to
// MaxMessage are required.
type Config struct {
	Roster      *sites.Service
	Inspections *inspections.Service
	Photos      *photos.Service
	Accounts    *accounts.Service
	// Now returns the server's clock.
	Now func() time.Time
	// NewID returns a new UUID.
	NewID func() string
	// Zone is the time zone in which the deployment's days begin.
	Zone *time.Location
	Log  *slog.Logger
	// MaxMessage is the length in bytes of the longest request of methods that take
	// large ones, once unpacked (access.large).
	MaxMessage int
	// Lines writes the lines of calls to the log; nil for one whose last counts are not
	// written when the server ends.
	Lines *CallLog
	// Ready is closed once the services have read what is stored. Until then every
	// call of the API is refused with UNAVAILABLE. nil means that they have.
	Ready <-chan struct{}
	// Stopping is closed when the server begins to stop: streams that would last
	// as long as their callers like, such as that of a health check, end then. It
	// may be nil.
	Stopping <-chan struct{}
	// CallsPerAccount and CallsPerAddress are how many calls a second an account
	// and an address may make in the long run; 0 sets no limit. Those of 20
	// seconds can be saved up.
	CallsPerAccount, CallsPerAddress float64
	// MaxStreamAge is how long a call with a stream may last; 0 sets no limit. StreamTicks
	// says when to look after one while nothing comes or goes; nil for once a second.
	MaxStreamAge time.Duration
	StreamTicks  <-chan time.Time
	// Altered has the histories that do not verify, and Problems what else is wrong;
	// nil where none is known.
	Altered  *ledger.Alterations
	Problems *Problems
	// ConfirmClock says that the clock is right and returns the time by it.
	// CheckHistories checks every history from its first entry on and returns how many
	// there are and what does not verify; it calls progress from one goroutine. VerifyTime
	// is when that was last done beside the calls. What is nil is not offered.
	ConfirmClock   func() time.Time
	CheckHistories func(ctx context.Context, progress func(checked, total int64)) (histories int64, faults []ledger.Fault, err error)
	VerifyTime     func() time.Time
	// ReportRows is how many rows a report may have; 0 sets no limit.
	ReportRows int
	// BehindProxy tells that all calls come through a proxy, which adds to
	// x-forwarded-for from where.
	BehindProxy bool
	// TLS secures connections; nil for plaintext.
	TLS credentials.TransportCredentials
	// Reflection says who may ask what services and messages there are.
	Reflection Reflection
	// Gate bounds the connections; nil for one without limits.
	Gate *wire.Gate
}

// New returns a gRPC server with all services, and its health, which is SERVING until
// told otherwise. Before the server is ready it is NOT_SERVING: say so once it serves.
func New(c Config) (*grpc.Server, *health.Server, error) {
	validator, err := protovalidate.New()
	if err != nil {
		return nil, nil, err
	}
	audit, err := newAuditService(c)
	if err != nil {
		return nil, nil, err
	}
	photoService, err := newPhotoService(c)
	if err != nil {
		return nil, nil, err
	}
	perAccount, err := newLimiter("account", c.CallsPerAccount)
	if err != nil {
		return nil, nil, err
	}
	lines := c.Lines
	if lines == nil {
		lines = NewCallLog(c.Log)
	}
	calls := &calls{
		config: &c, perAccount: perAccount, perAddress: newAddressLimiter(c.CallsPerAddress), lines: lines,
		validator: validator, newID: c.NewID, now: c.Now, stopping: c.Stopping, questions: newQuestions(),
	}
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.StreamInterceptor(calls.stream),
		grpc.InTapHandle(calls.arrive),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return errUnimplemented }),
		// Windows that do not grow bound what has arrived and nobody has read yet, and
		// so what many callers at once take. A stream of 256 KiB a round trip is more
		// than a phone has to give. Strangers have wire.StrangerWindow.
		grpc.StaticStreamWindowSize(wire.KnownWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaders),
		// The gate reads ahead by itself, and has to know which frame grpc has come to.
		grpc.ReadBufferSize(0),
		grpc.WaitForHandlers(true),
		// Goroutines that live on keep the stack that a call needs, which new
		// ones have to grow anew for each call. Calls beyond get new ones.
		grpc.NumStreamWorkers(streamWorkers),
		// Phones come and go without a word: a connection that does not answer
		// is given up, and a phone may ask as often as it needs to keep a
		// mobile network's mapping alive.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 15 * time.Second, PermitWithoutStream: true}),
	}
	if c.Gate == nil {
		c.Gate = wire.New(wire.Config{})
	}
	security := insecure.NewCredentials()
	if c.TLS != nil {
		security = c.TLS
	}
	options = append(options, grpc.Creds(gated{security, c.Gate}))
	s := admitting{grpc.NewServer(options...), calls}
	xunchav1.RegisterRosterServiceServer(s, &rosterService{config: c, imports: newImportSlots(time.After)})
	xunchav1.RegisterInspectionServiceServer(s, &inspectionService{config: c})
	xunchav1.RegisterPhotoServiceServer(s, photoService)
	xunchav1.RegisterCoverageServiceServer(s, &coverageService{config: c})
	xunchav1.RegisterAuditServiceServer(s, audit)
	xunchav1.RegisterAccountServiceServer(s, &accountService{config: c})
	xunchav1.RegisterOperationServiceServer(s, newOperationService(c))
	if err := complete(s.GetServiceInfo(), accesses); err != nil {
		return nil, nil, err
	}
	h := health.NewServer()
	serves := healthv1.HealthCheckResponse_SERVING
	if c.started() != nil {
		serves = healthv1.HealthCheckResponse_NOT_SERVING
	}
	h.SetServingStatus("", serves)
	for name := range s.GetServiceInfo() {
		h.SetServingStatus(name, serves)
	}
	healthv1.RegisterHealthServer(s, h)
	if c.Reflection != ReflectionOff {
		registerReflection(s)
	}
	calls.methods = methodNames(s.GetServiceInfo())
	return s.Server, h, nil
}
