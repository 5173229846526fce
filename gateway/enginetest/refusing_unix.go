//go:build unix

package enginetest

import (
	"net/netip"
	"syscall"
)

// bindWithoutListening binds a port of loopback; connecting to it is refused.
func bindWithoutListening() (netip.AddrPort, func(), error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	loopback := [4]byte{127, 0, 0, 1}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: loopback}); err != nil {
		_ = syscall.Close(fd)
		return netip.AddrPort{}, nil, err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		_ = syscall.Close(fd)
		return netip.AddrPort{}, nil, err
	}
	port := name.(*syscall.SockaddrInet4).Port
	return netip.AddrPortFrom(netip.AddrFrom4(loopback), uint16(port)), func() { _ = syscall.Close(fd) }, nil
}
