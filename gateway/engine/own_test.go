package engine

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// Listening everywhere, each address of the machine leads back, at that port alone.
func TestOwnAddresses(t *testing.T) {
	listen := func(address string) *Listener {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		adopted, err := Adopt(l.(*net.TCPListener))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = adopted.Close() })
		return adopted
	}
	everywhere, exact := listen("0.0.0.0:0"), listen("127.0.0.1:0")
	o := OwnOf([]*Listener{everywhere, exact})
	port := func(l *Listener) uint16 { return l.AddrPort().Port() }
	at := func(ip string, port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), port) }
	for address, here := range map[netip.AddrPort]bool{
		at("127.0.0.1", port(exact)):        true,
		at("::ffff:127.0.0.1", port(exact)): true,
		at("127.0.0.2", port(exact)):        false,
		at("127.9.9.9", port(everywhere)):   true,
		at("192.0.2.1", port(everywhere)):   false,
		at("127.0.0.1", 1):                  false,
	} {
		if err := o.Check(address); errors.Is(err, ErrOwn) != here {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, ip := range localAddresses() {
		if err := o.Check(netip.AddrPortFrom(ip, port(everywhere))); !errors.Is(err, ErrOwn) {
			t.Errorf("%s is of this machine: %v", ip, err)
		}
	}
}
