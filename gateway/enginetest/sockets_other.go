//go:build !linux

package enginetest

import (
	"net/netip"
	"testing"
)

// keepaliveTo skips the test: another's socket cannot be asked here.
func keepaliveTo(t *testing.T, _ netip.AddrPort) keepalive {
	t.Skip("!!! NOT TESTED WHETHER CONNECTIONS ARE PROBED: that needs Linux !!!")
	return keepalive{}
}

// congestions skips the test.
func congestions(t *testing.T) (system, other string) {
	t.Skip("!!! NOT TESTED WHICH CONGESTION CONTROL CONNECTIONS HAVE: that needs Linux !!!")
	return "", ""
}

func congestionTo(*testing.T, netip.AddrPort) string { return "" }
