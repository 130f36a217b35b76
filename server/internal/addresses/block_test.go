package addresses_test

import (
	"net/netip"
	"testing"

	"xuncha/server/internal/addresses"
)

func TestBlock(t *testing.T) {
	for ip, want := range map[string]string{
		"203.0.113.7":             "203.0.113.7",
		"::ffff:203.0.113.7":      "203.0.113.7",
		"2001:db8:1:2:3:4:5:6":    "2001:db8:1:2::",
		"2001:db8:1:2:ffff:4:5:6": "2001:db8:1:2::",
		"2001:db8:1:3::6":         "2001:db8:1:3::",
		"fe80::1:2:3:4%enp1s0":    "fe80::",
		"::1":                     "::",
	} {
		if got := addresses.Block(netip.MustParseAddr(ip)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: got %s, want %s", ip, got, want)
		}
	}
	if got := addresses.Block(netip.Addr{}); got.IsValid() {
		t.Errorf("no address: got %s", got)
	}
}
