package freeport_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/freeport"
)

// A held port refuses, can be listened at, more than once, and refuses again.
func TestAHeldPortIsTheTests(t *testing.T) {
	address := freeport.Hold(t)
	for range 3 {
		refused(t, address)
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(address))
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		// The connections outlive the listener, as those of a drained one do.
		defer c.Close()
		defer accepted.Close()
		l.Close()
	}
	refused(t, address)
}

func refused(t *testing.T, address netip.AddrPort) {
	t.Helper()
	if c, err := net.Dial("tcp", address.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("%v, %v: nobody listens at %s", c, err, address)
	}
}

// Nobody else is given a held port, whether for a listener or for a connection that
// goes out: so many ask at once that a free one would be given several times over.
func TestAHeldPortIsGivenToNobody(t *testing.T) {
	held := map[uint16]bool{}
	for range 500 {
		port := freeport.Hold(t).Port()
		if held[port] {
			t.Fatalf("port %d is held twice", port)
		}
		held[port] = true
	}
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	for range 2000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		given := l.Addr().(*net.TCPAddr).Port
		l.Close()
		c, err := net.Dial("tcp", target.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := target.Accept()
		if err != nil {
			t.Fatal(err)
		}
		out := c.LocalAddr().(*net.TCPAddr).Port
		c.Close()
		accepted.Close()
		if held[uint16(given)] || held[uint16(out)] {
			t.Fatalf("a listener was given port %d, a connection %d", given, out)
		}
	}
}
