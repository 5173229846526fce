package relay

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// Listening everywhere, each address of the machine leads back, at that port alone.
func TestOwnAddresses(t *testing.T) {
	listen := func(address string) *net.TCPListener {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l.(*net.TCPListener)
	}
	everywhere, exact := listen("0.0.0.0:0"), listen("127.0.0.1:0")
	o := ownOf(map[*net.TCPListener]struct{}{everywhere: {}, exact: {}})
	port := func(l *net.TCPListener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }
	at := func(ip string, port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), port) }
	for address, here := range map[netip.AddrPort]bool{
		at("127.0.0.1", port(exact)):        true,
		at("::ffff:127.0.0.1", port(exact)): true,
		at("127.0.0.2", port(exact)):        false,
		at("127.9.9.9", port(everywhere)):   true,
		at("192.0.2.1", port(everywhere)):   false,
		at("127.0.0.1", 1):                  false,
	} {
		if err := o.check(address); errors.Is(err, errOwn) != here {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, ip := range localAddresses() {
		if err := o.check(netip.AddrPortFrom(ip, port(everywhere))); !errors.Is(err, errOwn) {
			t.Errorf("%s is of this machine: %v", ip, err)
		}
	}
}
