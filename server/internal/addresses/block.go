// Package addresses says which addresses of callers count as one.
package addresses

import "net/netip"

// Block returns the address by which all that count as one with ip are known: one of IPv4
// counts alone, and of IPv6 the first 64 bits count, since whoever has one address of such a
// network can have them all (RFC 4291, section 2.5.4). IPv4 in IPv6 is IPv4, and a zone
// counts for nothing. Of no address it returns none.
func Block(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if !ip.Is6() {
		return ip
	}
	network, _ := ip.Prefix(64) // which an IPv6 address always has
	return network.Addr()
}
