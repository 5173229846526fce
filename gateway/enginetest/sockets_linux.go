package enginetest

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// socketTo is the one socket of this process that is connected to an address: the
// engine's.
func socketTo(t *testing.T, peer netip.AddrPort) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if peerOf(fd) == peer {
			return fd
		}
	}
	t.Fatalf("no socket is connected to %s", peer)
	return -1
}

// peerOf is where a descriptor is connected to; not valid if it is not a socket that
// is.
func peerOf(fd int) netip.AddrPort {
	address, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// keepaliveTo is how the engine's connection to an address is probed.
func keepaliveTo(t *testing.T, peer netip.AddrPort) keepalive {
	t.Helper()
	fd := socketTo(t, peer)
	get := func(level, option int) int {
		n, err := unix.GetsockoptInt(fd, level, option)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return keepalive{
		on:       get(unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0,
		idle:     get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE),
		interval: get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL),
		count:    get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT),
	}
}

// congestionTo is the congestion control of the engine's connection to an address.
func congestionTo(t *testing.T, peer netip.AddrPort) string {
	t.Helper()
	return congestionOf(t, socketTo(t, peer))
}

func congestionOf(t *testing.T, fd int) string {
	t.Helper()
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// congestions are the system's congestion control, and another one that every
// process may have.
func congestions(t *testing.T) (system, other string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	system = congestionOf(t, fd)
	allowed, err := os.ReadFile("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	for other := range strings.FieldsSeq(string(allowed)) {
		if other != system {
			return system, other
		}
	}
	t.Skipf("!!! NOT TESTED WHICH CONGESTION CONTROL CONNECTIONS HAVE: the kernel allows %s alone !!!", system)
	return "", ""
}
