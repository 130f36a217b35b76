package rpc

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// addressOf is where the call comes from, without the port.
func (c *Config) addressOf(ctx context.Context) string {
	if c.BehindProxy {
		// The last one is what the proxy has seen; those before it are what the
		// caller says.
		if all := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for"); len(all) > 0 {
			seen := all[len(all)-1]
			if ip := net.ParseIP(strings.TrimSpace(seen[strings.LastIndex(seen, ",")+1:])); ip != nil {
				return ip.String()
			}
		}
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	if a, ok := p.Addr.(*net.TCPAddr); ok && a.Zone == "" {
		return a.IP.String() // for less than what follows
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host
}

// fromHere reports whether the call surely comes from this machine, for less than
// addressOf takes.
func (c *Config) fromHere(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok || c.BehindProxy {
		return false
	}
	a, ok := p.Addr.(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// isLocal reports whether the address is this machine's own. Its calls are not
// counted by address: whoever is there has other ways to keep the server busy.
func isLocal(address string) bool {
	ip := net.ParseIP(address)
	return ip != nil && ip.IsLoopback()
}
