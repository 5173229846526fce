package freeport

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// hold binds a socket that never listens. The system counts its port as used, so it is
// neither chosen for port 0 nor for a connection that goes out; but as long as both have
// SO_REUSEADDR and only one listens, another socket can be bound to it (socket(7)).
func hold() (address netip.AddrPort, release func(), err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return address, nil, fmt.Errorf("socket: %w", err)
	}
	release = func() { _ = unix.Close(fd) }
	if address, err = bind(fd); err != nil {
		release()
	}
	return address, release, err
}

// bind binds a socket to a port that the system chooses.
func bind(fd int) (address netip.AddrPort, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return address, fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback.As4()}); err != nil {
		return address, fmt.Errorf("bind: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return address, fmt.Errorf("getsockname: %w", err)
	}
	return netip.AddrPortFrom(loopback, uint16(name.(*unix.SockaddrInet4).Port)), nil //nolint:gosec // It is a port.
}
