package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// accessLifetime is how long the server's access tokens are valid.
const accessLifetime = 15 * time.Minute

// A server does what the tests need of Xuncha's, and fails to order.
type server struct {
	xunchav1.UnimplementedAccountServiceServer
	xunchav1.UnimplementedInspectionServiceServer
	xunchav1.UnimplementedPhotoServiceServer
	address string

	mu    sync.Mutex
	now   time.Time
	conns map[net.Conn]bool
	count map[string]int
	// before, if it is not nil, may refuse a call before anything is done.
	before func(method string) error
	// lost are the methods whose answers get lost, with how often that is.
	lost map[string]int

	valid            map[string]time.Time // until when access tokens are valid
	current, family  string               // refresh token of the one device, and what it began with
	spent, spentWith string
	shown            []string // the device tokens of sign-ins
	refreshes        []*xunchav1.RefreshTokenRequest
	reports          []*xunchav1.SubmitCheckInRequest
	declared         []byte // the SHA-256 of the one photo
	received         []byte
	stored           bool
	refused          *xunchav1.PhotoRefusal
	took             int // bytes of photos in all
	cutAfter         int // bytes of photos after which a connection breaks off; 0 is never
}

// method returns the last part of a method's name.
func method(full string) string { return full[strings.LastIndexByte(full, '/')+1:] }

func reasoned(code codes.Code, reason xunchav1.ErrorReason, after time.Duration) error {
	name := strings.TrimPrefix(reason.String(), "ERROR_REASON_")
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: "xuncha", Reason: name}}
	if after > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	st, err := status.New(code, name).WithDetails(details...)
	if err != nil {
		return err
	}
	return st.Err()
}

var errToken = reasoned(codes.Unauthenticated, xunchav1.ErrorReason_ERROR_REASON_TOKEN_INVALID, 0)

// newServer starts a server.
func newServer(t testing.TB, options ...grpc.ServerOption) *server {
	t.Helper()
	s := &server{
		now: time.Date(2020, 2, 1, 9, 30, 0, 0, time.UTC), conns: map[net.Conn]bool{}, count: map[string]int{},
		lost: map[string]int{}, valid: map[string]time.Time{},
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = inner.Addr().String()
	g := grpc.NewServer(append(options, grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream))...)
	xunchav1.RegisterAccountServiceServer(g, s)
	xunchav1.RegisterInspectionServiceServer(g, s)
	xunchav1.RegisterPhotoServiceServer(g, s)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(&listener{inner, s}) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// A listener knows the connections, so that they can be cut.
type listener struct {
	net.Listener
	server *server
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.server.mu.Lock()
		l.server.conns[c] = true
		l.server.mu.Unlock()
	}
	return c, err
}

// cut breaks all connections off. It needs s.mu.
func (s *server) cut() {
	for c := range s.conns {
		c.Close()
	}
	clear(s.conns)
}

// enter counts a call and asks who makes it.
func (s *server) enter(ctx context.Context, full string) error {
	name := method(full)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[name]++
	if s.before != nil {
		if err := s.before(name); err != nil {
			return err
		}
	}
	if name == "Login" || name == "RefreshToken" {
		return nil
	}
	tokens := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(tokens) != 1 || !s.now.Before(s.valid[strings.TrimPrefix(tokens[0], "Bearer ")]) {
		return errToken
	}
	return nil
}

func (s *server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.enter(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	answer, err := handler(ctx, req)
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := method(info.FullMethod); err == nil && s.lost[name] > 0 {
		s.lost[name]--
		s.cut()
	}
	return answer, err
}

func (s *server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := s.enter(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return handler(srv, stream)
}

// advance lets time pass at the server.
func (s *server) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// forget makes all access tokens invalid.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.valid)
}

func (s *server) counted(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[method]
}

// access returns a new access token. It needs s.mu.
func (s *server) access() (string, *timestamppb.Timestamp) {
	token, until := fmt.Sprint("access ", len(s.valid), s.count), s.now.Add(accessLifetime)
	s.valid[token] = until
	return token, timestamppb.New(until)
}

const (
	password = "correct horse battery staple"
	oneTime  = "abcd-efgh-ijkl-mnop-qrst"
)

func (s *server) Login(_ context.Context, req *xunchav1.LoginRequest) (*xunchav1.LoginResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = append(s.shown, req.DeviceToken)
	switch {
	case req.Password == oneTime && req.NewPassword == "":
		return nil, reasoned(codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_PASSWORD_CHANGE_REQUIRED, 0)
	case req.Password == oneTime && req.NewPassword == password:
	case req.Password != password:
		return nil, reasoned(codes.Unauthenticated, xunchav1.ErrorReason_ERROR_REASON_SIGN_IN_FAILED, 0)
	}
	s.family = fmt.Sprint("device ", s.count["Login"])
	s.current = s.family + "."
	access, until := s.access()
	return &xunchav1.LoginResponse{AccessToken: access, AccessExpireTime: until, RefreshToken: s.current, Account: &xunchav1.Account{Username: req.Username}}, nil
}

func (s *server) RefreshToken(_ context.Context, req *xunchav1.RefreshTokenRequest) (*xunchav1.RefreshTokenResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshes = append(s.refreshes, req)
	switch {
	case s.current == "" || !strings.HasPrefix(req.RefreshToken, s.family):
		return nil, errToken
	case req.RefreshToken == s.current:
		s.spent, s.spentWith = s.current, req.RetryId
		s.current += "+"
	case req.RefreshToken == s.spent && req.RetryId == s.spentWith && req.RetryId != "":
	default: // the device is signed out
		s.current = ""
		clear(s.valid)
		return nil, errToken
	}
	access, until := s.access()
	return &xunchav1.RefreshTokenResponse{AccessToken: access, AccessExpireTime: until, RefreshToken: s.current}, nil
}

func (s *server) Logout(context.Context, *xunchav1.LogoutRequest) (*xunchav1.LogoutResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = ""
	clear(s.valid)
	return &xunchav1.LogoutResponse{}, nil
}

func (s *server) GetMe(context.Context, *xunchav1.GetMeRequest) (*xunchav1.GetMeResponse, error) {
	return &xunchav1.GetMeResponse{}, nil
}

func (s *server) SubmitCheckIn(_ context.Context, req *xunchav1.SubmitCheckInRequest) (*xunchav1.SubmitCheckInResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	duplicate := slices.ContainsFunc(s.reports, func(r *xunchav1.SubmitCheckInRequest) bool { return proto.Equal(r.CheckIn, req.CheckIn) })
	s.reports = append(s.reports, req)
	return &xunchav1.SubmitCheckInResponse{Receipt: &xunchav1.Receipt{CheckInId: req.CheckIn.CheckInId, Sequence: 1, Duplicate: duplicate}}, nil
}

func (s *server) GetPhotoUpload(context.Context, *xunchav1.GetPhotoUploadRequest) (*xunchav1.GetPhotoUploadResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &xunchav1.GetPhotoUploadResponse{ReceivedBytes: int64(len(s.received)), Stored: s.stored, Refused: s.refused}, nil
}

func (s *server) UploadPhoto(stream grpc.ClientStreamingServer[xunchav1.UploadPhotoRequest, xunchav1.UploadPhotoResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first.GetSpec().Offset > int64(len(s.received)) {
		return reasoned(codes.OutOfRange, xunchav1.ErrorReason_ERROR_REASON_PHOTO_OFFSET, 0)
	}
	if s.stored {
		return stream.SendAndClose(&xunchav1.UploadPhotoResponse{ReceivedBytes: int64(len(s.received)), Stored: true})
	}
	s.received = s.received[:first.GetSpec().Offset]
	for here := 0; ; {
		s.mu.Unlock()
		part, err := stream.Recv()
		s.mu.Lock()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		here += len(part.GetData())
		s.took += len(part.GetData())
		s.received = append(s.received, part.GetData()...)
		if s.cutAfter > 0 && here >= s.cutAfter {
			s.cut()
			return nil
		}
	}
	if sum := sha256.Sum256(s.received); !bytes.Equal(sum[:], s.declared) {
		s.received = nil
		return reasoned(codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_PHOTO_HASH_MISMATCH, 0)
	}
	s.stored = true
	return stream.SendAndClose(&xunchav1.UploadPhotoResponse{ReceivedBytes: int64(len(s.received)), Stored: true})
}

// A phone is what a client is run on.
type phone struct {
	*Client
	t      testing.TB
	now    time.Time // by its clock
	kept   Session   // what was written last
	full   error     // why nothing can be written
	pauses []time.Duration
	ids    int
	mu     sync.Mutex
}

// newPhone returns a phone whose clock shows the server's time, signed in.
func newPhone(t testing.TB, s *server) *phone {
	t.Helper()
	p := &phone{t: t, now: s.now}
	p.start(s)
	if _, err := p.SignIn(t.Context(), SignIn{Username: "wang", Password: password}); err != nil {
		t.Fatal(err)
	}
	return p
}

// start starts the app, with what it kept before.
func (p *phone) start(s *server) {
	p.t.Helper()
	if p.Client != nil {
		p.Close()
	}
	c, err := New(Config{
		Address: s.address, Plaintext: true, Session: p.kept,
		Now: func() time.Time {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.now
		},
		NewID: func() string {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.ids++
			return fmt.Sprintf("00000000-0000-4000-8000-%012d", p.ids)
		},
		Keep: func(s Session) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.full == nil {
				p.kept = s
			}
			return p.full
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	c.session.sleep = func(ctx context.Context, d time.Duration) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pauses = append(p.pauses, d)
		return ctx.Err()
	}
	p.Client = c
	p.t.Cleanup(func() { c.Close() })
}

// me makes a call that needs a valid token.
func (p *phone) me() error {
	_, err := xunchav1.NewAccountServiceClient(p).GetMe(p.t.Context(), &xunchav1.GetMeRequest{})
	return err
}
