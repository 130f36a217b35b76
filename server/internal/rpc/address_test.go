package rpc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// from returns the context of a call that a server gets from the address, with what proxies
// have said.
func from(t testing.TB, address string, forwarded ...string) context.Context {
	ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))})
	return metadata.NewIncomingContext(ctx, metadata.MD{"x-forwarded-for": forwarded})
}

// TestBehindProxy ensures that callers behind a proxy are told apart by what the
// proxy has seen, not by what they say, and that without a proxy nobody is
// believed.
func TestBehindProxy(t *testing.T) {
	for _, c := range []struct {
		proxy bool
		ctx   context.Context
		want  string
	}{
		{false, from(t, "10.0.0.9:1", "203.0.113.7"), "10.0.0.9"},
		{false, from(t, "10.0.0.9:1", "nonsense"), "10.0.0.9"},
		{false, from(t, "[2001:db8::9]:1"), "2001:db8::9"},
		{false, from(t, "[::ffff:10.0.0.9]:1"), "10.0.0.9"},
		{true, from(t, "10.0.0.9:1"), "10.0.0.9"},
		{true, from(t, "10.0.0.9:1", "203.0.113.7"), "203.0.113.7"},
		{true, from(t, "10.0.0.9:1", "127.0.0.1, 203.0.113.7"), "203.0.113.7"},
		{true, from(t, "10.0.0.9:1", "127.0.0.1,203.0.113.7"), "203.0.113.7"},
		{true, from(t, "10.0.0.9:1", "127.0.0.1", "2001:DB8::7"), "2001:db8::7"},
		{true, from(t, "10.0.0.9:1", "nonsense, 203.0.113.7:5678"), "203.0.113.7"},
		{true, from(t, "10.0.0.9:1", " \t203.0.113.7 "), "203.0.113.7"},
		{true, from(t, "10.0.0.9:1", "::ffff:203.0.113.7"), "203.0.113.7"},
		{true, from(t, "10.0.0.9:1", "[2001:db8::1]"), "2001:db8::1"},
		{true, from(t, "10.0.0.9:1", "203.0.113.9", "203.0.113.8, [2001:db8::1]:443"), "2001:db8::1"},
		{true, from(t, "10.0.0.9:1", "fe80::1%eth0"), "fe80::1"},
		{true, from(t, "10.0.0.9:1", "[fe80::1%eth0]:443"), "fe80::1"},
	} {
		config := &Config{BehindProxy: c.proxy}
		if _, err := config.originOf(c.ctx); err != nil {
			t.Errorf("want %s, got %v", c.want, err)
		}
		if got := config.addressOf(c.ctx); got != c.want {
			t.Errorf("behind a proxy %t: got %s, want %s", c.proxy, got, c.want)
		}
	}
	for _, text := range []string{
		"", " ", "203.0.113.7,", "nonsense", "unknown", "_hidden", "for=203.0.113.7", "203.0.113.7:", "203.0.113.7:x", "203.0.113.7:99999", "203.0.113",
		"[203.0.113.7]", "[2001:db8::1", "2001:db8::1]", "[]", "[2001:db8::1]:", "[2001:db8::1]443", "\"203.0.113.7\"", "203.0.113.7 203.0.113.8", "example.org",
	} {
		if got, err := (&Config{BehindProxy: true}).originOf(from(t, "10.0.0.9:1", "203.0.113.7", text)); !errors.Is(err, errForwarded) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, errForwarded)
		}
	}
}

// TestMisconfiguredProxy ensures that a call is not taken for the proxy's own where the proxy
// names no address, and that the log says so, once.
func TestMisconfiguredProxy(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.BehindProxy = true })
	divisions := func(address string) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", address)
		_, err := w.roster.ListDivisions(ctx, &xunchav1.ListDivisionsRequest{})
		return err
	}
	for range 100 {
		err := divisions("unknown")
		wantStatus(t, err, codes.Unavailable, "PROXY_MISCONFIGURED", "")
		if retryAfter(err) != proxyRetry {
			t.Fatalf("got a RetryInfo of %v, want %v", retryAfter(err), proxyRetry)
		}
	}
	if n := strings.Count(w.log.String(), badAddress); n != 1 {
		t.Errorf("the log says %d times that the proxy's addresses cannot be read, want once", n)
	}
	if err := divisions("[2001:db8::1]:443"); err != nil {
		t.Error(err)
	}
}
