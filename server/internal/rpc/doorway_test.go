package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

// numbered returns a different address for each number.
func numbered(n int) counted {
	return counted{from: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})}
}

func TestAddressLimiter(t *testing.T) {
	l := newAddressLimiter(2)
	now := time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC)
	for i := range 2 * burstSeconds {
		if err := l.take(now, numbered(0)); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	var limited *limitedError
	if err := l.take(now, numbered(0)); !errors.As(err, &limited) || limited.RetryAfter() != 500*time.Millisecond {
		t.Fatalf("after the burst: got %v, want to wait 500ms", err)
	}
	if err := l.take(now, numbered(1)); err != nil {
		t.Errorf("another address: %v", err)
	}
	if err := l.take(now.Add(limited.RetryAfter()), numbered(0)); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if err := l.take(now.Add(limited.RetryAfter()), numbered(0)); err == nil {
		t.Error("after the wait, twice: got no error")
	}
	if err := l.take(now.Add(-time.Hour), numbered(0)); !errors.As(err, &limited) || limited.RetryAfter() > 500*time.Millisecond {
		t.Errorf("after the clock was set back: got %v, want to wait at most 500ms", err)
	}
	if err := newAddressLimiter(0).take(now, numbered(0)); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}

// TestAddressesAreNotForgotten ensures that nobody gets calls back because calls come from
// many other addresses, and that those hinder nobody else.
func TestAddressesAreNotForgotten(t *testing.T) {
	l := newAddressLimiter(1)
	now := time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC)
	for range burstSeconds {
		if err := l.take(now, numbered(0)); err != nil {
			t.Fatal(err)
		}
	}
	const others = 100_000
	refused := 0
	for i := range others {
		if l.take(now, numbered(i+1)) != nil {
			refused++
		}
	}
	if refused > others/100 {
		t.Errorf("of %d addresses with a call each, %d were refused", others, refused)
	}
	if err := l.take(now, numbered(0)); !errors.Is(err, errLimited) {
		t.Errorf("after calls from %d other addresses: got %v, want %v", others, err, errLimited)
	}
}

// TestEveryCallCounts ensures that the limit of an address holds for each call, whatever its
// method: of a standard service, of none, or one that is refused for want of a token; and for
// each message of a stream that lasts.
func TestEveryCallCounts(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.CallsPerAddress, c.BehindProxy = 1, true })
	w.create(t, "root", accounts.Admin, "511600")
	reflect := reflectionv1.NewServerReflectionClient(w.conn)
	list := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
	for i, test := range []struct {
		name string
		want codes.Code // while there are calls left
		call func(ctx context.Context) error
	}{
		{"Health", codes.OK, func(ctx context.Context) error {
			_, err := healthv1.NewHealthClient(w.conn).Check(ctx, &healthv1.HealthCheckRequest{})
			return err
		}},
		{"Watch", codes.OK, func(ctx context.Context) error {
			stream, err := healthv1.NewHealthClient(w.conn).Watch(ctx, &healthv1.HealthCheckRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"Reflection", codes.OK, func(ctx context.Context) error {
			stream, err := reflect.ServerReflectionInfo(ctx)
			if err == nil && stream.Send(list) == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"UnknownMethod", codes.Unimplemented, func(ctx context.Context) error {
			return w.conn.Invoke(ctx, "/nothing.Here/Do", &xunchav1.GetMeRequest{}, &xunchav1.GetMeResponse{})
		}},
		{"UnknownMethodOfOurs", codes.Unimplemented, func(ctx context.Context) error {
			return w.conn.Invoke(ctx, "/xuncha.v1.RosterService/Do", &xunchav1.GetMeRequest{}, &xunchav1.GetMeResponse{})
		}},
		{"NoToken", codes.Unauthenticated, func(ctx context.Context) error {
			_, err := xunchav1.NewAccountServiceClient(w.conn).GetMe(ctx, &xunchav1.GetMeRequest{})
			return err
		}},
		{"NoRequest", codes.InvalidArgument, func(ctx context.Context) error {
			_, err := xunchav1.NewAccountServiceClient(w.conn).Login(ctx, &xunchav1.LoginRequest{})
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", fmt.Sprintf("2001:db8:0:%x::1", i))
			for n := range burstSeconds {
				if err := test.call(ctx); status.Code(err) != test.want {
					t.Fatalf("call %d: got %v, want %v", n, err, test.want)
				}
			}
			// Another address of the same 64 bits is the same caller's.
			ctx = metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", fmt.Sprintf("2001:db8:0:%x:ffff::2", i))
			for range 3 {
				err := test.call(ctx)
				wantStatus(t, err, codes.ResourceExhausted, "RATE_LIMITED", "")
				if retryAfter(err) != time.Second {
					t.Errorf("got a RetryInfo of %v, want 1s", retryAfter(err))
				}
			}
		})
	}
	t.Run("MessagesOfAStream", func(t *testing.T) {
		stream := must(reflect.ServerReflectionInfo(metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", "203.0.113.7")))(t)
		var err error
		answers := 0
		for ; err == nil; answers++ {
			if err = stream.Send(list); err == nil {
				_, err = stream.Recv()
			}
		}
		wantStatus(t, err, codes.ResourceExhausted, "RATE_LIMITED", "")
		if answers != burstSeconds+1 {
			t.Errorf("%d answers came, want %d", answers-1, burstSeconds)
		}
	})
}

// TestLocalCalls ensures that callers on the server's machine with a token are not counted by
// address, that all others are, and that neither those nor anybody else keeps a probe there
// from asking for the server's health.
func TestLocalCalls(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.CallsPerAccount = 0 })
	w.create(t, "root", accounts.Admin, "511600")
	c := &calls{
		config: &w.config, lines: NewCallLog(w.config.Log), newID: w.config.NewID, now: w.clock, perAddress: newAddressLimiter(1),
		validator: nil, questions: newQuestions(),
	}
	const me = xunchav1.AccountService_GetMe_FullMethodName
	call := func(ctx context.Context, method, token string) codes.Code {
		md, _ := metadata.FromIncomingContext(ctx)
		md = md.Copy()
		md.Set("authorization", "Bearer "+token)
		ctx, err := c.arrive(metadata.NewIncomingContext(ctx, md), &tap.Info{FullMethodName: method})
		if err == nil {
			_, err = c.unary(ctx, method, received, func(context.Context, func(any) error) (any, error) { return nil, nil })
		}
		return status.Code(err)
	}
	local := from(t, "127.0.0.1:1")
	good := w.signIn(t, "root")
	for _, kind := range []struct {
		name, method, token string
		while               codes.Code
		limited             bool
	}{
		{"an unknown method", "/nothing.Here/Do", "", codes.OK, true},
		{"reflection", reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName, "", codes.ResourceExhausted, true}, // for it shares their calls
		{"signing in", xunchav1.AccountService_Login_FullMethodName, "", codes.OK, true},
		{"health", healthv1.Health_Check_FullMethodName, "", codes.OK, true},
		{"a forged token", me, "forged", codes.ResourceExhausted, true},
		{"a good token", me, good, codes.OK, false},
	} {
		for range burstSeconds {
			if got := call(local, kind.method, kind.token); got != kind.while {
				t.Fatalf("%s: got %v, want %v", kind.name, got, kind.while)
			}
		}
		want := codes.ResourceExhausted
		if !kind.limited {
			want = codes.OK
		}
		if got := call(local, kind.method, kind.token); got != want {
			t.Errorf("%s, once more: got %v, want %v", kind.name, got, want)
		}
	}
	// From another machine all count alike.
	other := from(t, "203.0.113.7:1")
	for range burstSeconds {
		if got := call(other, me, good); got != codes.OK {
			t.Fatalf("another machine: got %v", got)
		}
	}
	for _, method := range []string{me, healthv1.Health_Check_FullMethodName, xunchav1.AccountService_Login_FullMethodName} {
		if got := call(other, method, good); got != codes.ResourceExhausted {
			t.Errorf("%s from another machine: got %v, want %v", method, got, codes.ResourceExhausted)
		}
	}
	// A proxy on this machine that does not say from where calls come makes nobody local.
	w.config.BehindProxy = true
	for range burstSeconds {
		call(from(t, "127.0.0.2:1"), me, good)
	}
	if got := call(from(t, "127.0.0.2:1"), me, good); got != codes.ResourceExhausted {
		t.Errorf("past a proxy: got %v, want %v", got, codes.ResourceExhausted)
	}
}
