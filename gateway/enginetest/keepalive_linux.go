package enginetest

import (
	"net/netip"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// keepaliveTo is how the one socket of this process is probed that is connected to
// an address: the engine's.
func keepaliveTo(t *testing.T, peer netip.AddrPort) keepalive {
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
			return keepaliveOf(t, fd)
		}
	}
	t.Fatalf("no socket is connected to %s", peer)
	return keepalive{}
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

func keepaliveOf(t *testing.T, fd int) keepalive {
	t.Helper()
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
