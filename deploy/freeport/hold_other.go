//go:build !linux

package freeport

import (
	"net"
	"net/netip"
)

// hold finds a port that is free now.
func hold() (address netip.AddrPort, release func(), err error) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		return address, nil, err
	}
	address = l.Addr().(*net.TCPAddr).AddrPort()
	return address, func() {}, l.Close()
}
