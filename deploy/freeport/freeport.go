// Package freeport gives tests ports of loopback that are theirs alone.
//
// The usual way, to listen on port 0 and to close again, gives a port that whoever asks
// the system next may be given: a listener of the same test, a connection of another
// process. The test then waits for ever for a listener that cannot be opened, or is
// answered where nobody should be. A port from here is held for the life of the test:
// the system gives it to nobody, whoever connects to it is refused, and a listener that
// names it can be opened, closed and opened again, if it is bound with SO_REUSEADDR, as
// Go's are and those of Envoy, nats-server and Consul.
//
// Only Linux holds a port so. Elsewhere it is closed again, the usual way.
package freeport

import (
	"net/netip"
	"testing"
)

// Hold returns an address of 127.0.0.1 at which nobody listens, until the test does.
func Hold(t testing.TB) netip.AddrPort {
	t.Helper()
	address, release, err := hold()
	if err != nil {
		t.Fatalf("no free port: %v", err)
	}
	t.Cleanup(release)
	return address
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
