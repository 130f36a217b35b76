package rpc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// forwardedFor is the field in which a proxy says from where a call comes. The field
// Forwarded of RFC 7239 is not read: a proxy that adds only the one of them passes on what
// its caller says in the other.
const forwardedFor = "x-forwarded-for"

// errForwarded means that what the proxy says of where a call comes from is no address.
var errForwarded = errors.New(forwardedFor + " does not end with an address")

// An origin is where a call comes from.
type origin struct {
	// ip is not valid where the connection is none of IP.
	ip netip.Addr
	// direct tells that a server behind a proxy was called past it, or that the proxy says
	// nothing.
	direct bool
	// local tells that the call surely comes from this machine.
	local bool
}

// originOf returns where the call comes from. The error is errForwarded.
func (c *Config) originOf(ctx context.Context) (o origin, err error) {
	if c.BehindProxy {
		if all := metadata.ValueFromIncomingContext(ctx, forwardedFor); len(all) > 0 {
			// The last one is what the proxy has seen; those before it are what the
			// caller says.
			seen := all[len(all)-1]
			o.ip, err = parseForwarded(seen[strings.LastIndexByte(seen, ',')+1:])
			return o, err
		}
		o.direct = true
	}
	if p, ok := peer.FromContext(ctx); ok {
		o.ip = ipOf(p.Addr)
	}
	// A proxy on this machine that says nothing must not make all its callers local.
	o.local = !c.BehindProxy && o.ip.IsLoopback()
	return o, nil
}

// parseForwarded reads an address as proxies write it, with a port or without, one of IPv6
// in brackets or not: 203.0.113.7, 203.0.113.7:5678, 2001:db8::1, [2001:db8::1],
// [2001:db8::1]:443. A zone is left out. The error is errForwarded.
func parseForwarded(text string) (netip.Addr, error) {
	text = strings.Trim(text, " \t")
	ip, err := netip.ParseAddr(text)
	if err != nil {
		var with netip.AddrPort
		with, err = netip.ParseAddrPort(text)
		ip = with.Addr()
	}
	if inner, ok := strings.CutPrefix(text, "["); err != nil && ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			ip, err = netip.ParseAddr(inner)
			if err == nil && ip.Is4() {
				err = errForwarded // brackets are for IPv6 alone
			}
		}
	}
	if err != nil {
		return netip.Addr{}, errForwarded
	}
	return ip.Unmap().WithZone(""), nil
}

// ipOf returns the address of a connection, or none where it is none of IP.
func ipOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok { // for less than what follows
		ip, _ := netip.AddrFromSlice(tcp.IP)
		return ip.Unmap()
	}
	with, _ := netip.ParseAddrPort(a.String())
	return with.Addr().Unmap().WithZone("")
}

// addressOf is where the call comes from, without the port, as those who fail to sign in
// are told apart by.
func (c *Config) addressOf(ctx context.Context) string {
	if o, err := c.originOf(ctx); err == nil && o.ip.IsValid() {
		return o.ip.String()
	}
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}
