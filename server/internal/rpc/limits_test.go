package rpc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
)

func TestLimiter(t *testing.T) {
	l, err := newLimiter("address", 2)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC)
	for i := range 2 * burstSeconds {
		if err := l.take(now, "a"); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	var limited *limitedError
	if err := l.take(now, "a"); !errors.As(err, &limited) || limited.RetryAfter() != 500*time.Millisecond {
		t.Fatalf("after the burst: got %v, want to wait 500ms", err)
	}
	if err := l.take(now, "b"); err != nil {
		t.Errorf("another address: %v", err)
	}
	if err := l.take(now.Add(limited.RetryAfter()), "a"); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if none, err := newLimiter("address", 0); err != nil || none.take(now, "a") != nil {
		t.Errorf("without a limit: %v", err)
	}
}

// TestLimits ensures that an account that calls without end is told to wait, and
// nobody else is.
func TestLimits(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.CallsPerAccount = 1 })
	w.areas(t)
	w.create(t, "busy", accounts.Head, "511600")
	w.create(t, "other", accounts.Head, "511600")
	busy, other := with(t.Context(), w.signIn(t, "busy")), with(t.Context(), w.signIn(t, "other"))
	people := xunchav1.NewAccountServiceClient(w.conn)
	for range burstSeconds {
		must(people.GetMe(busy, &xunchav1.GetMeRequest{}))(t)
	}
	_, err := people.GetMe(busy, &xunchav1.GetMeRequest{})
	wantStatus(t, err, codes.ResourceExhausted, "RATE_LIMITED", "")
	var wait time.Duration
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			wait = r.RetryDelay.AsDuration()
		}
	}
	if wait != time.Second {
		t.Errorf("got a RetryInfo of %v, want 1s", wait)
	}
	must(people.GetMe(other, &xunchav1.GetMeRequest{}))(t)
	w.advance(wait)
	must(people.GetMe(busy, &xunchav1.GetMeRequest{}))(t)
}

// TestBehindProxy ensures that callers behind a proxy are told apart by what the
// proxy has seen, not by what they say, and that without a proxy nobody is
// believed.
func TestBehindProxy(t *testing.T) {
	from := func(peerAddress string, forwarded ...string) context.Context {
		ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(peerAddress))})
		return metadata.NewIncomingContext(ctx, metadata.MD{"x-forwarded-for": forwarded})
	}
	for _, c := range []struct {
		proxy bool
		ctx   context.Context
		want  string
	}{
		{false, from("10.0.0.9:1", "203.0.113.7"), "10.0.0.9"},
		{true, from("10.0.0.9:1"), "10.0.0.9"},
		{true, from("10.0.0.9:1", "203.0.113.7"), "203.0.113.7"},
		{true, from("10.0.0.9:1", "127.0.0.1, 203.0.113.7"), "203.0.113.7"},
		{true, from("10.0.0.9:1", "127.0.0.1", "2001:DB8::7"), "2001:db8::7"},
		{true, from("10.0.0.9:1", "nonsense"), "10.0.0.9"},
	} {
		if got := (&Config{BehindProxy: c.proxy}).addressOf(c.ctx); got != c.want {
			t.Errorf("behind a proxy %t: got %s, want %s", c.proxy, got, c.want)
		}
	}
}
