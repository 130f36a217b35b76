package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

// calls is what happens around every call, whatever its method: it gets an id,
// its caller must be one who may make it, its messages are validated and must be
// about what the caller can see, a panic and an error become a status, and one
// line is logged.
type calls struct {
	config    *Config
	lines     *CallLog
	validator protovalidate.Validator
	newID     func() string
	now       func() time.Time
	stopping  <-chan struct{}

	perAccount *limiter
	perAddress *addressLimiter
	questions  *questions
	// methods are the names of all methods that there are.
	methods map[string]bool
}

// stream wraps a call with a stream in either direction.
func (c *calls) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	defer letGo(stream.Context())
	method := info.FullMethod
	if srv == nil {
		method = unknownMethod
	}
	return c.observe(stream.Context(), method, func(o *observed) error {
		ctx, row, err := c.admit(stream.Context(), o, method)
		if err != nil {
			return err
		}
		defer c.settle(ctx)
		checked := &checkedStream{ServerStream: stream, ctx: ctx, method: method, row: row, calls: c, asks: info.IsClientStream, answers: info.IsServerStream}
		call := func() error { return next(srv, checked) }
		if row.standard {
			o.on.streamOf().Weigh(standardWaits)
			if most := c.config.MaxStreamAge; !o.on.isKnown() {
				o.within(ctx, standardTime)
			} else if most > 0 {
				o.within(ctx, most)
			}
			call = func() error { return c.untilStopping(func() error { return next(srv, checked) }) }
			if row.open {
				return call()
			}
		}
		checked.watch = c.watch(ctx, &row, o.id)
		scopeOf(ctx).watch = checked.watch
		defer checked.watch.stop()
		if err := call(); err != nil {
			return cmp.Or(checked.gone(), err)
		}
		return nil
	})
}

// unknownMethod stands in the log for a method that does not exist, whose name is whatever
// the caller wrote.
const unknownMethod = "unknown"

// admit returns the call's scope, once the caller may call the method.
func (c *calls) admit(ctx context.Context, o *observed, method string) (context.Context, access, error) {
	row := accesses[method]
	if !strings.HasPrefix(method, "/xuncha.") {
		if row = c.config.standard(method); row.open {
			return ctx, row, nil
		}
	}
	if err := c.config.started(); err != nil {
		return ctx, access{}, err
	}
	s := &scope{ctx: ctx, config: c.config, rosterAt: c.config.Roster.Roster(), now: c.now(), questions: c.questions}
	if !row.open && c.config.Accounts.Any() {
		if err := c.identify(ctx, s, &row); err != nil {
			return ctx, row, err
		}
	}
	if !row.open {
		o.known = true
		o.on.know()
	}
	return context.WithValue(ctx, scopeKey{}, s), row, nil
}

// identify puts into the scope who calls, if whoever it is may call the method.
func (c *calls) identify(ctx context.Context, s *scope, row *access) error {
	token, err := bearer(ctx)
	if err != nil {
		return c.unidentified(ctx, err)
	}
	caller, err := c.config.Accounts.Verify(ctx, token)
	if err != nil {
		return c.unidentified(ctx, err)
	}
	if err := c.perAccount.take(c.now(), caller.Account.ID); err != nil {
		return err
	}
	if err := row.refuses(caller.Account); err != nil {
		return cmp.Or(c.config.Altered.Of(ledger.Accounts), err) // the role may be another one by now
	}
	s.caller, s.token = &caller, token
	return nil
}

// settle charges the caller's account for what the call has cost.
func (c *calls) settle(ctx context.Context) {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok && s.caller != nil {
		c.perAccount.charge(c.now(), s.caller.Account.ID, s.spent.Load())
	}
}

// untilStopping runs a stream of a standard service, which lasts as long as its
// caller likes, and ends it when the server stops.
func (c *calls) untilStopping(call func() error) error {
	done := make(chan error, 1)
	go func() { done <- guard(call) }()
	select {
	case err := <-done:
		return err
	case <-c.stopping:
		return errStopping // and the end of the stream ends the call
	}
}

// errStopping is grpc's own answer to a stream that is refused or cut because
// the server stops.
var errStopping = status.Error(codes.Unavailable, "the server is stopping")

// A checkedStream judges each message that it receives, and each that it sends of an answer
// of many, by what holds then, and sends none before what it shows is on record.
type checkedStream struct {
	grpc.ServerStream
	ctx    context.Context
	method string
	row    access
	calls  *calls
	watch  *watch // nil where whoever calls needs no token
	// asks and answers tell that the request and the answer are streams.
	asks, answers bool

	// asked is the first message that was received, which says what the call is about.
	asked any
}

// Context implements grpc.ServerStream.
func (s *checkedStream) Context() context.Context { return s.ctx }

// judge returns why the call may not go on.
func (s *checkedStream) judge() error {
	if s.watch == nil {
		return nil
	}
	err := cmp.Or(s.watch.failed(), s.watch.aged())
	var changed bool
	if err == nil {
		changed, err = s.calls.again(s.ctx, &s.row)
	}
	if m, ok := s.asked.(proto.Message); ok && err == nil && changed && s.row.inScope != nil {
		err = s.row.inScope(scopeOf(s.ctx), m)
	}
	if err != nil {
		err = s.watch.note(err)
	}
	return err
}

// gone returns why the call has ended, or would have been refused, whatever its method says
// of it: what it did without rights failed for want of them.
func (s *checkedStream) gone() error {
	s.watch.stop()
	if err := s.watch.failed(); err != nil {
		return err
	}
	if _, err := s.calls.again(s.ctx, &s.row); errors.Is(err, accounts.ErrToken) || errors.Is(err, errRole) {
		return err
	}
	return nil
}

func (s *checkedStream) RecvMsg(m any) error {
	read := receive
	if !s.asks {
		read = receiveOnly
	}
	err := read(s.ctx, m, s.calls.config.longest(&s.row))
	if s.watch != nil && s.watch.failed() != nil {
		return s.watch.failed()
	}
	if err != nil && err != io.EOF {
		return err
	}
	if refused := s.judge(); refused != nil {
		return refused
	}
	if err == io.EOF {
		if s.watch != nil && !s.answers {
			s.watch.stop() // for what is decided from here on is judged where it is decided
		}
		return err
	}
	if s.row.standard && s.asked != nil {
		if err := s.calls.another(s.ctx, s.method); err != nil {
			return err
		}
	}
	if err := s.calls.check(s.ctx, s.row, m); err != nil {
		return err
	}
	if s.asked == nil {
		s.asked = m
	}
	return nil
}

func (s *checkedStream) SendMsg(m any) error {
	if s.answers {
		if err := s.judge(); err != nil {
			return s.watch.fail(err) // for what works on the answer may not look whether it is sent
		}
	}
	if s.row.looks != nil && s.asked != nil {
		if err := s.calls.record(s.ctx, s.method, s.row, s.asked); err != nil {
			return err
		}
		s.row.looks = nil
	}
	if err := s.ServerStream.SendMsg(m); err != nil {
		return err
	}
	if s.row.standard {
		s.calls.answered(s.ctx, s.method, m)
	}
	return nil
}

// record puts on record what the call is about to show, where its method's row
// says so.
func (c *calls) record(ctx context.Context, method string, row access, m any) error {
	if row.looks == nil {
		return nil
	}
	msg, ok := m.(proto.Message)
	if !ok {
		return fmt.Errorf("a message of type %T", m)
	}
	looked := row.looks(msg)
	looked.Method = strings.TrimPrefix(method, "/")
	return c.config.Accounts.Accessed(ctx, account(ctx), looked)
}

// check returns what is wrong with a message in itself, or that it is about what
// the caller cannot see.
func (c *calls) check(ctx context.Context, row access, m any) error {
	msg, ok := m.(proto.Message)
	if !ok {
		return nil
	}
	if !plainlyValid(msg) {
		if err := tooLongLists(msg); err != nil {
			return err
		}
		if err := c.validator.Validate(msg); err != nil {
			return c.refuse(ctx, row, msg, err)
		}
	}
	shortenCodes(msg)
	if row.inScope == nil {
		return nil
	}
	s := scopeOf(ctx)
	err := row.inScope(s, msg)
	if r, ok := msg.(requested); ok && err != nil && r.GetRequestId() != "" && c.reread(ctx, s) {
		err = row.inScope(s, msg)
	}
	return c.complete(msg, err)
}

// reread lets a call be judged by what other servers have stored by now, and reports
// whether it could. A request is repeated on another server within a moment, which may not
// have heard yet of what it is about.
func (c *calls) reread(ctx context.Context, s *scope) bool {
	if c.config.Roster.Refresh(ctx) != nil || c.config.Accounts.Reread(ctx) != nil {
		return false
	}
	s.rosterAt = c.config.Roster.Roster()
	return true
}

// An observed call is one under way.
type observed struct {
	id    string // of the request
	known bool   // the caller is one whom the server knows
	on    *wired // how it came; nil where that was by no gate
}

// observe runs a call and logs it: method, code, duration and request id, and
// never who called or what was said.
func (c *calls) observe(ctx context.Context, method string, call func(o *observed) error) error {
	o := observed{on: wiredOf(ctx)}
	defer o.on.streamOf().Returned()
	start := c.now()
	o.id = c.requestID(ctx)
	err := guard(func() error { return call(&o) })
	code := codes.OK
	if err != nil {
		st := statusOf(ctx, err, o.id)
		code = st.Code()
		if hides(err) || code == codes.Internal {
			c.lines.failure(ctx, callLine{method: method, code: code.String(), id: o.id}, err)
		}
		err = st.Err()
	}
	known := o.known || code == codes.OK && strings.HasPrefix(method, "/xuncha.")
	c.lines.call(ctx, callLine{method, code.String(), c.now().Sub(start), o.id}, ownLine(known, code))
	return err
}

// hides reports whether the caller does not see what the error says, so that
// the log has to. That a caller gave up or had no more time says nothing.
func hides(err error) bool {
	m := meaningOf(err)
	if m.reason == xunchav1.ErrorReason_ERROR_REASON_IDENTITY_PROVIDER_UNAVAILABLE {
		return false // what is wrong with it is logged once a minute, and not for each of its callers
	}
	return m.private && m.code != codes.Canceled && m.code != codes.DeadlineExceeded && ofGRPC(err) == nil
}

// ofGRPC returns the status of an error that grpc itself made, such as that of a
// stream that was cut. It is nil where the error says anything else, or more.
func ofGRPC(err error) (st *status.Status) {
	switch err := err.(type) {
	case interface{ GRPCStatus() *status.Status }:
		return err.GRPCStatus()
	case interface{ Unwrap() []error }: // of errors.Join, also where it joins one alone
		for _, each := range err.Unwrap() {
			if st = ofGRPC(each); st == nil {
				return nil
			}
		}
	}
	return st
}

// statusOf returns what the caller sees of an error. A status that grpc itself
// made stays as it is.
func statusOf(ctx context.Context, err error, id string) *status.Status {
	if st := ofGRPC(err); st != nil {
		return st
	}
	return toStatus(ctx, err, id)
}

// guard turns a panic of the call into an error with the stack.
func guard(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return call()
}

// requestIDs matches the request ids that are taken over from callers. They go
// into the log and into answers, so they are no text in which more can be said.
var requestIDs = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestID returns the id that the caller gave in x-request-id, or a new one.
func (c *calls) requestID(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(v) == 1 && requestIDs.MatchString(v[0]) {
		return v[0]
	}
	return c.newID()
}

func itoa(n int) string { return strconv.Itoa(n) }
